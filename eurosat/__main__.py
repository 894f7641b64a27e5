"""``python -m eurosat`` is ``eurosat``."""

from eurosat.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
