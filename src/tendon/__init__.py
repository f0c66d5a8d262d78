"""Tendon: from robot demonstrations to a policy whose success rate can be defended."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tendon.api import Comparison, LoadedPolicy, OpenDataset, compare, load_policy, open_dataset, run
    from tendon.errors import TendonError

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "LoadedPolicy",
    "OpenDataset",
    "TendonError",
    "__version__",
    "compare",
    "load_policy",
    "open_dataset",
    "run",
]


def __getattr__(name: str) -> Any:
    """The public names, loaded when they are used: ``import tendon`` alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'tendon' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("tendon.errors" if name == "TendonError" else "tendon.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
