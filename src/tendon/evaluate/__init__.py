"""The host side of rollouts: the version counts what a policy is shown, when it acts, and what a success is."""

NUMERICS = 1
