"""The model registry: versions and stages of models, and fetching a model file."""
