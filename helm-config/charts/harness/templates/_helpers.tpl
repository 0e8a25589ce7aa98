{{- define "harness.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "harness.labels" -}}
app.kubernetes.io/name: harness
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "harness.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "harness.claim" -}}
{{ .Values.persistence.existingClaim | default (printf "%s-runs" (include "harness.fullname" .)) }}
{{- end }}

{{- /* A pod that runs `harness`: root is the chart's context, args its arguments; with results it reaches the S3, with scratch
it keeps nothing. */}}
{{- define "harness.pod" }}
{{- $root := .root -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
# A run that is told to stop still writes its report.
terminationGracePeriodSeconds: 60
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: harness
    image: {{ include "harness.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    workingDir: /runs
    args:
      {{- range .args }}
      - {{ . | quote }}
      {{- end }}
    {{- if or $root.Values.env .results }}
    env:
      {{- if .results }}
      {{- include "harness.s3" $root | nindent 6 }}
      {{- end }}
      {{- with $root.Values.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
    # The last lines of the report are the pod's last word: `kubectl describe pod` shows them.
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      {{- toYaml $root.Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: runs, mountPath: /runs}
      - {name: tmp, mountPath: /tmp}
      - {name: scenario, mountPath: /etc/harness, readOnly: true}
volumes:
  - name: runs
    {{- if and $root.Values.persistence.enabled (not .scratch) }}
    persistentVolumeClaim: {claimName: {{ include "harness.claim" $root }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - name: tmp
    emptyDir: {}
  - name: scenario
    configMap:
      name: {{ include "harness.fullname" $root }}-{{ include "harness.digest" $root }}
      items:
        - {key: scenario.yaml, path: scenario.yaml}
        {{- range $name, $_ := $root.Values.slo }}
        - {key: slo.{{ $name }}, path: slo/{{ $name }}}
        {{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "harness.s3" -}}
{{- with .Values.distributed -}}
- {name: AWS_REGION, value: {{ .region | quote }}}
{{- with .endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- if .secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: accessKeyId}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: secretAccessKey}}
{{- end }}
{{- end }}
{{- end }}

{{- define "harness.runName" -}}
{{ .Values.distributed.run | default (printf "%s-%s-%d" .Release.Namespace (include "harness.fullname" .) .Release.Revision) }}
{{- end }}

{{- define "harness.place" -}}
{{ .Values.distributed.results | trimSuffix "/" }}/{{ include "harness.runName" . }}
{{- end }}

{{- define "harness.load" -}}
{{- $args := list "run" "/etc/harness/scenario.yaml" "--quiet" }}
{{- with .Values.expectVersion }}{{ $args = append $args (printf "--set=target.expectVersion=%s" .) }}{{ end }}
{{- $args | toJson }}
{{- end }}

{{- define "harness.shard" -}}
{{- $args := include "harness.load" . | fromJsonArray }}
{{- $args = append $args (printf "--shard=job/%d" (int .Values.distributed.shards)) }}
{{- $args = append $args (printf "--results=%s" (include "harness.place" .)) }}
{{- $args = append $args (printf "--start-within=%s" .Values.distributed.startWithin) }}
{{- concat $args .Values.args | toJson }}
{{- end }}

{{- /* It waits until two minutes before its own end, so that it can still say what is missing. */}}
{{- define "harness.gate" -}}
{{- $args := list "merge" (include "harness.place" .) "--quiet" (printf "--shards=%d" (int .Values.distributed.shards)) }}
{{- $args = append $args (printf "--wait=%ds" (max 30 (sub .Values.gate.activeDeadlineSeconds 120))) }}
{{- $args = append $args (printf "--out=/runs/%s" (include "harness.runName" .)) }}
{{- range $to, $url := .Values.publish }}
{{- with $url }}{{ $args = append $args (printf "--publish-%s=%s" $to .) }}{{ end }}
{{- end }}
{{- $args | toJson }}
{{- end }}

{{- define "harness.run" -}}
{{- $args := include "harness.load" . | fromJsonArray }}
{{- range $to, $url := .Values.publish }}
{{- with $url }}{{ $args = append $args (printf "--publish-%s=%s" $to .) }}{{ end }}
{{- end }}
{{- concat $args .Values.args | toJson }}
{{- end }}

{{- /* The inputs are part of the ConfigMap's name: a run reads what it was started with. */}}
{{- define "harness.digest" -}}
{{ printf "%s%s" .Values.scenario (.Values.slo | toJson) | sha256sum | trunc 10 }}
{{- end }}
