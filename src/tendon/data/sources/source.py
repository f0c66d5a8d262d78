"""What a source of demonstrations offers, and how one is found for a URI.

A format is one module with ``sniff(uri) -> bool`` and ``open_uri(uri) -> Source``: of this folder, named in FORMATS, or
of another installed package (entry points ``tendon.sources``), which is asked when none of these knows the address.
convert and the plan step call ``open_source``; nothing is read before ``describe``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tendon.data.episode import Episode, Schema
from tendon.data.manifest import digest_of
from tendon.errors import ConfigError, DataError, Problem, nearest
from tendon.plugins import OWN, Claim, claims

WEB = ("http", "https", "ftp", "hf")
FORMATS = {
    "robomimic": "tendon.data.sources.robomimic",
    "minestudio": "tendon.data.sources.minestudio",
    "modality": "tendon.data.sources.modality",  # before lerobot: it is that and more
    "lerobot": "tendon.data.sources.lerobot",
}


def source_claims() -> Mapping[str, Claim]:
    """Which package brings each format.

    Raises:
        ConfigError: two packages bring one name.
    """
    return claims("sources", _own_claims())


def _own_claims() -> list[Claim]:
    return [Claim(name, module, OWN) for name, module in FORMATS.items()]


def _asked_in_turn() -> Iterator[Claim]:
    """Tendon's formats, then those of other packages, which are looked for when none of tendon's knows the address."""
    yield from _own_claims()
    yield from (claim for name, claim in source_claims().items() if name not in FORMATS)


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """What is known of an episode without reading its values."""

    episode_id: str
    length: int
    splits: tuple[str, ...]
    problems: tuple[Problem, ...] = ()  # why it cannot be converted


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source without reading its values; ``digest`` is the sha256 of its bytes."""

    format: str
    uri: str
    digest: str
    num_bytes: int
    schema: Schema
    episodes: tuple[EpisodeInfo, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # what is not converted, and why

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Episode ids of every split."""
        ids_by_split: dict[str, list[str]] = {}
        for episode in self.episodes:
            for split in episode.splits:
                ids_by_split.setdefault(split, []).append(episode.episode_id)
        return {split: tuple(ids) for split, ids in ids_by_split.items()}


def digest_with_features(digest: str, schema: Schema) -> str:
    """The digest of a source whose features need a newer manifest: it is another dataset than the older one was."""
    version = schema.format_version
    return digest if version == 1 else digest_of({"source": digest, "features": version})


class Source(Protocol):
    """A set of demonstrations in a foreign format. Can be pickled, so that processes share the reading.

    Where reading casts, encodes or leaves out, ``exactly() -> Source`` gives the same demonstrations as they are.
    ``check_unchanged()`` raises when a file changed since the digest was taken, ``check_used_unchanged()`` looks only at those
    read since it was asked last. Episodes may be read in any order, which must not cost more than theirs.
    """

    uri: str

    def describe(self) -> SourceInfo:
        """Everything but the values; reads the whole file once for the digest."""

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features."""


def open_source(uri: str, format: str | None = None) -> Source:
    """The reader for ``uri``, by the name of its format or by looking at it; ``?recipe=FILE`` edits what it reads.

    Raises:
        ConfigError: no format has that name.
        DataError: nothing is there, or no format recognises it.
    """
    _refuse_the_web(uri)
    address, recipe = _without_recipe(uri)
    if recipe:
        from tendon.data.recipe import read_recipe
        from tendon.data.sources.edited import EditedSource

        return EditedSource(uri, open_source(address, format), read_recipe(recipe))
    if format is not None:
        return _opened(_claim_of(format, uri).load(), uri)
    for claim in _asked_in_turn():
        module = claim.load()
        if module.sniff(uri):
            return _opened(module, uri)
    known = source_claims()
    raise DataError(
        "the format of the demonstrations is not recognised",
        where=uri,
        why=f"it does not look like any of: {', '.join(sorted(known))}",
        fix="check the address: robomimic is one .hdf5 file, LeRobot a folder with meta/info.json",
    )


def _opened(module: Any, uri: str) -> Source:
    source: Source = module.open_uri(uri)
    return source


def _claim_of(format: str, uri: str) -> Claim:
    known = source_claims()
    if format not in known:
        near = nearest(format, known, 0.4)
        raise ConfigError(
            f"there is no source format named {format}",
            where=uri,
            why=f"the formats are {', '.join(sorted(known))}",
            fix=f"write {near}" if near else "leave the format away to have it recognised",
        )
    return known[format]


def _refuse_the_web(uri: str) -> None:
    scheme, _, rest = uri.partition("://")
    if scheme.lower() not in WEB or not rest:
        return
    fix = f"hf download {rest.removeprefix('datasets/')} --repo-type dataset --local-dir DATA"
    if scheme.lower() != "hf":
        fix = f"curl -LO {uri}"
    raise ConfigError(
        "demonstrations are not read from the web",
        where=uri,
        why=f"a source is a file or folder of this machine, s3:// or demo://; {scheme}:// is none",
        fix=f"{fix}  and then name what lies here",
    )


def _without_recipe(uri: str) -> tuple[str, str]:
    """An address and the recipe that its question names."""
    address, _, question = uri.partition("?")
    parts = [part for part in question.split("&") if part]
    recipes = [part.removeprefix("recipe=") for part in parts if part.startswith("recipe=")]
    others = "&".join(part for part in parts if not part.startswith("recipe="))
    return (f"{address}?{others}" if others else address) if recipes else uri, recipes[-1] if recipes else ""
