"""Where each key of a tree came from: the command line, or a line of a YAML file. Messages quote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tendon.config.yaml_text import Mark


class Places:
    """Dotted key to place; a key without one of its own has that of the section or list that holds it."""

    def __init__(self, default: str) -> None:
        self.places: dict[str, str] = {"": default}
        self.comments: dict[str, str] = {}
        self.before: dict[str, Any] = {}
        self.chosen: set[str] = set()  # keys that a person set, beside the files that hold every key

    def __call__(self, key: str) -> str:
        """The place of a key."""
        key = key.partition("[")[0]
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places[key]

    def comment(self, key: str) -> str:
        """What the file says of a key, beside it."""
        return self.comments.get(key, "")

    def put(self, key: str, place: str, before: Any) -> None:
        """A later source sets a key and everything below it; ``before`` is the value it replaces."""
        self.before.setdefault(key, before)
        for old in [one for one in self.places if one == key or one.startswith(f"{key}.")]:
            del self.places[old]
        self.places[key] = place

    def put_file(self, name: str, marks: Mapping[str, Mark], prefix: str = "", *, chosen: bool = False) -> None:
        """A later file sets the keys it has; ``chosen``: it names only what a person wanted (an experiment)."""
        for key, mark in marks.items():
            if chosen:
                self.chosen.add(f"{prefix}{key}")
            self.places[f"{prefix}{key}"] = f"{name}:{mark.line}"
            if mark.comment:
                self.comments[f"{prefix}{key}"] = mark.comment

    def copy(self) -> Places:
        """One that can be changed."""
        twin = Places(self.places[""])
        twin.places, twin.comments, twin.before = dict(self.places), dict(self.comments), dict(self.before)
        twin.chosen = set(self.chosen)
        return twin
