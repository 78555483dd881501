"""The evaluator: benchmarks and their graders, results, and which checkpoint is selected."""
