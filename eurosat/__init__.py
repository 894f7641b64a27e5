"""EuroSAT land-use classification with PyTorch Lightning, from raw data to a monitored service."""

__version__ = "0.1.0"
