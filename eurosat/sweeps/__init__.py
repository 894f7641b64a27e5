"""Hyperparameter sweeps with W&B: checked before they start, and run on every GPU."""
