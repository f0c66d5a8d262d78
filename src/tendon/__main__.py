"""``python -m tendon`` is the ``tendon`` command."""

from tendon.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
