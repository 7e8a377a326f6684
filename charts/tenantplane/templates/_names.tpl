{{- define "tp.labels" -}}
app.kubernetes.io/name: tenantplane
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "tp.selector" -}}
app.kubernetes.io/name: tenantplane
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tp.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "tp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "tp.controlSecret" -}}
{{ .Values.controlPlane.existingSecret | default (printf "%s-controlplane" .Release.Name) }}
{{- end -}}
{{- define "tp.dataSecret" -}}
{{ .Values.dataPlane.existingSecret | default (printf "%s-dataplane" .Release.Name) }}
{{- end -}}

{{- define "tp.controlUrl" -}}
http://{{ .Release.Name }}-controlplane.{{ .Release.Namespace }}.svc
{{- end -}}
{{- define "tp.issuer" -}}
{{ .Values.controlPlane.issuer | default (include "tp.controlUrl" .) }}
{{- end -}}
{{- define "tp.endpoint" -}}
{{ .Values.dataPlane.endpoint | default (printf "http://%s-dataplane.%s.svc" .Release.Name .Release.Namespace) }}
{{- end -}}

{{- /* A value that a Secret has kept since the first install, else the fresh one. */ -}}
{{- define "tp.kept" -}}
{{- $known := (lookup "v1" "Secret" .root.Release.Namespace .secret) | default dict -}}
{{- $data := $known.data | default dict -}}
{{- if hasKey $data .key -}}{{ index $data .key | b64dec }}{{- else -}}{{ .fresh }}{{- end -}}
{{- end -}}

{{- /* Probes of a service: start-up waits for the schema, readiness does the service's real work. */ -}}
{{- define "tp.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end -}}
