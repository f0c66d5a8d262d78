"""From a converted dataset to batches: order, windows, loader. No torch.

A policy's configuration imports ``loader.windows``, and with it this file, in every command that composes one: the loader
itself, a tenth of a second, is imported when somebody asks for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tendon.loader.choice import LoaderResources, SamplingOrder
    from tendon.loader.loader import Loader
    from tendon.loader.mixed import MixedLoader
    from tendon.loader.windows import Span, Windows

NUMERICS = 1  # of the batches of a seed

__all__ = ["Loader", "LoaderResources", "MixedLoader", "SamplingOrder", "Span", "Windows"]

_MODULES = {
    "Loader": "loader",
    "LoaderResources": "choice",
    "MixedLoader": "mixed",
    "SamplingOrder": "choice",
    "Span": "windows",
    "Windows": "windows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
