"""Model files: writing them behind a gate, and running them, with or without torch."""
