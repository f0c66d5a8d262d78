"""``model_cls.from_pretrained(path, tune_llm=...)``: a policy of a bundle or checkpoint, with other parts of it learning."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from tendon.config.foreign.internmanip_keys import POLICIES
from tendon.config.keys import hint_of
from tendon.errors import ConfigError, nearest
from tendon.export.bundle import load_policy
from tendon.policies.base import Policy
from tendon.train.loop.optimizer import freeze, training_mode
from tendon.weights.build import build_policy
from tendon.weights.kept import weights_uri
from tendon.weights.load import load_learnt

log = logging.getLogger(__name__)


class ManipModel:
    """One of the policies by name."""

    name = ""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **tune: bool) -> Policy:
        """The policy, in training mode; prints what learns.

        Args:
            pretrained_model_name_or_path: a bundle or a checkpoint.
            tune: ``tune_llm``, ``tune_visual``, ``tune_projector``, ``tune_diffusion_model``.

        Raises:
            ConfigError: it is another policy's, or has no such part.
        """
        saved, info = load_policy(pretrained_model_name_or_path)
        where = pretrained_model_name_or_path
        if info.name != cls.name:
            what, why = f"this is no {cls.name}", f"it holds {info.name}"
            raise ConfigError(what, where=where, why=why, fix=f"model_class({info.name!r}).from_pretrained(...)")
        unknown = [key for key in tune if not key.startswith("tune_") or hint_of(f"policy.{key}", cls.name) is None]
        if unknown:
            keys = [key for key in vars(info.config) if key.startswith("tune_")]
            near = nearest(unknown[0], keys, 0.4)
            raise ConfigError(
                f"{cls.name} has no {unknown[0]}",
                where=where,
                why=f"it has {', '.join(keys)}",
                fix=near or "leave it out",
            )
        config: Any = replace(info.config, **tune)  # type: ignore[arg-type]
        problems = list(config.conflicts())
        if problems:
            raise ConfigError(problems[0].what, where=where, why=problems[0].why, fix=problems[0].fix)
        policy = build_policy(config, info.features, kept_uri=weights_uri(where))
        policy.set_texts(info.texts)
        load_learnt(policy, saved.state_dict())
        freeze(policy, policy.frozen(), where=where)
        training_mode(policy)
        log.info("parts of the policy:\n%s", policy.describe())
        return policy


def model_class(name: str) -> type[ManipModel]:
    """The class of a policy's name, what InternManip calls ``model_cls``.

    Example: ``model_class("dp_clip").from_pretrained("outputs/b", tune_visual=False)``
    """
    if name not in POLICIES:
        near = nearest(name, POLICIES, 0.4) or POLICIES[0]
        raise ConfigError(
            f"there is no policy {name}", where="model_class", why=f"there are {', '.join(POLICIES)}", fix=near
        )
    return type(f"Model_{name}", (ManipModel,), {"name": name})
