"""Training: one loop for every policy. ``loop.training.train`` is the way in; ``state``, ``watch``, ``distributed`` serve it."""
