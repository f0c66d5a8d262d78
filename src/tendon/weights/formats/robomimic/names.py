"""What a tensor of ours is called in a robomimic state dict: one name, and further ones where robomimic stores it twice.

Used in both directions by robomimic.py. Facts about their format, section 4.1 of the notes; the names are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tendon.policies.base import GOAL, Policy
from tendon.policies.bc_rnn.model import BcRnn
from tendon.policies.bc_transformer.model import BcTransformer
from tendon.policies.bc_vae.model import BcVae
from tendon.policies.parts.encoder import member
from tendon.policies.parts.vision import SpatialSoftmax, VisualCore
from tendon.policies.windows import bare

Names = tuple[str, ...]
OURS_ALONE = ("encoder.normalize.", "normalize_action.")  # robomimic keeps these beside the weights
POLICY = "policy."


def theirs(policy: Policy) -> Callable[[str], Names]:
    """Function from a name of our state dict to robomimic's, the first one canonical; empty for normalisers."""
    rules = _rules(policy)

    def names(name: str) -> Names:
        if name.startswith(OURS_ALONE):
            return ()
        if name.startswith("encoder.cores."):
            return _core_names(policy, name)
        for pattern, results in rules:
            found = re.fullmatch(pattern, name)
            if found:
                return tuple(POLICY + found.expand(result) for result in results)
        raise KeyError(f"{name} has no name in robomimic")

    return names


def _rules(policy: Policy) -> list[tuple[str, Names]]:
    if isinstance(policy, BcVae):
        return [
            (r"posterior\.mlp\.(.*)", (r"_vae.nets.encoder.nets.mlp._model.\1",)),
            (r"posterior\.((?:mean|logvar)\..*)", (r"_vae.nets.encoder.nets.decoder.nets.\1",)),
            (r"decoder\.(.*)", (r"_vae.nets.decoder.nets.mlp._model.\1",)),
            (r"head\.(.*)", (r"_vae.nets.decoder.nets.decoder.nets.\1",)),
            (r"prior_net\.mlp\.(.*)", (r"_vae.nets.prior.prior_module.nets.mlp._model.\1",)),
            (r"prior_net\.((?:mean|logvar)\..*)", (r"_vae.nets.prior.prior_module.nets.decoder.nets.\1",)),
            (r"prior_(mean|logvar)", (r"_vae.nets.prior.prior_params.\1",)),
        ]
    if isinstance(policy, BcRnn):
        has_mlp = any(name.startswith("trunk.") for name in policy.state_dict())
        step = "nets.rnn.per_step_net."
        return [
            (r"rnn\.net\.(.*)", (r"nets.rnn.nets.\1",)),
            (r"trunk\.(.*)", (r"nets.mlp._model.\1", rf"{step}0._model.\1")),
            (r"head\.(.*)", (r"nets.decoder.nets.\1", rf"{step}{'1.' if has_mlp else ''}nets.\1")),
        ]
    if isinstance(policy, BcTransformer):
        inner = "nets.transformer.nets.transformer"
        return [
            (r"transformer\.embed\.(.*)", (r"nets.embed_encoder.\1",)),
            (r"transformer\.embed_ln\.(.*)", (r"nets.embed_ln.\1",)),
            (r"transformer\.position", ("params.embed_timestep",)),
            (r"transformer\.position\.weight", ("nets.embed_timestep.weight",)),
            (r"transformer\.blocks\.(\d+)\.((?:qkv|output)\..*)", (rf"{inner}.\1.nets.attention.nets.\2",)),
            (r"transformer\.blocks\.(\d+)\.(.*)", (rf"{inner}.\1.nets.\2",)),
            (r"transformer\.output_ln\.(.*)", (r"nets.transformer.nets.output_ln.\1",)),
            (r"head\.(.*)", (r"nets.decoder.nets.\1",)),
        ]
    return [(r"trunk\.(.*)", (r"nets.mlp._model.\1",)), (r"head\.(.*)", (r"nets.decoder.nets.\1",))]


def core_prefix(key: str) -> str:
    """Where robomimic keeps the encoder of one camera or scan."""
    group = "goal" if key.startswith(GOAL) else "obs"
    return f"{POLICY}nets.encoder.nets.{group}.obs_nets.{bare(key)}."


def _core_names(policy: Policy, name: str) -> Names:
    encoder = policy.encoder
    key, core = next((key, encoder.cores[member(key)]) for key in encoder.keys if f".{member(key)}." in name)  # type: ignore
    prefix, rest = core_prefix(key), name.split(f".{member(key)}.", 1)[1]
    if not isinstance(core, VisualCore):  # a scan: our convolutions are layers 0, 2, 4
        index, leaf = rest.removeprefix("net.").split(".", 1)
        return tuple(f"{prefix}{part}.conv{int(index) // 2}.{leaf}" for part in ("backbone.nets", "nets.0.nets"))
    if rest.startswith("backbone."):
        leaf = rest.removeprefix("backbone.")
        return f"{prefix}backbone.nets.{leaf}", f"{prefix}nets.0.nets.{leaf}"
    if rest.startswith("pool."):
        leaf = rest.removeprefix("pool.").replace("filters.", "nets.")
        return f"{prefix}pool.{leaf}", f"{prefix}nets.1.{leaf}"
    last = 3 if isinstance(core.pool, SpatialSoftmax) else 2
    return (f"{prefix}nets.{last}.{rest.removeprefix('linear.')}",)
