"""From a converted dataset to batches: order, windows, loader. No torch."""

from tendon.loader.loader import Loader

__all__ = ["Loader"]
