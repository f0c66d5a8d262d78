"""What every policy shares counts here, base and windows; a policy's own numbers count in its ``model.py``."""

NUMERICS = 1
