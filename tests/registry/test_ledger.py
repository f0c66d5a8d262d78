"""What a champion's challengers have spent: entered once, given back in part, never lost to a race."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tendon.errors import DataError
from tendon.registry.alpha import next_alpha
from tendon.registry.champion import Champion
from tendon.registry.ledger import Entry, enter, ledger_key, read_ledger, settle
from tendon.storage.local import LocalStore

CHAMPION = Champion("best", "aaaa", "b", "runs/1", 40, 50, "2026-01-01T00:00:00Z", protocol="Reach-1")


def entry(challenger, episodes=50):
    return Entry(challenger, episodes, "fixed", 0.0, 0.0, 0.0, "run", "")


def test_each_challenger_gets_a_part_of_what_is_left_and_the_same_one_nothing_new(tmp_path):
    store = LocalStore(tmp_path)
    first = enter(store, CHAMPION, entry("x"), 0.05)
    assert (first.challenger, first.alpha) == (1, next_alpha(1, 0.05))
    again = enter(store, CHAMPION, entry("x"), 0.05)
    assert (again.challenger, again.alpha) == (1, first.alpha)
    second = enter(store, CHAMPION, entry("y"), 0.05)
    assert second.challenger == 2
    assert second.alpha < first.alpha
    assert enter(store, CHAMPION, entry("x", 100), 0.05).challenger == 3  # more episodes are another look
    assert read_ledger(store, CHAMPION).spent == pytest.approx(0.05 - enter(store, CHAMPION, entry("y"), 0.05).left)


def test_what_could_not_have_been_erred_is_given_back(tmp_path):
    store = LocalStore(tmp_path)
    allowed = enter(store, CHAMPION, entry("x"), 0.05).alpha
    assert settle(store, CHAMPION, entry("x").question, allowed / 2, 0.05) == pytest.approx(0.05 - allowed / 2)
    assert settle(store, CHAMPION, entry("x").question, 1.0, 0.05) == pytest.approx(0.05 - allowed)
    assert enter(store, CHAMPION, entry("x"), 0.05).alpha == allowed


def test_another_champion_begins_anew_and_a_smaller_lifetime_leaves_nothing(tmp_path):
    store = LocalStore(tmp_path)
    enter(store, CHAMPION, entry("x"), 0.05)
    later = replace(CHAMPION, policy_digest="bbbb")
    assert ledger_key(later) != ledger_key(CHAMPION)
    assert enter(store, later, entry("y"), 0.05).challenger == 1
    assert enter(store, CHAMPION, entry("z"), 1e-4).alpha == 0.0


def test_of_many_challengers_at_once_each_is_entered(tmp_path):
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(6) as threads:
        allowances = list(threads.map(lambda k: enter(store, CHAMPION, entry(f"p{k}"), 0.05), range(6)))
    assert sorted(one.challenger for one in allowances) == [1, 2, 3, 4, 5, 6]
    assert read_ledger(store, CHAMPION).spent == pytest.approx(sum(one.alpha for one in allowances))


def test_a_damaged_ledger_is_not_taken_for_an_empty_one(tmp_path):
    store = LocalStore(tmp_path)
    store.write(ledger_key(CHAMPION), b"{}")
    with pytest.raises(DataError, match="have spent cannot be read"):
        read_ledger(store, CHAMPION)
