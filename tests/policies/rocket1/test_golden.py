"""ROCKET-1's numbers are MineStudio 1.1.6's: distributions, losses, memory, gradients, codec, KL (tests/golden/minestudio/make.py)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.minestudio import KLDivergenceCallback
from tendon.policies.rocket1.actions import CODEC
from tendon.policies.rocket1.classes import ActionClasses
from tendon.policies.rocket1.features import BUTTON_NAMES
from tendon.train.loop.ema import Ema
from tests.golden.minestudio import seeded
from tests.policies.rocket1.golden import GOLDEN, META, VARIANTS, WINDOWS, batch_of, first_of, make, windows_of

CLASSES = {"buttons": slice(None, None, 67), "camera": slice(None)}
NEAR = 1e-5
NEAR_OF_BATCH = 6e-5  # division by a batch's own deviation magnifies rounding: 2.4e-5 between processors


def assert_near(ours: object, theirs: np.ndarray, tolerance: float = NEAR) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance)


def run(
    variant: str, policy: object, windows: list, first: np.ndarray | None, prefix: str, tolerance: float = NEAR
) -> None:
    """Every number of the golden, window after window."""
    near = partial(assert_near, tolerance=tolerance)
    memory = None
    seen: dict[str, torch.Tensor] = {}
    policy.net.register_forward_hook(lambda module, inputs, outputs: seen.update(outputs[0]))
    for i, arrays in enumerate(windows):
        batch = batch_of(arrays, None if first is None else first[i])
        with torch.set_grad_enabled(i + 1 == len(windows)):
            output = policy.loss(batch, memory)
        memory = {key: value.detach() for key, value in output.memory.items()}
        for head, some in CLASSES.items():
            near(seen[head].detach()[:, :, some], GOLDEN[f"{prefix}/{i}/{head}"])
        near(0.01 * output.loss.detach(), GOLDEN[f"{prefix}/{i}/loss"])
        for key in ("camera_loss", "button_loss", "entropy"):
            near(output.metrics[key], GOLDEN[f"{prefix}/{i}/{key}"])
    for key in ("keys", "values"):
        near(memory[key], GOLDEN[f"{prefix}/memory/{key}"])
    assert (memory["valid"][:, None].numpy() == GOLDEN[f"{prefix}/memory/valid"]).all()
    if first is None:
        (0.01 * output.loss).backward()
        for name, parameter in policy.net.named_parameters():
            if f"{prefix}/grad/{name}" in GOLDEN:
                near(parameter.grad.double().norm(), GOLDEN[f"{prefix}/grad/{name}"])
            else:
                assert name.startswith("value_head."), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_distributions_losses_memory_and_gradients(variant: str) -> None:
    policy = make(**VARIANTS[variant])
    run(variant, policy, windows_of(variant, policy.config.timesteps), None, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_episodes_that_begin_inside_a_window(variant: str) -> None:
    policy = make(**VARIANTS[variant])
    steps = policy.config.timesteps
    run(variant, policy, windows_of(variant, steps), first_of(steps), f"{variant} first")


def test_batch_statistics() -> None:
    policy = make()
    policy.net.backbone.train()
    run("plain", policy, windows_of("plain", 8, tail=0), None, "batch norm", NEAR_OF_BATCH)
    assert_near(policy.net.backbone.bn1.running_mean, GOLDEN["batch norm/running_mean"])


def test_classes_of_random_actions() -> None:
    buttons = np.unpackbits(GOLDEN["codec/buttons"])[: 4000 * 20].reshape(4000, 20)
    camera = GOLDEN["codec/camera"]
    ours = dict(zip(("buttons", "camera"), CODEC.encode(buttons, camera), strict=True))
    order = list(reversed(range(20)))  # a dataset's columns may come in any order
    shuffled = ActionClasses(CODEC, [BUTTON_NAMES[i] for i in order])
    tensors = torch.from_numpy(buttons[:, order].astype(np.float32)), torch.from_numpy(camera)
    on_device = shuffled.encode(*tensors)
    for head in ("buttons", "camera"):
        assert (ours[head] == GOLDEN[f"codec/{head}_classes"]).all()
        assert (on_device[head].numpy() == GOLDEN[f"codec/{head}_classes"]).all()
    pressed, degrees = shuffled.decode(on_device["buttons"], on_device["camera"])
    plain = CODEC.decode(ours["buttons"], ours["camera"])
    assert (pressed.numpy()[:, order] == plain[0]).all()
    np.testing.assert_allclose(degrees.numpy(), plain[1], rtol=1e-6)


def test_the_moving_average_follows_their_rule() -> None:
    """Their EMAOptimizer over eight updates: what ``-EMA.ckpt`` holds."""
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.from_numpy(seeded.weights(f"ema {name}", tuple(parameter.shape))))
    config = compose(["data.uri=x", "ema.enable=true", "ema.decay=0.9", "ema.every_n_steps=3"]).ema
    average, optimizer = Ema(config, dict(layer.named_parameters())), torch.optim.SGD(layer.parameters(), 0.1)
    for step in range(8):
        optimizer.zero_grad()
        layer(
            torch.from_numpy(seeded.rng(f"ema {step}").standard_normal((4, 3)).astype(np.float32))
        ).square().mean().backward()
        optimizer.step()
        average.update(step)
    for name, tensor in average.tensors().items():
        np.testing.assert_allclose(tensor.numpy(), GOLDEN[f"ema/{name}"], rtol=1e-6, atol=1e-7)
        assert not np.allclose(dict(layer.named_parameters())[name].detach().numpy(), GOLDEN[f"ema/{name}"], rtol=1e-3)


def test_the_divergence_is_theirs() -> None:
    a, b, c, d = (
        torch.from_numpy(seeded.rng(f"kl {key}").standard_normal((5, 7)).astype(np.float32)) for key in "abcd"
    )
    latents = {"posterior_dist": {"mu": a, "log_var": b}, "prior_dist": {"mu": c, "log_var": d}}
    result = KLDivergenceCallback(weight=0.5)(latents)
    assert_near(result["kl_div"], GOLDEN["kl/kl_div"])
    assert_near(result["loss"], 0.5 * GOLDEN["kl/kl_div"])


def test_the_golden_is_of_the_stated_release() -> None:
    assert META["minestudio"] == "1.1.6"
    assert WINDOWS == 3
    assert seeded.BUTTONS == BUTTON_NAMES
