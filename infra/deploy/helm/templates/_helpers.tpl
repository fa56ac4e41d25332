{{/* Begins every name: the release's, with the chart's where it lacks it. */}}
{{- define "stepstream.name" -}}
{{- $name := ternary .Release.Name (printf "%s-stepstream" .Release.Name) (contains "stepstream" .Release.Name) -}}
{{- trunc 50 $name | trimSuffix "-" -}}
{{- end -}}

{{/* {root, service} → the labels by which pods are found. */}}
{{- define "stepstream.selector" -}}
app.kubernetes.io/name: stepstream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{- define "stepstream.labels" -}}
{{ include "stepstream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* A table of settings → environment variables. YAML's numbers are floats here: whole ones are written whole. */}}
{{- define "stepstream.variables" -}}
{{- $out := dict -}}
{{- range $name, $value := . -}}
{{- $entries := ternary $value (dict "" $value) (kindIs "map" $value) -}}
{{- range $key, $text := $entries -}}
{{- if and (kindIs "float64" $text) (eq (floor $text) $text) -}}{{- $text = printf "%.0f" $text -}}{{- end -}}
{{- $variable := printf "STEPSTREAM_%s_%s" $name $key | trimSuffix "_" | upper | replace "." "_" -}}
{{- $_ := set $out $variable (toString $text) -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/* The settings of all services. What the chart itself decides cannot be overwritten. */}}
{{- define "stepstream.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if .Values.strimzi.enabled -}}
{{- $scram := eq .Values.strimzi.authentication "scram-sha-512" -}}
{{- $login := ternary (dict "security.protocol" "SASL_SSL" "sasl.mechanism" "SCRAM-SHA-512") (dict "security.protocol" "SSL" "ssl.certificate.location" "/etc/strimzi/user/user.crt" "ssl.key.location" "/etc/strimzi/user/user.key") $scram -}}
{{- $kafka := merge (dict "ssl.ca.location" "/etc/strimzi/ca/ca.crt") $login (get $settings "kafka" | default dict) -}}
{{- $_ := set $settings "kafka" $kafka -}}
{{- end -}}
{{- include "stepstream.variables" (merge (dict "metrics_port" 9464 "metrics_host" "0.0.0.0") $settings) -}}
{{- end -}}

{{/* What every pod has: the restricted Pod Security Standard, no token, no variables of Services. */}}
{{- define "stepstream.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.runAsUser }}
  runAsUser: {{ . | int64 }}
  runAsGroup: 0
  fsGroup: {{ . | int64 }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pod }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* {root, target}: image and rights of a container of ours. */}}
{{- define "stepstream.image" -}}
{{- $image := .root.Values.image -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default (printf "%s-%s" .root.Chart.AppVersion .target)) }}
imagePullPolicy: {{ $image.pullPolicy }}
{{ include "stepstream.restricted" . }}
{{- end -}}

{{- define "stepstream.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* {root, settings, user}: variables that no ConfigMap holds: a container's own settings, its login by Strimzi. */}}
{{- define "stepstream.env" -}}
{{- $root := .root -}}
{{- range $name, $value := fromYaml (include "stepstream.variables" .settings) }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- if and $root.Values.strimzi.enabled (eq $root.Values.strimzi.authentication "scram-sha-512") }}
{{- $user := printf "%s-%s" (include "stepstream.name" $root) .user }}
- {name: STEPSTREAM_KAFKA_SASL_USERNAME, value: {{ $user }}}
- name: STEPSTREAM_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $user }}, key: password}}
{{- end }}
{{- end -}}

{{/* {root, own, user} → the files of a container, as {volumes, mounts}. Without a user it needs no Kafka of Strimzi's. */}}
{{- define "stepstream.files" -}}
{{- $root := .root -}}
{{- $volumes := list (dict "name" "home" "emptyDir" dict) (dict "name" "tmp" "emptyDir" dict) -}}
{{- $mounts := list (dict "name" "home" "mountPath" "/var/lib/stepstream") (dict "name" "tmp" "mountPath" "/tmp") -}}
{{- range $i, $each := concat $root.Values.mounts .own.mounts -}}
{{- $name := printf "files-%d" $i -}}
{{- if $each.secret -}}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $each.secret "defaultMode" 288)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" $name "configMap" (dict "name" $each.configMap)) -}}
{{- end -}}
{{- $mounts = append $mounts (dict "name" $name "mountPath" $each.path "readOnly" true) -}}
{{- end -}}
{{- if and $root.Values.strimzi.enabled .user -}}
{{- $volumes = append $volumes (dict "name" "strimzi-ca" "secret" (dict "secretName" (printf "%s-cluster-ca-cert" $root.Values.strimzi.cluster))) -}}
{{- $mounts = append $mounts (dict "name" "strimzi-ca" "mountPath" "/etc/strimzi/ca" "readOnly" true) -}}
{{- if eq $root.Values.strimzi.authentication "tls" -}}
{{- $user := printf "%s-%s" (include "stepstream.name" $root) .user -}}
{{- $volumes = append $volumes (dict "name" "strimzi-user" "secret" (dict "secretName" $user "defaultMode" 288)) -}}
{{- $mounts = append $mounts (dict "name" "strimzi-user" "mountPath" "/etc/strimzi/user" "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "volumes" $volumes "mounts" $mounts) -}}
{{- end -}}

{{/* {root, service, …}: the pods of a service. */}}
{{- define "stepstream.service" -}}
{{- $own := index .root.Values .service -}}
{{- $page := eq .service "dashboard" -}}
{{- $fixed := ternary (dict "dashboard_host" "0.0.0.0" "dashboard_port" 8050) dict $page -}}
{{- $files := fromYaml (include "stepstream.files" (dict "root" .root "own" $own "user" .service)) -}}
metadata:
  labels: {{- include "stepstream.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include "stepstream.settings" .root | sha256sum }}
spec:
  {{- include "stepstream.pod" . | nindent 2 }}
  serviceAccountName: {{ include "stepstream.name" .root }}
  terminationGracePeriodSeconds: 30
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {matchLabels: {{ include "stepstream.selector" $ | fromYaml | toJson }}}
    {{- end }}
  volumes: {{- toYaml $files.volumes | nindent 4 }}
  containers:
    - name: {{ .service }}
      {{- include "stepstream.image" (dict "root" .root "target" "slim") | nindent 6 }}
      args: [{{ .service }}]
      envFrom:
        - configMapRef: {name: {{ include "stepstream.name" .root }}}
        - secretRef: {name: {{ $own.secret }}}
      {{- with include "stepstream.env" (dict "root" .root "settings" (merge $fixed $own.settings) "user" .service) }}
      env: {{- . | nindent 8 }}
      {{- end }}
      ports:
        - {name: metrics, containerPort: 9464}
        {{- if $page }}
        - {name: http, containerPort: 8050}
        {{- end }}
      # The page stays up and says what is away, so nobody takes it out of the Service for that.
      startupProbe: {httpGet: {{ ternary "{path: /healthz, port: http}" "{path: /livez, port: metrics}" $page }}, periodSeconds: 2, failureThreshold: 60}
      livenessProbe: {httpGet: {{ ternary "{path: /healthz, port: http}" "{path: /livez, port: metrics}" $page }}, periodSeconds: 20, timeoutSeconds: 5}
      readinessProbe: {httpGet: {{ ternary "{path: /healthz, port: http}" "{path: /readyz, port: metrics}" $page }}, periodSeconds: 10, timeoutSeconds: 5}
      resources: {{- toYaml $own.resources | nindent 8 }}
      volumeMounts: {{- toYaml $files.mounts | nindent 8 }}
{{- end -}}
