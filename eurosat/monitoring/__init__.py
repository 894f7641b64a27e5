"""Monitoring: what the service's inputs and answers look like, compared with validation images."""
