"""The gate of a model change: a candidate against the model in use, on the same test images."""
