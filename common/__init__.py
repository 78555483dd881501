"""Shared by every role: configuration, records, prompts, verification, the ledger, metrics.

Only ``weight_sync`` imports torch, and only its NCCL modules import vLLM. Every other module
imports without them, so the command line starts fast.
"""
