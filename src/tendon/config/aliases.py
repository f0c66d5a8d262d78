"""Overrides of other systems that mean one of ours.

MineStudio's ``ckpt_path``, LeRobot's ``resume``, InternManip's ``resume_from_checkpoint``. A trial goes on from its own
newest checkpoint unasked, so true and false need no key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from tendon.config.override_text import quote

if TYPE_CHECKING:
    from tendon.config.overrides import Change

RESUME = ("ckpt_path", "resume", "resume_from_checkpoint")
OURS = "training.resume_from"


def translated(changes: Iterable[Change]) -> list[Change]:
    """The changes in our keys: ``ckpt_path=URI`` is ``training.resume_from=URI``; ``resume=true`` is what happens anyway."""
    ours = []
    for change in changes:
        if change.key not in RESUME:
            ours.append(change)
        elif isinstance(change.value, str) and change.value != "last":
            ours.append(replace(change, text=f"{OURS}={quote(change.value)}", key=OURS, kind="set"))
    return ours
