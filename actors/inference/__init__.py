"""One vLLM engine in this process: its adapter, its KV budget, its sessions and seeds."""
