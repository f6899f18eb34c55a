{{/*
Names and labels of every object. Names have at most 50 characters, so that suffixes of the chart and of Kubernetes fit into 63.
*/}}

{{- define "runward.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "runward.fullname" -}}
{{- $name := include "runward.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "runward.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "runward.fullname" .) -}}
{{- end }}

{{/* Labels that select pods of one component. They are immutable in a Deployment and a StatefulSet: never add one. */}}
{{- define "runward.selector" -}}
app.kubernetes.io/name: {{ include "runward.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of one component's objects; "extra" adds further labels and cannot replace the chart's. */}}
{{- define "runward.labels" -}}
{{- $own := include "runward.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- merge $own (.extra | default dict) .root.Values.commonLabels | toYaml -}}
{{- end }}

{{/* Metadata of an object: (dict "root" . "component" "gateway" "suffix" "-ops" "extra" LABELS "namespace" NAME). */}}
{{- define "runward.metadata" -}}
name: "{{ include "runward.fullname" .root }}{{ .suffix | default "" }}"
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- include "runward.labels" . | nindent 2 }}
{{- end }}

{{/* Image reference, by digest if one is set. */}}
{{- define "runward.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}
