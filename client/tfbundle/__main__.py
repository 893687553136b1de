"""`python -m tfbundle` is the `tfbundle` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
