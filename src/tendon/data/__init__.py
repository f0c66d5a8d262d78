"""Demonstrations: read foreign formats, convert them to shards, describe and count them.

``sources`` read, ``convert`` writes, ``dataset`` opens what was written, ``stats`` and ``check`` say what is in it.
Importing this package imports nothing heavy.
"""

NUMERICS = 1  # of statistics, and of what is decoded from shards
