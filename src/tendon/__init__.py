"""Tendon: from robot demonstrations to a policy whose success rate can be defended."""

__version__ = "0.1.0"
