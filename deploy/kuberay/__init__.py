"""Kubernetes: a kustomize base, and manifests made from a run's configuration."""
