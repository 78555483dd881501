"""Runs generated code in Linux namespaces without network, files or privileges."""
