"""Weights in the files of other systems: one module or package each, with its ``FORMAT`` (weights/foreign.py says what that is)."""
