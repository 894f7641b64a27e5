"""The model registry: which version of a model is in which stage, and where its file is."""
