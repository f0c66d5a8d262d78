"""Bytes that outlive a process: ``open_store(uri)`` gives a Store over a folder or S3; ``trees`` commits folders."""

from tendon.storage.store import ObjectInfo, Store
from tendon.storage.uri import join, open_store

__all__ = ["ObjectInfo", "Store", "join", "open_store"]
