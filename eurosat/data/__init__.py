"""From a data source to batches: sources, store, splits, transforms, datamodule."""
