"""Trials of one pod side by side: as many as fit, in their order, and alone where memory was short."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tendon.errors import Interrupted
from tendon.runs import side_by_side
from tendon.runs.measured import Measurement, save, training_kind
from tendon.runs.plan import load_plan
from tendon.runs.side_by_side import in_parallel, num_fitting
from tests.runs.test_endings import plan
from tests.runs.test_remaining import swept


def outcome(name: str, status: str = "ok", error: str = "") -> str:
    return json.dumps({"trial": name, "status": status, "error": error})


def test_as_many_as_fit_train_at_once_and_the_first_alone_says_how_many() -> None:
    barrier, alone, fits = threading.Barrier(3, timeout=30), [], [1, 3]

    def train(name: str) -> str:
        if name == "a":
            alone.append(name)
        else:
            barrier.wait()  # it would time out if the three were not there together
        return outcome(name)

    names = ["a", "b", "c", "d"]
    assert in_parallel(names, train, lambda: fits.pop(0)) == [outcome(name) for name in names]
    assert alone == ["a"]


def test_what_ran_out_of_memory_beside_others_is_trained_again_alone() -> None:
    tries: list[str] = []

    def train(name: str) -> str:
        tries.append(name)
        if name == "b" and tries.count("b") == 1:
            return outcome(name, "failed", "error: CUDA out of memory")
        return outcome(name, "failed", "the loss is not a number") if name == "c" else outcome(name)

    ended = in_parallel(["a", "b", "c"], train, lambda: 3)
    assert [json.loads(text)["status"] for text in ended] == ["ok", "ok", "failed"]
    assert (tries.count("b"), tries.count("c")) == (2, 1)


def test_a_stop_waits_for_all_and_goes_on() -> None:
    ended: list[str] = []

    def train(name: str) -> str:
        ended.append(name)
        raise Interrupted("stopped", where=name, why="SIGTERM", fix="again")

    with pytest.raises(Interrupted):
        in_parallel(["a", "b"], train, lambda: 2)
    assert sorted(ended) == ["a", "b"]


def test_how_many_fit_follows_processors_memory_and_what_one_took_of_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["lr_0.001", "lr_0.002", "lr_0.003", "lr_0.004"]
    run = load_plan(plan(tmp_path, **swept(4), config="experiment=reach_bc device=auto").run_uri)
    monkeypatch.setattr(side_by_side, "usable_cpus", lambda: 3.5)
    monkeypatch.setattr(side_by_side, "free_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(side_by_side, "gpus_here", lambda: 0)
    assert num_fitting(run, names) == 3
    monkeypatch.setattr(side_by_side, "free_memory", lambda: 2 * 2**30)
    assert num_fitting(run, names) == 2, "a training of reach asks for 1 GiB"
    monkeypatch.setattr(side_by_side, "free_memory", lambda: 64 * 2**30)
    all_cores = load_plan(plan(tmp_path, **swept(2), config="experiment=reach_bc training.num_threads=0").run_uri)
    assert num_fitting(all_cores, names[:2]) == 1, "each takes all processors"
    monkeypatch.setattr(side_by_side, "gpus_here", lambda: 1)
    assert num_fitting(run, names) == 1, "nobody knows yet what one takes"
    took = Measurement(
        9, "step", 1, 1, gpus=1, device="cuda", gpu_bytes=3 * 2**30, gpu_bytes_total=10 * 2**30, when="t"
    )
    save(run.store_uri, training_kind(run.trials[0].config), took)
    assert num_fitting(run, names) == 2
