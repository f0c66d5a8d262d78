"""Who the champion is: one small JSON per name, swapped only by the run that saw what it replaces.

A Store and a name come in; the pointer and the entity tag it was read with go out. steps.confirm reads it and keeps the
tag, steps.promote swaps it with that tag: of two runs that saw the same champion, the second is told that it lost.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tendon.errors import ConfigError, DataError
from tendon.registry.protocol import champion_key, protocol_of_champion
from tendon.storage.json_values import to_json
from tendon.storage.store import Store

FORMAT = "tendon.champion/1"
KEPT_PREDECESSORS = 10


@dataclass(frozen=True)
class Champion:
    """The policy that later runs are compared with; ``history`` holds its predecessors, newest first."""

    name: str
    policy_digest: str
    bundle_uri: str
    run_uri: str
    successes: int
    n: int
    when: str  # ISO 8601, UTC
    history: tuple[Champion, ...] = ()
    protocol: str = ""  # the task and how it is confirmed; empty: of a store from before there were protocols
    evidence_uri: str = ""  # the selection, confirmation, record and report that it was promoted with

    @property
    def rate(self) -> float:
        """Success rate on the confirmation seeds of the run that promoted it."""
        return self.successes / self.n if self.n else 0.0


@dataclass(frozen=True)
class Pointer:
    """What was read: the champion and the tag to swap it with; both None when there is no champion yet."""

    champion: Champion | None
    etag: str | None


@dataclass(frozen=True)
class Swap:
    """What became of an attempt: swapped, already there (a second attempt of the same run), or lost to another run."""

    outcome: Literal["swapped", "already", "lost"]
    sentence: str
    champion: Champion | None  # who is champion now


def read_champion(store: Store, name: str, protocol: str = "") -> Pointer:
    """The champion called ``name`` of a protocol, and the tag of the object it was read from.

    A store from before there were protocols has one champion per name. It is the champion of the protocol that its own
    run had, until another is promoted; the tag is None then, as the protocol has no object yet.
    """
    key = _key(name, protocol)
    info = store.head(key)  # first: bytes that are newer than the tag make the swap fail, never succeed wrongly
    if info is not None:
        return Pointer(_parse(store.read(key), f"{store.uri}/{key}"), info.etag)
    if not protocol:
        return Pointer(None, None)
    old = read_champion(store, name).champion
    if old is None or protocol_of_champion(old.run_uri, old.bundle_uri) not in ("", protocol):
        return Pointer(None, None)
    return Pointer(replace(old, protocol=protocol), None)


def swap_champion(store: Store, new: Champion, etag: str | None) -> Swap:
    """Make ``new`` the champion if the pointer still has ``etag`` (None: there was no champion).

    The replaced champion moves into the history of ``new``. Nothing is written when another run was faster.
    """
    key = _key(new.name, new.protocol)
    current = read_champion(store, new.name, new.protocol)
    if _same(current.champion, new):
        return Swap("already", f"{new.policy_digest} of this run is champion {new.name!r} already", current.champion)
    if current.etag != etag:
        return _lost(new, current.champion)
    promoted = replace(new, history=_history(current.champion))
    if not store.replace(key, _format(promoted), etag):
        now = read_champion(store, new.name, new.protocol).champion
        return Swap("swapped", _swapped(promoted), now) if _same(now, new) else _lost(new, now)
    return Swap("swapped", _swapped(promoted), promoted)


def _swapped(champion: Champion) -> str:
    before = f", replacing {champion.history[0].policy_digest}" if champion.history else ""
    return f"{champion.policy_digest} is now champion {champion.name!r}{before}"


def _lost(new: Champion, now: Champion | None) -> Swap:
    holder = f"{now.policy_digest} of {now.run_uri} took its place at {now.when}" if now else "the pointer was removed"
    sentence = (
        f"{new.policy_digest} was not promoted: champion {new.name!r} is no longer the one it was compared with "
        f"({holder}); run confirm again to compare with the present one"
    )
    return Swap("lost", sentence, now)


def _same(now: Champion | None, new: Champion) -> bool:
    return now is not None and (now.policy_digest, now.run_uri) == (new.policy_digest, new.run_uri)


def _history(replaced: Champion | None) -> tuple[Champion, ...]:
    if replaced is None:
        return ()
    return (replace(replaced, history=()), *replaced.history)[:KEPT_PREDECESSORS]


def _key(name: str, protocol: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(
            f"{name!r} is not a champion's name",
            where="champion",
            why="the name becomes a file name: letters, digits, dot, dash and underscore only",
            fix="champion=lift-bc, for example",
        )
    return champion_key(name, protocol)


def _format(champion: Champion) -> bytes:
    values = {"format": FORMAT, **asdict(champion), "rate": champion.rate}
    return (to_json(values, indent=1, sort_keys=True) + "\n").encode()


def _parse(data: bytes, where: str) -> Champion:
    try:
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}, this version reads {FORMAT!r}")
        return replace(_champion(values), history=tuple(_champion(old) for old in values["history"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the champion pointer cannot be read",
            where=where,
            why=f"{type(error).__name__}: {error}",
            fix="restore the file from the store's versions, or delete it to start without a champion",
        ) from error


def _champion(values: dict[str, Any]) -> Champion:
    fields = ("name", "policy_digest", "bundle_uri", "run_uri", "successes", "n", "when")
    later = {field: values.get(field, "") for field in ("protocol", "evidence_uri")}
    return Champion(**{field: values[field] for field in fields}, **later)
