"""Mixed decoding: naive and expert requests alternate on one sequence. Knows no facts."""
