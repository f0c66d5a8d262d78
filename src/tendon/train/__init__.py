"""Training: the version counts updates, schedules, averages and everything else between a batch and the weights."""

NUMERICS = 1
