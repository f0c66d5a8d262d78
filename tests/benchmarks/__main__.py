"""``python -m tests.benchmarks bench|parity|faults|results [row ...]``."""

from tests.benchmarks.rows import main

raise SystemExit(main())
