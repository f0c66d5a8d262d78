"""Training: one loop for every policy. ``loop.training.train`` is the way in; ``state``, ``watch``, ``distributed`` serve it."""

NUMERICS = 1  # of updates, schedules, averages, adapters and all else between a batch and the weights
