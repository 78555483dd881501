"""Analyses of the paper beside the benchmarks: Fisher alignment and the NLL check."""
