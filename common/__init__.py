"""Shared by every role: configuration, records, prompts, verification, the ledger, metrics.

At import time, only ``weight_sync`` needs torch, so the command line starts fast.
"""
