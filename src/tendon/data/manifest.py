"""manifest.json: the file that makes a dataset exist, written last and read first.

convert commits it; dataset loads it; the DAG passes a copy of it as an artifact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tendon.data.episode import Schema
from tendon.errors import DataError
from tendon.storage import Store

FORMAT_VERSIONS = (1, 2)  # that are read; a dataset is written in the oldest one that can say what it holds
KEY = "manifest.json"


PLACE = {"key": str, "bytes": int, "sha256": str}


@dataclass(frozen=True)
class Shard:
    """One immutable tar."""

    key: str
    bytes: int
    sha256: str
    episodes: int
    steps: int


@dataclass(frozen=True)
class IndexFile:
    """The parquet file with one row per episode."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitTotals:
    """How much is in a split; its episodes are in the index."""

    episodes: int
    steps: int


@dataclass(frozen=True)
class SourceFile:
    """Where the demonstrations came from."""

    uri: str
    format: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A committed dataset. ``digest`` says what is in it, ``plan`` how it was asked for (and where it lies)."""

    format_version: int
    name: str
    digest: str
    plan: str
    schema: Schema
    episodes: int
    steps: int
    splits: Mapping[str, SplitTotals]
    index: IndexFile
    shards: tuple[Shard, ...]
    sources: tuple[SourceFile, ...]
    created_by: Mapping[str, Any]  # code version and converter options
    metadata: Mapping[str, Any]  # what the source says of its environment
    left_out: Mapping[str, str]  # what of the source was not converted, and why

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps(asdict(self) | {"schema": self.schema.to_json()}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """The manifest in the text of manifest.json."""
        values = json.loads(text)
        places = [*values["shards"], values["index"]]
        if not all(isinstance(one[name], kind) for one in places for name, kind in PLACE.items()):
            raise TypeError("a place is not described by a key, a size and a sha256")
        return cls(
            **values
            | {
                "schema": Schema.from_json(values["schema"]),
                "splits": {name: SplitTotals(**each) for name, each in values["splits"].items()},
                "index": IndexFile(**values["index"]),
                "shards": tuple(Shard(**each) for each in values["shards"]),
                "sources": tuple(SourceFile(**each) for each in values["sources"]),
            }
        )


def load_manifest(store: Store) -> Manifest | None:
    """The manifest of the dataset at ``store``, None when there is none (yet).

    Raises:
        DataError: it cannot be understood, or was written by a newer version.
    """
    if store.head(KEY) is None:
        return None
    text = store.read(KEY)
    try:
        version = json.loads(text)["format_version"]
        if version in FORMAT_VERSIONS:
            return Manifest.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(store, f"it is damaged ({type(error).__name__})") from error
    raise _unreadable(
        store, f"its format version is {version}, this program reads {' and '.join(map(str, FORMAT_VERSIONS))}"
    )


def dataset_digest(schema: Schema, shards: Sequence[Shard], recipe: str = "") -> str:
    """What a dataset holds: sha256 over its schema, the hashes of its shards in order, and the recipe that edited it."""
    values: dict[str, Any] = {"schema": schema.to_json(), "shards": [shard.sha256 for shard in shards]}
    return digest_of(values | ({"recipe": recipe} if recipe else {}))


def digest_of(values: object) -> str:
    """sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _unreadable(store: Store, why: str) -> DataError:
    return DataError(
        "a dataset's manifest cannot be read",
        where=f"{store.uri}/{KEY}",
        why=why,
        fix="convert the demonstrations again, or use the version of tendon that wrote it",
    )
