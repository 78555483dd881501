"""What commands check without a run: the machine's environment and custom data."""
