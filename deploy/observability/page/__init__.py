"""The built-in status page: what a person sees of a run without Grafana."""
