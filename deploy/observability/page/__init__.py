"""The built-in status page of a run, for people without Grafana."""
