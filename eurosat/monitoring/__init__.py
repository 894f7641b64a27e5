"""Monitoring: the prediction log, the reference of a model, drift and alerts."""
