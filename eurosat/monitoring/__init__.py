"""Monitoring: the prediction log, the reference of a model, drift, alert rules and dashboards."""
