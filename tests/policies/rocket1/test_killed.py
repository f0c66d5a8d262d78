"""Killed again and again, ROCKET-1 in two processes ends with the bytes of the run that was left alone; its chance is the windows'."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tendon.config.compose import compose
from tendon.data.dataset import open_dataset
from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.registry import make_policy
from tendon.policies.rocket1 import behaviour
from tendon.storage import open_store
from tendon.train.distributed.ranks import World
from tendon.train.loop.data_feeds import find_features, open_data_feeds
from tendon.train.state.checkpoint import digests
from tests.policies.rocket1.killed import OVERRIDES, STEPS, make_dataset, run, run_two

pytest.importorskip("lmdb")


def outcome(uri: Path, steps: int = STEPS) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of the last checkpoint (the memory and the loader's place are in it), and the metrics without clocks."""
    files = digests(open_store(f"{uri}/checkpoints/{steps:06d}"))
    lines = [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
    return {name: sha for name, sha in files.items() if not name.endswith("training_step.json")}, timeless


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("rocket"))


def test_killed_at_three_moments_it_ends_with_the_same_bytes(dataset: str, tmp_path: Path) -> None:
    assert run_two(tmp_path / "whole", dataset) == [0, 0]
    expected = outcome(tmp_path / "whole")
    assert any("carry" in name for name in expected[0])
    carried = load_file(tmp_path / f"whole/checkpoints/{STEPS:06d}/training_state/carry.safetensors")
    assert all(len(leaf) == 4 for leaf in carried.values())  # the rows of both processes
    for moment in (2, 7, 10):
        assert run_two(tmp_path / "killed", dataset, moment) == [-signal.SIGKILL] * 2
    assert run_two(tmp_path / "killed", dataset) == [0, 0]
    assert outcome(tmp_path / "killed") == expected


def test_behaviour_is_measured_where_it_is_logged_and_with_the_same_numbers(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    plain = behaviour.of_policy

    def counted(*arguments: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return plain(*arguments)

    monkeypatch.setattr(behaviour, "of_policy", counted)
    logged: dict[int, list[dict[str, Any]]] = {}
    for log_freq in (1, 2):
        calls.clear()
        short = ("training.offline_steps=4", "training.save_freq=4", "training.valid_freq=4")
        run(str(tmp_path / f"every-{log_freq}"), dataset, -1, *short, f"training.log_freq={log_freq}")
        assert len(calls) == 4 // log_freq + 1  # and one of the validation
        logged[log_freq] = [
            {key: value for key, value in line.items() if key.startswith("train/") and not key.endswith("_s")}
            for line in outcome(tmp_path / f"every-{log_freq}", 4)[1]
        ]
    rare = [line for line in logged[2] if line]
    assert rare
    assert any("flips_per_s" in key for key in rare[0])
    assert all(line in logged[1] for line in rare)


def test_chance_belongs_to_the_window(dataset: str) -> None:
    """Whatever the batch size and the number of processes, a window of an epoch is changed by the same numbers."""
    features = {key: one for key, one in find_features(dataset).items() if key.startswith(("observation.", "action."))}
    drawn: dict[tuple[int, int, int], np.ndarray] = {}
    for size, world in ((4, 1), (2, 1), (4, 2)):
        config = compose([*OVERRIDES, f"data.uri={dataset}", f"training.batch_size={size}"])
        policy = make_policy(config.policy, features)
        seen: dict[tuple[int, int], int] = {}
        feeds = [
            open_data_feeds(dataset, config, policy.windows, World(rank, world, rank))
            if world > 1
            else open_data_feeds(dataset, config, policy.windows)
            for rank in range(world)
        ]
        for step in range(2 * 18 // size):
            for feed in feeds:
                arrays = feed.next(config)
                batch = feed.train_batch(arrays, step, policy, config.seed, torch.device("cpu"))
                rows = zip(arrays["episode_index"].tolist(), arrays["frame_index"].tolist(), strict=True)
                for place, row in enumerate(rows):
                    epoch = seen[row] = seen.get(row, -1) + 1
                    numbers = batch[AUGMENT_NOISE][place].numpy()
                    known = drawn.setdefault((epoch, *row), numbers)
                    assert (known == numbers).all()
        for feed in feeds:
            feed.close()
    assert len({numbers.tobytes() for numbers in drawn.values()}) == len(drawn)
    assert open_dataset(dataset).manifest.episodes == 7
