"""Grids of training runs: what to run, running it, and what came out."""
