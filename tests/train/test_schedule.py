from __future__ import annotations

import math

import pytest

from tendon.train.loop.schedule import factor, learning_rate
from tests.train.small_trial import make_config


def lr(kind: str, step: int, steps: int = 100, warmup: int = 0, end: float = 0.1) -> float:
    return factor(kind, step, num_steps=steps, num_warmup_steps=warmup, end_factor=end)


def test_cosine_with_warmup_is_diffusers() -> None:
    """step / warm, then 0.5 * (1 + cos(pi * (step - warm) / (total - warm)))."""
    for step in (0, 1, 250, 499):
        assert lr("cosine", step, 200_000, 500, 0.0) == pytest.approx(step / 500)
    for step in (500, 1000, 100_250, 199_999, 200_000):
        expected = 0.5 * (1 + math.cos(math.pi * (step - 500) / (200_000 - 500)))
        assert lr("cosine", step, 200_000, 500, 0.0) == pytest.approx(expected)
    assert lr("cosine", 100_250, 200_000, 500, 0.0) == pytest.approx(0.5)


def test_linear_is_robomimics() -> None:
    """E = 100, 1e-4: epoch 2 has 9.91e-5, epoch 100 1.09e-5, epoch 101 on 1e-5."""
    assert [round(1e-4 * lr("linear", epoch - 1), 9) for epoch in (1, 2, 100, 101, 150)] == [
        1e-4,
        9.91e-5,
        1.09e-5,
        1e-5,
        1e-5,
    ]


def test_constant_after_warmup_is_minestudios() -> None:
    """min((step + 1) / warmup_steps, 1), and the seed's 4e-5 after 2000 steps."""
    assert [lr("constant", step, 10, 4) for step in (0, 2, 3, 4, 9)] == [0.25, 0.75, 1.0, 1.0, 1.0]
    assert [lr("constant", step) for step in (0, 50)] == [1.0, 1.0]
    seed = make_config(lr=4e-5, lr_scheduler="constant", lr_warmup_steps=2000, offline_steps=9000).training
    assert [learning_rate(seed, step) for step in (0, 999, 1999, 5000)] == pytest.approx([2e-8, 2e-5, 4e-5, 4e-5])


def test_warmup_longer_than_the_run() -> None:
    assert lr("cosine", 5, 10, 20) == 0.25


def test_learning_rate_of_a_configuration() -> None:
    config = make_config()
    assert learning_rate(config.training, 5) == pytest.approx(1e-3)
    assert learning_rate(config.training, 40) == pytest.approx(1e-4)
