{{/* The endpoint of a ServiceMonitor or PodMonitor. The rules and dashboards expect the job `runward`. */}}
{{- define "runward.endpoint" -}}
- port: ops
  path: /metrics
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  relabelings:
    - {action: replace, targetLabel: job, replacement: runward}
    {{- with .relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
