"""What every role shares: configuration, records, prompts, verdicts, the ledger, metrics.

Nothing here imports Ray, vLLM, DeepSpeed or torch at import time.
"""
