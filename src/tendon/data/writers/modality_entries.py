"""meta/modality.json: which parts of state and action, cameras and texts a LeRobot folder has. For the LeRobot and modality writers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tendon.data.episode import Schema
from tendon.data.features import Feature
from tendon.data.sources.lerobot import MODALITY
from tendon.data.sources.lerobot_layout import TASK_INDEX
from tendon.data.sources.modality import FIRST_TEXT


def has_modality(metadata: Mapping[str, Any]) -> bool:
    """Whether the source had the file."""
    return "modality" in metadata or bool(metadata.get("lerobot", {}).get("modality", ""))


def keep_modality(schema: Schema, metadata: Mapping[str, Any], target: Path) -> None:
    """Write the file again where the source had one: as it was, or anew where its parts became columns."""
    if "modality" in metadata:
        text = json.dumps(modality_of(schema, metadata), indent=4, ensure_ascii=False)
    else:
        text = metadata.get("lerobot", {}).get("modality", "")
    if text:
        (target / MODALITY).write_text(text, encoding="utf-8")


def modality_of(schema: Schema, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The object of modality.json; what the source's said of a part (absolute, rotation_type, range) stays."""
    parts = metadata.get("modality", {}).get("parts", {})
    state = {
        each.key.removeprefix("observation."): each for each in schema.columns if each.key.startswith("observation.")
    }
    action = {each.key.removeprefix("action."): each for each in schema.columns if each.kind == "action"}
    texts = {each.key: {"original_key": each.key} for each in schema.columns if each.key.startswith("annotation.")}
    return {
        "state": {key: _entry(each, parts.get("state", {}).get(key, {})) for key, each in state.items()},
        "action": {key: _entry(each, parts.get("action", {}).get(key, {})) for key, each in action.items()},
        "video": {each.name.rpartition(".")[2]: {"original_key": each.name} for each in schema.cameras},
        "annotation": {FIRST_TEXT: {"original_key": TASK_INDEX}}
        | {key.removeprefix("annotation."): entry for key, entry in texts.items()},
    }


def _entry(feature: Feature, known: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "original_key": feature.key,
        "start": 0,
        "end": feature.dim,
        "dtype": feature.dtype,
        "absolute": known.get("absolute", True),
        "rotation_type": known.get("rotation_type"),
    }
    return entry if known.get("range") is None else entry | {"range": known["range"]}
