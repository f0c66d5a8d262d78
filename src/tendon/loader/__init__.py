"""From a converted dataset to batches: order, windows, loader. No torch."""

from tendon.loader.choice import LoaderResources, SamplingOrder
from tendon.loader.loader import Loader
from tendon.loader.mixed import MixedLoader
from tendon.loader.windows import Span, Windows

NUMERICS = 1  # of the batches of a seed

__all__ = ["Loader", "LoaderResources", "MixedLoader", "SamplingOrder", "Span", "Windows"]
