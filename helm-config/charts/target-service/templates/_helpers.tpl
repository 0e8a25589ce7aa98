{{- /* The service's name in telemetry too: job, service.name and service_name are this one. */}}
{{- define "target.name" -}}
{{ .Chart.Name }}
{{- end }}

{{- define "target.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "target.selector" -}}
app.kubernetes.io/name: {{ include "target.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "target.labels" -}}
{{ include "target.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "target.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "target.attributes" -}}
k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)
{{- range $key, $value := .Values.telemetry.resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
{{- end }}
