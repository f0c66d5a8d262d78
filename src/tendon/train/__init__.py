"""Training: the version counts updates, schedules, averages, adapters and all else between a batch and the weights."""

NUMERICS = 1
