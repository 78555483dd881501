"""Prometheus: scrape configuration, rules, and the list of live runs."""
