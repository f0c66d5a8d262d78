"""A policy for tendon: an MLP that predicts a chunk of actions."""
