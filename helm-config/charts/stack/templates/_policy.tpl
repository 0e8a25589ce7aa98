{{- /* One policy: name, pods it protects, and rules of {ports, from}. */}}
{{- define "stack.policy" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app.kubernetes.io/name: stack
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    app.kubernetes.io/managed-by: {{ .root.Release.Service }}
spec:
  podSelector:
    matchLabels:
      {{- toYaml .pods | nindent 6 }}
  policyTypes: [Ingress]
  {{- with .ingress }}
  ingress:
    {{- range . }}
    {{- if .from }}
    - from:
        {{- toYaml .from | nindent 8 }}
      ports:
        {{- range .ports }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
