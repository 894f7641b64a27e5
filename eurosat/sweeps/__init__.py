"""Searches for good settings with W&B: checked before they start, run on every GPU."""
