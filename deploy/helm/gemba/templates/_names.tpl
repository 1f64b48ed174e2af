{{/* The release's name, with the chart's unless it is in it already; room is left for what is appended. */}}
{{- define "gemba.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "gemba.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gemba.labels" -}}
{{ include "gemba.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The cluster port of a node, by its number in the StatefulSet, which counts from 0. */}}
{{- define "gemba.address" -}}
{{ include "gemba.name" .root }}-{{ .ordinal }}.{{ include "gemba.name" .root }}-cluster.{{ .root.Release.Namespace }}.svc:7600
{{- end }}

{{/* Whom a new node asks: the first three, so that growing beyond them changes nothing for those that run. */}}
{{- define "gemba.join" -}}
{{- $root := . -}}
{{- range $ordinal := until (int (min 3 .Values.nodes)) }}{{ if $ordinal }},{{ end }}{{ include "gemba.address" (dict "root" $root "ordinal" $ordinal) }}{{ end }}
{{- end }}
