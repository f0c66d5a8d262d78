from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tendon.errors import ConfigError, DataError
from tendon.registry.champion import KEPT_PREDECESSORS, Champion, Pointer, read_champion, swap_champion
from tendon.storage.local import LocalStore

FIRST = Champion("lift", "aaaa", "s3://b/trials/a/bundle", "s3://b/runs/1", 45, 50, "2026-01-01T00:00:00Z")
SECOND = replace(FIRST, policy_digest="bbbb", run_uri="s3://b/runs/2", successes=48)
THIRD = replace(FIRST, policy_digest="cccc", run_uri="s3://b/runs/3", successes=49)


class RacingStore(LocalStore):
    """Lets another run act just before each compare-and-swap."""

    def __init__(self, root: Path, before_replace: Callable[[], object]) -> None:
        super().__init__(root)
        self.before_replace = before_replace

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        self.before_replace()
        return super().replace(key, data, etag)


def test_no_champion_then_one_then_its_successor_with_the_history(tmp_path):
    store = LocalStore(tmp_path)
    assert read_champion(store, "lift") == Pointer(None, None)

    assert swap_champion(store, FIRST, None).outcome == "swapped"
    seen = read_champion(store, "lift")
    assert seen.champion == FIRST
    assert seen.champion.rate == 0.9

    swap = swap_champion(store, SECOND, seen.etag)
    assert swap.outcome == "swapped"
    assert swap.sentence == "bbbb is now champion 'lift', replacing aaaa"
    assert read_champion(store, "lift").champion == replace(SECOND, history=(FIRST,))


def test_the_loser_of_a_race_is_told_and_nothing_is_lost(tmp_path):
    store = LocalStore(tmp_path)
    swap_champion(store, FIRST, None)
    seen = read_champion(store, "lift")
    assert swap_champion(store, SECOND, seen.etag).outcome == "swapped"

    late = swap_champion(store, THIRD, seen.etag)
    assert late.outcome == "lost"
    assert "bbbb of s3://b/runs/2 took its place" in late.sentence
    assert late.champion.policy_digest == "bbbb"
    assert read_champion(store, "lift").champion == replace(SECOND, history=(FIRST,))


def test_a_race_between_the_check_and_the_write_is_lost_too(tmp_path):
    store = LocalStore(tmp_path)
    swap_champion(store, FIRST, None)
    etag = read_champion(store, "lift").etag

    racing = RacingStore(tmp_path, before_replace=lambda: swap_champion(store, SECOND, etag))
    late = swap_champion(racing, THIRD, etag)
    assert late.outcome == "lost"
    assert read_champion(store, "lift").champion.policy_digest == "bbbb"


def test_two_first_champions_cannot_both_win(tmp_path):
    store = LocalStore(tmp_path)
    assert swap_champion(store, FIRST, None).outcome == "swapped"
    assert swap_champion(store, SECOND, None).outcome == "lost"


def test_of_many_runs_at_once_exactly_one_wins(tmp_path):
    store = LocalStore(tmp_path)
    swap_champion(store, FIRST, None)
    etag = read_champion(store, "lift").etag
    rivals = [replace(FIRST, policy_digest=f"p{k}", run_uri=f"r{k}") for k in range(8)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda rival: swap_champion(store, rival, etag).outcome, rivals))
    assert sorted(outcomes) == ["lost"] * 7 + ["swapped"]
    winner = rivals[outcomes.index("swapped")]
    assert read_champion(store, "lift").champion == replace(winner, history=(FIRST,))


def test_a_second_attempt_of_the_same_run_finds_its_work_done(tmp_path):
    store = LocalStore(tmp_path)
    assert swap_champion(store, FIRST, None).outcome == "swapped"
    assert swap_champion(store, FIRST, None).outcome == "already"
    assert read_champion(store, "lift").champion.history == ()


def test_a_write_whose_answer_got_lost_counts_as_done(tmp_path):
    """The first try of a retried request may have landed: then the second is refused, and yet the work is done."""
    store = LocalStore(tmp_path)
    racing = RacingStore(tmp_path, before_replace=lambda: swap_champion(store, FIRST, None))
    assert swap_champion(racing, FIRST, None).outcome == "swapped"


def test_history_is_kept_short(tmp_path):
    store = LocalStore(tmp_path)
    for number in range(KEPT_PREDECESSORS + 5):
        etag = read_champion(store, "lift").etag
        new = replace(FIRST, policy_digest=f"p{number}", run_uri=f"r{number}")
        assert swap_champion(store, new, etag).outcome == "swapped"
    champion = read_champion(store, "lift").champion
    assert len(champion.history) == KEPT_PREDECESSORS
    assert champion.history[0].policy_digest == f"p{KEPT_PREDECESSORS + 3}"


@pytest.mark.parametrize("name", ["", "../lift", "a/b", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="not a champion's name"):
        read_champion(LocalStore(tmp_path), name)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"format": "tendon.champion/9"}', '{"format":"tendon.champion/1"}']
)
def test_a_broken_pointer_is_named(tmp_path, content):
    (tmp_path / "champions").mkdir()
    (tmp_path / "champions/lift.json").write_text(content)
    with pytest.raises(DataError, match="champion pointer cannot be read"):
        read_champion(LocalStore(tmp_path), "lift")
