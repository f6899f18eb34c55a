{{/*
Validation of secrets: literal secrets in values are rejected without being printed, as Helm stores values in the release
history.
*/}}

{{- define "runward.refuse.secrets" -}}
{{- include "runward.refuse.secretFields" (dict "node" .Values.config "place" "config" "root" .) }}
{{- if regexMatch "rw_[0-9A-Za-z]{49}" (toJson .Values.config) }}
config holds a client's key: put the hash there that `runward keys new` prints.
{{- end }}
{{- if regexMatch "^[a-z]+://[^/@]*:[^/@]*@" (include "runward.storeUrl" .) }}
config.store.url holds a password: name it in config.store.password as {file: PATH}.
{{- end }}
{{- range $name, $provider := .Values.config.providers }}
{{- if and (kindIs "map" $provider) (regexMatch "^[a-z]+://[^/]*@" ($provider.base_url | default "")) }}
config.providers.{{ $name }}.base_url holds a user or password: the key belongs in api_key.
{{- end }}
{{- end }}
{{- end }}

{{/* Checks every field for secrets, at any depth. Keys of some sections are names chosen by the operator, not fields. */}}
{{- define "runward.refuse.secretFields" -}}
{{- $fields := list "api_key" "client_secret" "password" "proxy_auth" "secret" "secrets" "sentinel_password" "token" -}}
{{- $named := regexMatch "^config\\.(providers|workflows|clients|issuers)$|\\.(passthrough|match)$" .place -}}
{{- range $name, $child := .node }}
{{- $place := kindIs "string" $name | ternary (printf "%s.%v" $.place $name) (printf "%s[%v]" $.place $name) }}
{{- if or (and (has $name $fields) (not $named)) (regexMatch "^config\\.content\\.encrypt\\.keys?$" $place) }}
{{- $several := kindIs "slice" $child }}
{{- range $index, $one := $several | ternary $child (list $child) }}
{{- $at := $several | ternary (printf "%s[%d]" $place $index) $place }}
{{- include "runward.refuse.reference" (dict "value" $one "place" $at "root" $.root) }}
{{- end }}
{{- else if or (kindIs "map" $child) (kindIs "slice" $child) }}
{{- include "runward.refuse.secretFields" (dict "node" $child "place" $place "root" $.root) }}
{{- end }}
{{- end }}
{{- end }}

{{/* One secret: {file: PATH} of a mounted file, or {env: NAME} of a variable that the pod has. */}}
{{- define "runward.refuse.reference" -}}
{{- $file := kindIs "map" .value | ternary (get (kindIs "map" .value | ternary .value dict) "file") "" -}}
{{- $env := kindIs "map" .value | ternary (get (kindIs "map" .value | ternary .value dict) "env") "" -}}
{{- $names := list -}}
{{- range .root.Values.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- if kindIs "invalid" .value }}
{{- else if not (or (kindIs "map" .value) (eq (toString .value) "")) }}
{{ .place }} is a secret in the values: name it as {file: /run/secrets/runward/KEY} and put it into existingSecret.
{{- else if not (and (kindIs "map" .value) (eq (len .value) 1) (or $file $env)) }}
{{ .place }} must be {file: PATH} or {env: NAME}.
{{- else if and $file (not (hasPrefix "/" (toString $file))) }}
{{ .place }} must name a file by its whole path, such as /run/secrets/runward/KEY.
{{- else if and $file (hasPrefix "/run/secrets/runward/" (toString $file)) (not .root.Values.existingSecret) }}
{{ .place }} names a file of the Secret, but existingSecret is empty: set it to the Secret's name.
{{- else if and $env (not (regexMatch "^[A-Z_][A-Z0-9_]{0,63}$" (toString $env))) }}
{{ .place }} must name a variable in capitals, such as {env: PROMPTLAYER_API_KEY}.
{{- else if and $env (not (has $env $names)) (not .root.Values.extraEnvFrom) }}
{{ .place }} names the variable {{ $env }}, which extraEnv does not have: add it there with valueFrom.
{{- end }}
{{- end }}

{{/* Rejects environment variables that override settings of the gateway, and literal secrets in variables. */}}
{{- define "runward.refuse.environment" -}}
{{- $referenced := regexFindAll "\"env\":\"[A-Za-z0-9_]+\"" (toJson .Values.config) -1 -}}
{{- range .Values.extraEnv }}
{{- if regexMatch "(?i)^runward_([a-z]+__.*|config|workers|secrets_dir|server|logs|store|content|providers|workflows|clients|callbacks|retries|breaker|polling)$" .name }}
extraEnv has {{ .name }}, which is a setting of the gateway: set it in config (or workers).
{{- else if and (hasKey . "value") (or (regexMatch "(?i)(api_?key|token|password|passwd|secret|private_key)$" .name) (has (printf "\"env\":%q" .name) $referenced)) }}
extraEnv has the secret {{ .name }} in the values: use valueFrom.secretKeyRef.
{{- end }}
{{- end }}
{{- end }}
