"""Episodes of an evaluation as they finish, one object each, so that a killed pod continues and several pods can share.

``rows/QUESTION/NNNNNN.json`` beside the tables: the row, and the actions that its clip is drawn from. The question leaves
out how many seeds there are, so that more episodes of the same policy only add to it. What is kept of an episode is all
that the table needs; ``batches.json`` holds how the policy was asked, which decides the last bits of an action.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.evaluate.actor import BatchCheck
from tendon.evaluate.rollout import EpisodeResult
from tendon.storage.json_values import to_json
from tendon.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCHES = "batches.json"


class KeptRows:
    """The finished episodes of one question in the store, by their position among the seeds."""

    def __init__(self, store: Store, seeds: Sequence[int]) -> None:
        self.store, self.seeds = store, seeds

    def load(self) -> dict[int, EpisodeResult]:
        """What is finished of these seeds; an object that is not whole is no episode."""
        finished: dict[int, EpisodeResult] = {}
        for key in [entry.key for entry in self.store.list() if entry.key != BATCHES]:
            index = int(key.removesuffix(".json"))
            result = parse_row(self.store.read(key)) if index < len(self.seeds) else None
            if result is not None and result.seed == self.seeds[index]:
                finished[index] = result
        return finished

    def save(self, index: int, result: EpisodeResult) -> None:
        """Keep one episode; called as soon as it ends."""
        self.store.write(_key(index), _format(result))

    def forget(self, indices: Iterable[int]) -> None:
        """Let these episodes be tried again: the evaluation was given up for them."""
        for index in indices:
            self.store.delete(_key(index))

    def load_check(self) -> BatchCheck | None:
        """How the policy was asked by whoever began."""
        if self.store.head(BATCHES) is None:
            return None
        known = json.loads(self.store.read(BATCHES))
        apart = known.get("rows_apart")
        return BatchCheck(**known | {"rows_apart": None if apart is None else tuple(apart)})

    def save_check(self, check: BatchCheck) -> None:
        """Keep how the policy is asked; the first one holds."""
        self.store.create(BATCHES, json.dumps(asdict(check)).encode())


def _key(index: int) -> str:
    return f"{index:06d}.json"


def _format(result: EpisodeResult) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, result.actions, allow_pickle=False)
    actions = base64.b64encode(zlib.compress(buffer.getvalue(), 1)).decode()
    more = {"rewards": result.rewards, "start": result.start, "instructions": result.instructions, "actions": actions}
    return to_json(result.row() | more).encode()


def parse_row(text: bytes) -> EpisodeResult | None:
    """An episode from the text of its object; None where that is not whole."""
    try:
        fields: dict[str, Any] = json.loads(text)
        actions = np.load(io.BytesIO(zlib.decompress(base64.b64decode(fields.pop("actions")))), allow_pickle=False)
        fields |= {name: tuple(fields.get(name, ())) for name in ("rewards", "instructions")}
        if fields["sum_reward"] is None:  # finite rewards whose sum was not
            fields["sum_reward"] = sum(fields["rewards"])
        return EpisodeResult(**fields, actions=actions)
    except (ValueError, KeyError, TypeError, zlib.error):
        return None
