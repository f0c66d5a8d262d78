"""``python -m tests.benchmarks bench|parity|faults [row ...]``."""

from tests.benchmarks.rows import main

raise SystemExit(main())
