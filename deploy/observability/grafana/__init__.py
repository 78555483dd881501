"""Grafana: dashboards as code, and provisioning files."""
