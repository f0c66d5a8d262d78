"""Policies in the files of other systems, in and out, each with a parity record."""
