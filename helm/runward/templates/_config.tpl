{{/*
Values read from the gateway's configuration: the document itself, ports, store, durations.
*/}}

{{/* The configuration as YAML, with the chart's defaults for missing settings. */}}
{{- define "runward.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $server := deepCopy ($config.server | default dict) -}}
{{- $_ := set $server "host" ($server.host | default "0.0.0.0") -}}
{{- $_ := set $server "ops_host" ($server.ops_host | default "0.0.0.0") -}}
{{- $_ := set $config "server" $server -}}
{{- $store := deepCopy ($config.store | default dict) -}}
{{- $_ := set $store "url" ($store.url | default "sqlite:////var/lib/runward/runward.db") -}}
{{- $_ := set $config "store" $store -}}
{{- toYaml $config -}}
{{- end }}

{{/* Settings that take effect only after a restart; a running gateway reloads all others. */}}
{{- define "runward.restartSettings" -}}
{{- $config := include "runward.config" . | fromYaml -}}
{{- $fixed := omit $config "providers" "workflows" "clients" "callbacks" "retries" "breaker" "polling" "content" -}}
{{- $_ := set $fixed "logs" (omit ($fixed.logs | default dict) "level") -}}
{{- $_ := set $fixed "store" (omit $fixed.store "retention") -}}
{{- toYaml $fixed -}}
{{- end }}

{{- define "runward.port" -}}
{{- $server := .Values.config.server | default dict -}}
{{- hasKey $server "port" | ternary $server.port 8080 -}}
{{- end }}

{{- define "runward.opsPort" -}}
{{- $server := .Values.config.server | default dict -}}
{{- hasKey $server "ops_port" | ternary $server.ops_port 9090 -}}
{{- end }}

{{- define "runward.storeUrl" -}}
{{- (include "runward.config" . | fromYaml).store.url -}}
{{- end }}

{{/* The kind of store: "server" (shared by all pods), "file" (of one pod) or "memory" (of one process). */}}
{{- define "runward.store" -}}
{{- $url := include "runward.storeUrl" . -}}
{{- if regexMatch "^rediss?([+]sentinel)?://" $url -}}server
{{- else if hasPrefix "sqlite:" $url -}}file
{{- else -}}memory
{{- end -}}
{{- end }}

{{/* The ports of the store's server, from its URL; those of Sentinel, and 6379 for the servers that it names. */}}
{{- define "runward.storePorts" -}}
{{- $url := include "runward.storeUrl" . -}}
{{- $sentinel := regexMatch "^rediss?[+]sentinel://" $url -}}
{{- $ports := list -}}
{{- range regexFind "://[^/]*" $url | trimPrefix "://" | splitList "," -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default ($sentinel | ternary "26379" "6379")) -}}
{{- end -}}
{{- if $sentinel }}{{ $ports = append $ports "6379" }}{{ end -}}
{{- uniq $ports | join "," -}}
{{- end }}

{{/* A duration such as 500ms, 10s, 2m, 1h, 7d or a bare number of seconds, as milliseconds; empty if it is invalid. */}}
{{- define "runward.milliseconds" -}}
{{- $text := . | toString -}}
{{- if regexMatch "^[0-9]{1,15}(\\.[0-9]{1,9})?(ms|s|m|h|d)?$" $text -}}
{{- $unit := regexFind "[a-z]+$" $text | default "s" -}}
{{- $factor := get (dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0 "d" 86400000.0) $unit -}}
{{- mulf (trimSuffix $unit $text | float64) $factor | ceil | int64 -}}
{{- end -}}
{{- end }}

{{/* server.drain or server.grace as written, or the gateway's default. */}}
{{- define "runward.drain" -}}
{{- $server := .Values.config.server | default dict -}}
{{- hasKey $server "drain" | ternary $server.drain "10s" -}}
{{- end }}

{{- define "runward.grace" -}}
{{- $server := .Values.config.server | default dict -}}
{{- hasKey $server "grace" | ternary $server.grace "60s" -}}
{{- end }}

{{/* Seconds of a graceful shutdown: drain + grace + 5, rounded up. */}}
{{- define "runward.stopSeconds" -}}
{{- $drain := include "runward.milliseconds" (include "runward.drain" .) | int64 -}}
{{- $grace := include "runward.milliseconds" (include "runward.grace" .) | int64 -}}
{{- divf (addf $drain $grace 5000) 1000 | ceil | int64 -}}
{{- end }}

{{/* Whether the number of pods is a scaler's; then the Deployment has none. Empty for false. */}}
{{- define "runward.scaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}true{{ end -}}
{{- end }}

{{/* The largest number of pods. */}}
{{- define "runward.mostPods" -}}
{{- if .Values.autoscaling.enabled -}}{{ .Values.autoscaling.maxReplicas }}
{{- else if .Values.keda.enabled -}}{{ .Values.keda.maxReplicas }}
{{- else -}}{{ .Values.replicas }}
{{- end -}}
{{- end }}

{{/* The least number of pods. */}}
{{- define "runward.leastPods" -}}
{{- if .Values.autoscaling.enabled -}}{{ .Values.autoscaling.minReplicas }}
{{- else if .Values.keda.enabled -}}{{ .Values.keda.minReplicas }}
{{- else -}}{{ .Values.replicas }}
{{- end -}}
{{- end }}
