"""Model files: writing them behind a parity gate, and running them, with or without torch."""
