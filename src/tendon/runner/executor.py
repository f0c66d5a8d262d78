"""Kfp's executor without the rest of kfp: 0.1 s instead of 1.5 s. Imported in the processes of steps alone."""

from __future__ import annotations

import os

os.environ["_KFP_RUNTIME"] = "true"  # kfp looks for it when it is imported

from kfp.dsl import executor_main

__all__ = ["executor_main"]
