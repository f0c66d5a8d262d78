"""Hostile input: each test makes the file or the text that an attacker would send."""
