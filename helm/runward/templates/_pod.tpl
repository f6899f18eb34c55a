{{/*
Pod of the gateway, for the Deployment and the StatefulSet, and the parts that it shares with the check Job.
*/}}

{{/* Fields of every pod. */}}
{{- define "runward.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "bool" .Values.hostUsers }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Image and security context of a container that runs the command `runward`. */}}
{{- define "runward.container" -}}
image: {{ include "runward.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{/* Environment, mounts and volumes that the gateway and the check Job need to read the configuration. */}}
{{- define "runward.env" -}}
{{- with .Values.extraEnv }}
env:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- end }}

{{- define "runward.mounts" -}}
- {name: config, mountPath: /etc/runward, readOnly: true}
{{- if .Values.existingSecret }}
- {name: secrets, mountPath: /run/secrets/runward, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{/* Folders are mounted instead of single files, so that changes reach a running pod. */}}
{{- define "runward.volumes" -}}
- name: config
  configMap:
    name: "{{ include "runward.fullname" .root }}{{ .suffix | default "" }}"
{{- with .root.Values.existingSecret }}
- name: secrets
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .root.Values.extraVolumes }}
{{ tpl (toYaml .) $.root }}
{{- end }}
{{- end }}

{{/* Containers from the values; those without a security context get the chart's. */}}
{{- define "runward.hardened" -}}
{{- range $container := .containers }}
{{- if not (hasKey $container "securityContext") }}
{{- $container = set (deepCopy $container) "securityContext" $.root.Values.securityContext }}
{{- end }}
{{ list $container | toYaml }}
{{- end }}
{{- end }}

{{/* The constraints of topologySpreadConstraints, each with a selector. */}}
{{- define "runward.spread" -}}
{{- $selector := dict "matchLabels" (include "runward.selector" (dict "root" . "component" "gateway") | fromYaml) -}}
{{- $soft := dict "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash") -}}
{{- $constraints := list (merge (dict "topologyKey" "topology.kubernetes.io/zone") $soft)
  (merge (dict "topologyKey" "kubernetes.io/hostname") $soft) -}}
{{- if kindIs "slice" .Values.topologySpreadConstraints -}}
{{- $constraints = .Values.topologySpreadConstraints -}}
{{- end -}}
{{- range $constraint := $constraints }}
{{ list (merge (deepCopy $constraint) (dict "labelSelector" $selector)) | toYaml }}
{{- end }}
{{- end }}

{{/* The template of the pod: metadata and spec. */}}
{{- define "runward.pod" -}}
metadata:
  labels:
    {{- include "runward.labels" (dict "root" . "component" "gateway" "extra" .Values.podLabels) | nindent 4 }}
  annotations:
    # The gateway reloads its configuration; the checksum replaces pods only for settings that need a restart.
    checksum/restart: {{ include "runward.restartSettings" . | sha256sum }}
    {{- with omit .Values.podAnnotations "checksum/restart" }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "runward.podCommon" . | nindent 2 }}
  serviceAccountName: {{ include "runward.serviceAccount" . | quote }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | default (include "runward.stopSeconds" .) }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "runward.spread" . | trim }}
  topologySpreadConstraints:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- include "runward.hardened" (dict "root" $ "containers" (tpl (toYaml .) $ | fromYamlArray)) | trim | nindent 4 }}
  {{- end }}
  containers:
    - name: runward
      {{- include "runward.container" . | nindent 6 }}
      args:
        - serve
        - --config=/etc/runward/gateway.yaml
        {{- if gt (int .Values.workers) 1 }}
        - --workers={{ .Values.workers }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ include "runward.port" . }}, protocol: TCP}
        - {name: ops, containerPort: {{ include "runward.opsPort" . }}, protocol: TCP}
      {{- include "runward.env" . | nindent 6 }}
      startupProbe:
        httpGet: {path: /healthz, port: ops}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: ops}
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      # No dependency on stores or providers: a restart would interrupt runs without curing the outage.
      livenessProbe:
        httpGet: {path: /healthz, port: ops}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "runward.mounts" . | nindent 8 }}
        {{- if eq (include "runward.store" .) "file" }}
        - {name: data, mountPath: /var/lib/runward}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- include "runward.hardened" (dict "root" $ "containers" (tpl (toYaml .) $ | fromYamlArray)) | trim | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "runward.volumes" (dict "root" .) | nindent 4 }}
    {{- if and (eq (include "runward.store" .) "file") .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | quote }}
    {{- end }}
{{- end }}
