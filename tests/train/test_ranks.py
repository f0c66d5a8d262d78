"""Several processes compute what one computes, and are as hard to kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tendon.storage import open_store
from tendon.train.loop.training import train
from tendon.train.state.checkpoint import complete
from tendon.train.state.status import find_finished
from tendon.train.watch.heartbeat import STAGES, Beat, furthest_behind
from tests.train.forked_ranks import run_ranks
from tests.train.small_trial import make_config, make_stats, open_memory, run
from tests.train.test_resume import outcome

FULL = {
    "gradient_accumulation_steps": 2,
    "grad_clip_norm": 0.5,
    "ema": {"enable": True, "every_n_steps": 2, "decay": 0.9},
}


def weights(uri: Path, step: str = "000050") -> dict[str, torch.Tensor]:
    return load_file(uri / f"checkpoints/{step}/pretrained_model/model.safetensors")


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_one_process_two_and_two_parts_agree(tmp_path: Path) -> None:
    run(tmp_path / "one", offline_steps=50)
    run(tmp_path / "parts", offline_steps=50, gradient_accumulation_steps=2)
    assert run_ranks(tmp_path / "two", offline_steps=50) == [0, 0]
    one = weights(tmp_path / "one")
    assert largest_difference(one, weights(tmp_path / "parts")) < 1e-6
    assert largest_difference(one, weights(tmp_path / "two")) < 1e-6
    status = find_finished(str(tmp_path / "two"))
    assert status is not None
    assert (status.num_processes, status.device) == (2, "cpu")


@pytest.mark.long
def test_sharded_weights_agree_and_resume(tmp_path: Path) -> None:
    run(tmp_path / "one", offline_steps=50, grad_clip_norm=0.5)
    options: dict[str, Any] = {"offline_steps": 50, "grad_clip_norm": 0.5, "sharding": "fsdp"}
    assert run_ranks(tmp_path / "two", **options, events={1: ("term", 23)}) == [75, 75]
    assert run_ranks(tmp_path / "two", **options) == [0, 0]
    status = find_finished(str(tmp_path / "two"))
    assert status is not None
    assert status.resumed_from == 24
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6


@pytest.fixture(scope="module")
def two_uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    uri = tmp_path_factory.mktemp("two")
    assert run_ranks(uri, **FULL) == [0, 0]
    return outcome(uri)


@pytest.mark.parametrize(
    ("event", "rank", "number"), [pytest.param("term", 1, 12, marks=pytest.mark.long), ("kill", 0, 31)]
)
def test_two_processes_resume_bit_for_bit(
    tmp_path: Path, two_uninterrupted: Any, event: str, rank: int, number: int
) -> None:
    codes = run_ranks(tmp_path, events={rank: (event, number)}, **FULL)
    if event == "term":  # whoever heard it: all finish the same step and save
        assert codes == [75, 75]
        assert complete(open_store(str(tmp_path)))[0] == f"{number + 1:06d}"
    else:
        assert codes[rank] == -9
    assert run_ranks(tmp_path, **FULL) == [0, 0]
    assert outcome(tmp_path) == two_uninterrupted


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "one")
    assert run_ranks(tmp_path / "changed", events={0: ("term", 14)}) == [75, 75]
    assert run(tmp_path / "changed").resumed_from == 15
    assert largest_difference(weights(tmp_path / "one", "000040"), weights(tmp_path / "changed", "000040")) < 1e-6


def test_a_rank_that_hangs_is_named(tmp_path: Path) -> None:
    codes = run_ranks(tmp_path, events={1: ("hang", 13)}, rank_timeout_s=1.0)
    assert 75 in codes
    said = (tmp_path / "rank-0.err").read_text() + (tmp_path / "rank-1.err").read_text()
    assert "process 1 of the training hangs" in said
    assert "rank 1, step 13, stage data" in said
    assert run_ranks(tmp_path) == [0, 0]


def test_the_share_that_is_no_number_is_named_by_every_process(tmp_path: Path) -> None:
    assert run_ranks(tmp_path, events={1: ("nan", 12)}) == [3, 3]
    for rank in range(2):
        said = (tmp_path / f"rank-{rank}.err").read_text()
        assert "action is NaN or infinite in episode demo_" in said
        assert "step 12" in said
        assert "failures/batch-000012-process-1.npz" in said


def test_who_is_furthest_behind() -> None:
    def beat(rank: int, step: int, stage: str, age_s: float = 0.1) -> Beat:
        return Beat(rank, step, STAGES.index(stage), age_s)

    waiting = [beat(0, 9, "backward"), beat(2, 9, "backward")]
    assert furthest_behind([*waiting, beat(1, 9, "forward")], 3.0).rank == 1
    assert furthest_behind([*waiting, beat(1, 8, "agree")], 3.0).rank == 1
    assert furthest_behind([*waiting, beat(1, 10, "data", age_s=60)], 3.0).rank == 1  # stopped: it no longer speaks


def test_torchrun_starts_them(tmp_path: Path) -> None:
    done: list[int] = []
    config = make_config(num_gpus=2)
    result = train(
        config, "memory", make_stats(), str(tmp_path), lambda n, total: done.append(n), open_data=open_memory
    )
    assert (result.num_processes, result.step, done[-1]) == (2, 40, 40)
