"""Who has challenged a champion, and what each comparison was allowed to err: one JSON per champion, written by compare-and-swap.

A comparison is entered before its rollouts, with all it may err; afterwards what it could not have erred is given back.
The same comparison again finds its entry and spends nothing. A champion's ledger ends with it and stays in the store.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from tendon.config.digest import digest
from tendon.errors import DataError, StorageError
from tendon.registry.alpha import Allowance, next_alpha
from tendon.registry.champion import Champion
from tendon.runs.failures import now
from tendon.storage import Store

FORMAT = "tendon.ledger/1"
MOST_TRIES = 50


@dataclass(frozen=True)
class Entry:
    """One comparison with the champion."""

    challenger: str  # digest of the policy
    episodes: int
    test: str
    margin: float
    allowed: float  # error rate
    spent: float  # at most ``allowed``: what the test could have erred, given how many pairs decided
    run_uri: str
    when: str  # ISO 8601, UTC

    @property
    def question(self) -> tuple[Any, ...]:
        """What makes it another comparison."""
        return (self.challenger, self.episodes, self.test, self.margin)


@dataclass(frozen=True)
class Ledger:
    """The comparisons of one champion, in the order in which they came."""

    entries: tuple[Entry, ...] = ()

    @property
    def spent(self) -> float:
        """Of the champion's lifetime."""
        return sum(entry.spent for entry in self.entries)

    def allowance(self, lifetime: float) -> Allowance:
        """What the next challenger may err."""
        number = len(self.entries) + 1
        left = max(0.0, lifetime - self.spent)
        alpha = next_alpha(number, left)
        return Allowance(number, alpha, lifetime, left - alpha)

    def find(self, question: tuple[Any, ...]) -> int | None:
        """The position of the comparison, if it was entered."""
        return next((n for n, entry in enumerate(self.entries) if entry.question == question), None)


def ledger_key(champion: Champion) -> str:
    """One file per champion, for as long as it is one."""
    term = digest(champion.policy_digest, champion.run_uri, champion.when)
    return f"champions/{champion.name}/ledgers/{champion.protocol or 'any'}-{term}.json"


def read_ledger(store: Store, champion: Champion) -> Ledger:
    """What is spent of the champion's lifetime."""
    return _read(store, ledger_key(champion))[0]


def enter(store: Store, champion: Champion, entry: Entry, lifetime: float) -> Allowance:
    """Spend what the next challenger may err, or find what this comparison was allowed before."""
    key = ledger_key(champion)
    for _ in range(MOST_TRIES):
        ledger, etag = _read(store, key)
        known = ledger.find(entry.question)
        if known is not None:
            allowed = ledger.entries[known].allowed
            return Allowance(known + 1, allowed, lifetime, max(0.0, lifetime - ledger.spent))
        allowance = ledger.allowance(lifetime)
        added = replace(entry, allowed=allowance.alpha, spent=allowance.alpha, when=now())
        if store.replace(key, _format(replace(ledger, entries=(*ledger.entries, added))), etag):
            return allowance
    raise _contended(store, key)


def settle(store: Store, champion: Champion, question: tuple[Any, ...], spent: float, lifetime: float) -> float:
    """Give back what a comparison could not have erred; what is left of the lifetime."""
    key = ledger_key(champion)
    for _ in range(MOST_TRIES):
        ledger, etag = _read(store, key)
        known = ledger.find(question)
        if known is None:
            return max(0.0, lifetime - ledger.spent)
        entry = ledger.entries[known]
        settled = replace(entry, spent=min(entry.allowed, spent))
        entries = (*ledger.entries[:known], settled, *ledger.entries[known + 1 :])
        ledger = replace(ledger, entries=entries)
        if settled == entry or store.replace(key, _format(ledger), etag):
            return max(0.0, lifetime - ledger.spent)
    raise _contended(store, key)


def _read(store: Store, key: str) -> tuple[Ledger, str | None]:
    info = store.head(key)
    if info is None:
        return Ledger(), None
    try:
        values = json.loads(store.read(key))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}, this version reads {FORMAT!r}")
        return Ledger(tuple(Entry(**entry) for entry in values["entries"])), info.etag
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "what a champion's challengers have spent cannot be read",
            where=f"{store.uri}/{key}",
            why=f"{type(error).__name__}: {error}",
            fix="restore the file from the store's versions; without it nobody knows what may still be erred",
        ) from error


def _format(ledger: Ledger) -> bytes:
    values = {"format": FORMAT, "spent": ledger.spent, "entries": [asdict(entry) for entry in ledger.entries]}
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def _contended(store: Store, key: str) -> StorageError:
    return StorageError(
        "what a comparison may err could not be entered",
        where=f"{store.uri}/{key}",
        why=f"other runs changed the file {MOST_TRIES} times in between",
        fix="run confirm again",
    )
