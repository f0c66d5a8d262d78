"""The tiny policy that reads everything: each feature counts, two actions, saved and read again; the package installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.export.parity import compare, fixed_inputs
from tendon.policies.processing.processing import AUGMENT_NOISE, load_processing
from tendon.policies.spec import feature_from_json, feature_to_json
from tests.plugins.everything import install_everything
from tests.plugins.everything.config import EverythingConfig
from tests.plugins.everything.model import Everything

ROOT = Path(__file__).resolve().parents[2]
FRONT, WRIST, MASK, STATE = (
    "observation.images.front",
    "observation.images.wrist",
    "observation.masks.target",
    "observation.state",
)
FEATURES = {
    STATE: Feature(STATE, "state", (5,), "float32"),
    FRONT: Feature(FRONT, "image", (48, 64, 3), "uint8"),
    WRIST: Feature(WRIST, "image", (20, 28, 3), "uint8"),
    MASK: Feature(MASK, "mask", (48, 64), "uint8"),
    "task": Feature("task", "text", (), "int64"),
    "next.reward": Feature("next.reward", "reward", (1,), "float32"),
    "action.buttons": Feature("action.buttons", "action", (6,), "float32", tuple("abcdef")),
    "action.camera": Feature("action.camera", "action", (2,), "float32", ("pitch", "yaw")),
}
TEXTS = ("chop a tree", "collect dirt")


def stats() -> dict[str, FeatureStats]:
    numbers = {key: one.dim for key, one in FEATURES.items() if one.kind in ("state", "action", "reward")}
    values = (0.5, 2.0, -3.0, 5.0, -3.0, 5.0)
    return {key: FeatureStats(9, *((value,) * dim for value in values)) for key, dim in numbers.items()}


def policy() -> Everything:
    torch.manual_seed(0)
    made = Everything(EverythingConfig("everything"), FEATURES, stats())
    made.set_texts(TEXTS)
    return made


def batch(size: int = 6) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(size)
    buttons = (rng.random((size, 4, 6)) < 0.3).astype(np.float32)
    arrays = {
        STATE: rng.normal(size=(size, 2, 5)).astype(np.float32),
        FRONT: rng.integers(0, 256, (size, 1, 48, 64, 3), np.uint8),
        WRIST: rng.integers(0, 256, (size, 1, 20, 28, 3), np.uint8),
        MASK: (rng.random((size, 1, 48, 64)) < 0.4).astype(np.uint8),
        "task": rng.integers(0, 2, (size, 1)),
        "next.reward": rng.random((size, 4, 1), np.float32),
        "action.buttons": buttons,
        "action.camera": rng.uniform(-2, 4, (size, 4, 2)).astype(np.float32),
        "action.buttons_is_pad": np.zeros((size, 4), bool),
    }
    return {key: torch.from_numpy(values) for key, values in arrays.items()}


def seen(data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: data[key] for key in (STATE, FRONT, WRIST, MASK, "task")}


def test_it_learns_a_batch() -> None:
    made, data = policy(), batch()
    optimizer = torch.optim.Adam(made.parameters(), 3e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        output = made.loss(data)
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert not [name for name, p in made.named_parameters() if p.grad is None]


def test_every_feature_counts_in_the_loss_and_acting_sees_no_reward() -> None:
    made, data = policy(), batch()
    whole = made.loss(data).loss.item()
    for key in FEATURES:
        other = 1 - data[key] if key in (MASK, "task") else data[key].flip(0)
        assert made.loss(data | {key: other}).loss.item() != whole, key
    assert set(made.windows.acting) == {STATE, FRONT, WRIST, MASK, "task"}
    assert "next.reward" in made.windows.training
    actions, memory = made.act(seen(data), made.start(*range(6)))
    for key in seen(data):
        other = 1 - data[key] if key in (MASK, "task") else data[key].flip(0)
        changed, _ = made.act(seen(data) | {key: other}, made.start(*range(6)))
        assert (changed["action.camera"] - actions["action.camera"]).abs().max() > 1e-6, key
    assert memory.tolist() == [1] * 6


def test_it_gives_two_actions_in_the_units_of_the_dataset() -> None:
    made, data = policy(), batch()
    with torch.no_grad():
        made.view.bias.fill_(1.0)
        made.view.weight.zero_()
    actions, _ = made.act(seen(data))
    assert {key: tuple(one.shape) for key, one in actions.items()} == {
        "action.buttons": (6, 4, 6),
        "action.camera": (6, 4, 2),
    }
    assert set(actions["action.buttons"].unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(actions["action.camera"], torch.full((6, 4, 2), 5.0))  # 1 of [-1, 1] is the largest


def test_chance_comes_from_the_batch() -> None:
    made, data = policy(), batch()
    draws = torch.rand(6, made.num_draws, generator=torch.Generator().manual_seed(0))
    assert made.num_draws == 2 + 4
    one = made.loss(data | {AUGMENT_NOISE: draws}).loss
    assert torch.equal(one, made.loss(data | {AUGMENT_NOISE: draws}).loss)
    assert one.item() != made.loss(data).loss.item()


def test_padded_steps_do_not_count() -> None:
    made, data = policy(), batch()
    data["action.buttons_is_pad"][:, 2:] = True
    before = made.loss(data).loss
    data["action.camera"][:, 2:], data["action.buttons"][:, 2:], data["next.reward"][:, 2:] = 3.0, 1.0, 9.0
    assert torch.equal(made.loss(data).loss, before)


def test_its_weights_and_its_processing_are_read_again(tmp_path: Path) -> None:
    made = policy().eval()
    again = Everything(EverythingConfig("everything"), FEATURES, None).eval()
    again.load_state_dict(made.state_dict())
    again.set_texts(TEXTS)
    record = compare("it", made, again, fixed_inputs(made, FEATURES, len(TEXTS)))
    assert (record.max_abs_difference, record.holds) == (0.0, True)
    made.processing.save(tmp_path)
    loaded, data = load_processing(tmp_path), batch()
    assert all(torch.equal(loaded(data)[key], values) for key, values in made.processing(data).items())
    stored = json.loads(json.dumps({key: feature_to_json(one) for key, one in FEATURES.items()}))
    assert {key: feature_from_json(key, values) for key, values in stored.items()} == FEATURES


def test_a_camera_of_another_size_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=WRIST):
        policy().act(seen(batch()) | {WRIST: torch.zeros(6, 1, 20, 29, 3, dtype=torch.uint8)})


def test_it_is_a_package_that_is_found_by_name(tmp_path: Path) -> None:
    install_everything(tmp_path)
    code = (
        "import sys\n"
        "from tendon.config.compose import compose\n"
        "config = compose(['policy=everything', 'policy.chunk=6', 'data.uri=x', 'training.offline_steps=1']).policy\n"
        "print(config.chunk, type(config).__module__, config.model, 'torch' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["6", "everything.config", "everything.model:Everything", "False"], done.stderr
