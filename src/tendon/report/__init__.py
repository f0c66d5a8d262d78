"""The page of a run, and of what is not a whole run."""
