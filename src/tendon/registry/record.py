"""What made a score: one flat JSON per run that answers "which data, which code, which seeds, which commands".

steps.report fills it and writes ``record.json``; it is the source of truth for lineage. Digests, seeds and scores are
plain values at most two levels deep, so that any tool can read them; keys of a later version are left out, missing ones
are an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from tendon.errors import DataError
from tendon.storage.json_values import to_json

FORMAT = "tendon.record/1"


@dataclass(frozen=True)
class Record:
    """One run. Empty text or an empty dict means that there was none, never a guess."""

    run_id: str
    when: str  # ISO 8601, UTC
    source_uri: str
    source_digest: str
    dataset_uri: str
    dataset_digest: str
    episode_list_digest: str
    code_version: str
    images: dict[str, str]  # step: image digest
    configs: dict[str, dict[str, Any]]  # trial: effective configuration
    seeds: dict[str, list[int]]  # block: [first, count]
    winner: str
    policy_digest: str
    scores: dict[str, float | None]  # None was no number; e.g. confirmation.success_rate
    timings: dict[str, float]  # step or step/trial: seconds
    commands: dict[str, str]  # step or step/trial: what repeats it
    verdict: str

    def to_json(self) -> str:
        """Stable text: the same record gives the same bytes."""
        values = {"format": FORMAT, **{field.name: getattr(self, field.name) for field in fields(self)}}
        return to_json(values, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "record.json") -> Record:
        """Read what ``to_json`` wrote; a DataError when it is something else."""
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}, this version reads {FORMAT!r}")
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "the run record cannot be read",
                where=where,
                why=f"{type(error).__name__}: {error}",
                fix="run the report step again: it writes the record anew from the run's files",
            ) from error
