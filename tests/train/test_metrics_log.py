from __future__ import annotations

import json
from pathlib import Path

import pytest

from tendon.storage import open_store
from tendon.train.loop.engine import Engine
from tendon.train.loop.epoch_size import EpochSize
from tendon.train.watch.callbacks import RunContext
from tendon.train.watch.metrics_log import MetricsLog, eval_line, latest, read_metrics, short_number, train_line
from tests.train.small_trial import make_config, make_stats

PUSHT = EpochSize(num_frames=25650, num_episodes=206, batch_size=64)
NUMBERS = {"loss": 1.112, "grad_norm": 15.387, "lr": 2e-7, "update_s": 1.738, "dataloading_s": 4.774}


def test_the_log_line_of_the_seed() -> None:
    assert train_line(0, PUSHT, NUMBERS) == (
        "step:0 smpl:64 ep:1 epch:0.00 loss:1.112 grdn:15.387 lr:2.0e-07 updt_s:1.738 data_s:4.774"
    )
    assert train_line(100, PUSHT, NUMBERS).startswith("step:100 smpl:6K ep:52 epch:0.25 ")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1K"), (25650, "26K"), (200_000, "200K"), (262_709_026, "263M"), (1.2e9, "1B")],
)
def test_big(number: float, text: str) -> None:
    assert short_number(number) == text


def test_lines_after_the_resumed_step_are_cut(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    run = RunContext(make_config(), Engine(make_config(), make_stats().features), PUSHT, store, str(tmp_path))
    first = MetricsLog(run, (), ())
    for step in (0, 10):
        first.train(step, NUMBERS)
    first.valid(15, {"loss": 2.0})
    first.train(20, NUMBERS)
    first.flush()
    second = MetricsLog(run, first.lines[:3], ())
    second.valid(30, {"loss": 3.0})
    second.flush()
    lines = read_metrics(store)
    assert [line["step"] for line in lines] == [0, 10, 15, 30]
    assert latest(lines) == {"train_loss": 1.112, "valid_loss": 3.0, "best_valid_loss": 2.0}
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == lines


def test_evaluation_line_of_the_seed() -> None:
    numbers = {"avg_sum_reward": 20.693, "pc_success": 0.0, "eval_s": 120.266}
    seed = "step:100 smpl:6K ep:52 epch:0.25 \N{N-ARY SUMMATION}rwrd:20.693 success:0.0% eval_s:120.266"
    assert eval_line(100, PUSHT, numbers) == seed


def test_no_file_no_lines(tmp_path: Path) -> None:
    assert read_metrics(open_store(str(tmp_path))) == []
