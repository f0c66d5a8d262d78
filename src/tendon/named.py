"""Names in the place of addresses, wherever a verb takes an address. Called by cli.main before the verb.

The catalogue of what lies in stores is imported by the first argument that may be a name.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tendon.storage import join

Resolver = Callable[[str], str]


def resolve_names(arguments: Namespace) -> None:
    """Put the address in the place of every name that a verb was given."""
    verb, store_uri = arguments.verb, getattr(arguments, "store_uri", None) or ""
    store_uri = "" if verb in ("train", "doctor") else store_uri  # a default there, which says where things are put
    dataset, run, trial = (
        partial(_address, kinds=(kind,), store_uri=store_uri) for kind in ("datasets", "runs", "trials")
    )
    policy: Resolver = partial(_policy_address, store_uri=store_uri)
    taken: dict[str, Resolver] = {"run_uri": run, "dataset_uri": dataset, "checkpoint_uri": trial}
    of_verb: dict[str, dict[str, Resolver]] = {
        "evaluate": {"bundle_uri": policy},
        "compare": {"bundles": policy},
        "inspect": {"uri": dataset},
        "diff": {"first": dataset, "second": dataset},
        "weights": {"source_uri": policy, "file": policy},
    }
    taken |= of_verb.get(verb, {})
    if verb == "weights" and arguments.action == "import":  # a file of another system
        taken = {}
    for name, resolver in taken.items():
        value = getattr(arguments, name, None)
        if isinstance(value, str):
            setattr(arguments, name, resolver(value))
        elif isinstance(value, list):
            setattr(arguments, name, [resolver(one) if "=" not in one else one for one in value])
    keys = {"data.uri": dataset, "policy.init_from": trial, "training.resume_from": trial}
    arguments.__dict__.update(_overrides(arguments, keys))
    if getattr(arguments, "config_dir", None):
        found = trial(arguments.config_dir)
        arguments.config_dir = found if found == arguments.config_dir else join(found, "checkpoints", "last")


def _overrides(arguments: Namespace, keys: Mapping[str, Resolver]) -> dict[str, Any]:
    words = getattr(arguments, "overrides", None)
    if not words:
        return {}
    pairs = [word.partition("=") for word in words]
    return {"overrides": [key + sep + (keys[key](value) if key in keys else value) for key, sep, value in pairs]}


def _address(text: str, kinds: tuple[str, ...], store_uri: str) -> str:
    from tendon.registry.names import address

    return address(text, kinds, store_uri)


def _policy_address(text: str, store_uri: str) -> str:
    from tendon.registry.names import policy_address

    return policy_address(text, store_uri)
