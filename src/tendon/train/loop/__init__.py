"""From a batch to an update: data feeds, engine, optimiser, schedule, validation, and the loop itself."""
