{{/*
Validation of values: one line per conflict, with the name of the value and a remedy.
*/}}

{{- define "runward.refuse.server" -}}
{{- $config := include "runward.config" . | fromYaml -}}
{{- range $name := list "host" "ops_host" }}
{{- $host := get $config.server $name }}
{{- if not (has $host (list "0.0.0.0" "::")) }}
config.server.{{ $name }} is {{ $host | quote }}, where no other pod reaches it: leave it out, or set 0.0.0.0 or "::".
{{- end }}
{{- end }}
{{- $port := include "runward.port" . }}
{{- $ops := include "runward.opsPort" . }}
{{- range $name, $value := dict "port" $port "ops_port" $ops }}
{{- if eq $value "0" }}
config.server.{{ $name }} is 0, but a Service needs a fixed port: set one.
{{- end }}
{{- end }}
{{- if eq $port $ops }}
config.server.port and config.server.ops_port are both {{ $port }}: give each its own port.
{{- end }}
{{- $opsTls := $config.server.ops_tls | default dict }}
{{- if and (or $config.server.tls $opsTls.cert) (ne (get $opsTls "enabled" | toString) "false") }}
config.server.{{ if $config.server.tls }}tls{{ else }}ops_tls{{ end }} enables TLS on the operations port, but the probes use plain HTTP: set config.server.ops_tls.enabled to false.
{{- end }}
{{- if and $config.server.tls .Values.test.workflow }}
test.workflow is set, but its pod uses plain HTTP and config.server.tls enables TLS: leave test.workflow empty.
{{- end }}
{{- range $container := .Values.extraContainers }}
{{- if eq ($container.name | toString) "runward" }}
extraContainers has the name runward, which is the gateway's: choose another.
{{- end }}
{{- range $container.ports }}
{{- if has (.containerPort | toString) (list $port $ops) }}
extraContainers ({{ $container.name }}) uses port {{ .containerPort }}, which is the gateway's: choose another.
{{- end }}
{{- if has (.name | default "" | toString) (list "http" "ops") }}
extraContainers ({{ $container.name }}) names a port {{ .name }}, which is the gateway's: choose another name.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "runward.refuse.store" -}}
{{- $url := include "runward.storeUrl" . -}}
{{- $kind := include "runward.store" . -}}
{{- $path := trimPrefix "sqlite:///" $url -}}
{{- if and (eq $kind "file") (or (contains ".." $path) (not (hasPrefix "/var/lib/runward/" $path))) }}
config.store.url is {{ $url | quote }}, but only /var/lib/runward can be written: leave it out, or set sqlite:////var/lib/runward/runward.db.
{{- end }}
{{- if ne $kind "server" }}
{{- $several := list }}
{{- if gt (int .Values.replicas) 1 }}{{ $several = append $several (printf "replicas is %v" .Values.replicas) }}{{ end }}
{{- if gt (int .Values.workers) 1 }}{{ $several = append $several (printf "workers is %v" .Values.workers) }}{{ end }}
{{- if .Values.autoscaling.enabled }}{{ $several = append $several "autoscaling.enabled is true" }}{{ end }}
{{- if .Values.keda.enabled }}{{ $several = append $several "keda.enabled is true" }}{{ end }}
{{- range $several }}
{{ . }}, but config.store.url is {{ regexFind "^[a-z+]+://" $url }}, which one process alone can use: set config.store.url to redis:// or rediss://.
{{- end }}
{{- end }}
{{- end }}

{{- define "runward.refuse.scaling" -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
autoscaling.enabled and keda.enabled are both true: two scalers of one Deployment work against each other, so choose one.
{{- end }}
{{- range $name, $scaler := dict "autoscaling" .Values.autoscaling "keda" .Values.keda }}
{{- if and $scaler.enabled (gt (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{ $name }}.minReplicas is {{ $scaler.minReplicas }}, more than {{ $name }}.maxReplicas ({{ $scaler.maxReplicas }}): lower it.
{{- end }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (not .cpu) (not .inFlight) }}
autoscaling.enabled is true without a target: set autoscaling.cpu or autoscaling.inFlight.
{{- end }}
{{- if and .enabled .cpu (not ($.Values.resources.requests | default dict).cpu) }}
autoscaling.cpu is a share of resources.requests.cpu, which is not set: set it.
{{- end }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.triggers) (not .Values.keda.prometheus.serverAddress) }}
keda.enabled is true without a trigger: set keda.prometheus.serverAddress or keda.triggers.
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $most := include "runward.mostPods" $ | int }}
{{- $least := include "runward.leastPods" $ | int }}
{{- if and .enabled (gt $most 1) }}
{{- $min := not (kindIs "invalid" .minAvailable) }}
{{- $max := not (kindIs "invalid" .maxUnavailable) }}
{{- if and $min $max }}
podDisruptionBudget has minAvailable and maxUnavailable, which exclude each other: set one of them to null.
{{- else if not (or $min $max) }}
podDisruptionBudget has neither minAvailable nor maxUnavailable: set one of them.
{{- else if or (and $min (kindIs "string" .minAvailable | ternary (eq (toString .minAvailable) "100%") (ge (int .minAvailable) $least))) (and $max (has (toString .maxUnavailable) (list "0" "0%"))) }}
podDisruptionBudget.{{ $min | ternary (printf "minAvailable is %v" .minAvailable) (printf "maxUnavailable is %v" .maxUnavailable) }} with {{ $least }} pods, so no node could be drained: leave at least one pod free to go.
{{- end }}
{{- end }}
{{- end }}
{{- $update := .Values.rollingUpdate }}
{{- if and (has (toString $update.maxSurge) (list "0" "0%")) (has (toString $update.maxUnavailable) (list "0" "0%")) }}
rollingUpdate.maxSurge and rollingUpdate.maxUnavailable are both 0, so no update could begin: raise maxSurge.
{{- end }}
{{- end }}

{{- define "runward.refuse.stopping" -}}
{{- $valid := true -}}
{{- range $name, $value := dict "drain" (include "runward.drain" .) "grace" (include "runward.grace" .) }}
{{- if not (include "runward.milliseconds" $value) }}
{{- $valid = false }}
config.server.{{ $name }} is {{ $value | quote }}, which is no duration such as 500ms, 10s, 2m or 1h.
{{- end }}
{{- end }}
{{- $given := .Values.terminationGracePeriodSeconds }}
{{- if and $valid (not (kindIs "invalid" $given)) }}
{{- $needed := include "runward.stopSeconds" . | int64 }}
{{- if lt (int64 $given) $needed }}
terminationGracePeriodSeconds is {{ $given }}, but config.server.drain ({{ include "runward.drain" . }}), config.server.grace ({{ include "runward.grace" . }}) and 5 s need {{ $needed }}: leave it out, or raise it.
{{- end }}
{{- end }}
{{- end }}

{{- define "runward.refuse.network" -}}
{{- with .Values.service }}
{{- if and .nodePort (eq .type "ClusterIP") }}
service.nodePort is {{ .nodePort }}, but service.type is ClusterIP: set NodePort or LoadBalancer.
{{- end }}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") }}
service.externalTrafficPolicy is {{ .externalTrafficPolicy }}, but service.type is ClusterIP: set NodePort or LoadBalancer.
{{- end }}
{{- range $name := list "loadBalancerClass" "loadBalancerSourceRanges" }}
{{- if and (get $.Values.service $name) (ne $.Values.service.type "LoadBalancer") }}
service.{{ $name }} is set, but service.type is {{ $.Values.service.type }}: set LoadBalancer.
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.enabled is true without a host: set ingress.hosts.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.enabled is true without a Gateway: set httpRoute.parentRefs.
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
serviceMonitor.enabled and podMonitor.enabled are both true, so every pod would be counted twice: choose one.
{{- end }}
{{- with .Values.networkPolicy }}
{{- if .enabled }}
{{- $open := dict "ingress.enabled is true" $.Values.ingress.enabled "httpRoute.enabled is true" $.Values.httpRoute.enabled (printf "service.type is %s" $.Values.service.type) (ne $.Values.service.type "ClusterIP") }}
{{- $default := list (dict "podSelector" dict) }}
{{- range $why, $is := $open }}
{{- if and $is (eq (toJson $default) (toJson $.Values.networkPolicy.publicFrom)) }}
{{ $why }}, but networkPolicy.publicFrom lets in the pods of this namespace alone: name the peers that traffic comes from.
{{- end }}
{{- end }}
{{- range $name := list "serviceMonitor" "podMonitor" }}
{{- if and (get $.Values $name).enabled (not $.Values.networkPolicy.opsFrom) }}
{{ $name }}.enabled is true, but networkPolicy.opsFrom is empty, so Prometheus is kept out: name its pods there.
{{- end }}
{{- end }}
{{- if and (eq (include "runward.store" $) "server") (not .storeTo) }}
config.store.url names a server, but networkPolicy.storeTo is empty, so it is out of reach: name where it is.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "runward.refuse.pods" -}}
{{- range $place := list "commonLabels" "podLabels" }}
{{- range $name, $_ := get $.Values $place }}
{{- if has $name (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") }}
{{ $place }} has {{ $name }}, which the chart sets: choose another label.
{{- end }}
{{- end }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
serviceAccount.create is false without serviceAccount.name: name an existing ServiceAccount.
{{- end }}
{{- $taken := list "config" "secrets" "tmp" "data" }}
{{- range .Values.extraVolumes }}
{{- if has .name $taken }}
extraVolumes has the name {{ .name }}, which is taken: choose another.
{{- end }}
{{- end }}
{{- if and .Values.test.workflow (not .Values.test.keySecret.name) }}
test.workflow is {{ .Values.test.workflow | quote }} without a client's key: set test.keySecret.name.
{{- end }}
{{- end }}

{{- define "runward.refuse.objects" -}}
{{- range $index, $object := .Values.extraObjects }}
{{- $parsed := kindIs "string" $object | ternary (tpl (kindIs "string" $object | ternary $object "") $ | fromYaml) $object }}
{{- if and (eq ($parsed.kind | toString) "Secret") (or $parsed.data $parsed.stringData) }}
extraObjects[{{ $index }}] is a Secret with its content in the values: make it outside the release, and name it in existingSecret.
{{- end }}
{{- end }}
{{- end }}
