"""Benchmarks: each is a command that prints its figures and saves them in benchmarks/results."""
