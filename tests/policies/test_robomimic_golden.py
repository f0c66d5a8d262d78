"""The same weights and inputs give robomimic's outputs, losses, gradients and episodes (golden files of robomimic 0.3.0)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tendon.policies.bc_vae.model import BcVae
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.parts.heads import DeterministicHead, MixtureHead
from tendon.weights.formats.robomimic.pth import import_content

GOLDEN = Path(__file__).parents[1] / "golden" / "robomimic"
TOLERANCE = 1e-5
CASES = sorted(file.stem for file in GOLDEN.glob("*.npz"))


def fill(name: str, shape: list[int]) -> torch.Tensor:
    """As golden/robomimic/make.py fills the image nets."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return torch.from_numpy(np.abs(values) * 0.5 + 0.5)
    return torch.from_numpy(
        np.asarray(values / np.float32(np.sqrt(max(int(np.prod(shape[1:])) if len(shape) > 1 else 10, 1))))
    )


def content_of(golden: Any) -> dict[str, Any]:
    """What the .pth of a case holds."""
    meta = json.loads(bytes(golden["meta"]))
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(golden[name]) for name in golden if name.startswith("weights/")
    }
    if not weights:
        weights = image_weights(meta)
    shapes = {"ac_dim": meta["ac_dim"], "all_shapes": meta["shapes"], "all_obs_keys": sorted(meta["shapes"])}
    config = meta["config"]
    if meta["case"] == "image_bc_resnet34":  # the peer has the layers, not the name
        config["observation"]["encoder"]["rgb"]["core_kwargs"]["backbone_class"] = "ResNet34Conv"
    return {"model": weights, "config": json.dumps(config), "algo_name": "bc", "shape_metadata": shapes}


def image_weights(meta: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The seeded weights; robomimic's second name of a tensor takes the filling of the first."""
    weights: dict[str, torch.Tensor] = {}
    for name, size in zip(meta["names"], meta["sizes"], strict=True):
        first = name
        for part, other in (("nets.0.nets.", "backbone.nets."), ("nets.1.", "pool.")):
            head, mark, tail = name.partition(f"{meta_camera(name)}.{part}")
            if mark:
                first = f"{head}{meta_camera(name)}.{other}{tail}"
        first = first.replace("per_step_net.0._model", "@").replace("per_step_net.1.nets", "#")
        first = first.replace("nets.rnn.@", "nets.mlp._model").replace("nets.rnn.#", "nets.decoder.nets")
        if name.endswith("attention.mask"):
            weights[name] = torch.tril(torch.ones(size[-1], size[-1])).view(size)
        elif name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
        elif name.endswith("temperature"):
            weights[name] = torch.ones(1)
        elif name.endswith(("pos_x", "pos_y")):
            side = int(size[1] ** 0.5)
            x, y = np.meshgrid(np.linspace(-1.0, 1.0, side), np.linspace(-1.0, 1.0, side))
            weights[name] = torch.from_numpy((x if name.endswith("x") else y).reshape(1, -1)).float()
        elif name.endswith("embed_timestep"):
            weights[name] = fill(first, size)
        else:
            weights[name] = fill(first, size)
    return weights


def meta_camera(name: str) -> str:
    return "agentview_depth" if "agentview_depth" in name else "agentview_image"


def batch_of(golden: Any, prefix: str, features: Any) -> dict[str, torch.Tensor]:
    """Our batch from robomimic's keys; cameras are bytes with channels last."""
    batch = {}
    for key in features:
        if key == "action":
            continue
        source = (
            f"goal/{key.removeprefix('goal.observation.')}"
            if key.startswith("goal.")
            else f"{prefix}/{key.split('.')[-1]}"
        )
        values = golden[source]
        if key.startswith("goal."):
            values = values[:, None]
        batch[key] = torch.from_numpy(np.moveaxis(values, -3, -1) if values.dtype == np.uint8 else values)
    return batch


def policy_of(case: str) -> tuple[BehaviourCloning, Any, Any]:
    golden = np.load(GOLDEN / f"{case}.npz")
    imported = import_content(content_of(golden), case)
    assert isinstance(imported.policy, BehaviourCloning)
    return imported.policy, imported.info, golden


@pytest.mark.parametrize("case", CASES)
def test_losses_and_outputs(case: str) -> None:
    policy, info, golden = policy_of(case)
    image = case.startswith("image")
    policy.train(not image)
    for module in policy.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    batch = batch_of(golden, "in", info.features)
    spans = policy.windows.training
    num_times = len(spans[policy.reads[0]].deltas)
    action = torch.from_numpy(golden["action"])
    now = 0 if num_times == 1 else num_times - 1
    batch["action"] = action if len(spans["action"].deltas) > 1 else action[:, now : now + 1]
    batch = {key: value[:, :num_times] if not key.startswith("goal.") else value for key, value in batch.items()}
    torch.manual_seed(5)
    output = policy.loss(batch)
    np.testing.assert_allclose(output.loss.item(), golden["loss/action_loss"], rtol=TOLERANCE, atol=TOLERANCE)
    for theirs, ours in {
        "l2_loss": "l2_loss",
        "l1_loss": "l1_loss",
        "cos_loss": "cos_loss",
        "kl_loss": "kl_loss",
    }.items():
        if f"loss/{theirs}" in golden and ours in output.metrics:
            np.testing.assert_allclose(output.metrics[ours], golden[f"loss/{theirs}"], rtol=TOLERANCE, atol=TOLERANCE)
    if "grad_norm" in golden:
        output.loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in policy.parameters() if p.grad is not None]).item()
        np.testing.assert_allclose(norm, golden["grad_norm"], rtol=1e-4)
    if isinstance(policy, BcVae):
        return
    got = heads(policy, batch)
    if isinstance(policy.head, DeterministicHead):
        expected = golden["prediction/actions"]
        np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=TOLERANCE, rtol=TOLERANCE)
    else:
        expected = golden["prediction/log_probs"]
        log_prob = got.log_prob(policy.normalize_action(batch["action"])).detach()
        np.testing.assert_allclose(log_prob.reshape(expected.shape), expected, atol=TOLERANCE, rtol=TOLERANCE)


def heads(policy: BehaviourCloning, batch: dict[str, torch.Tensor]) -> Any:
    """What the head gives in training, caught on its way."""
    caught = []
    handle = policy.head.register_forward_hook(lambda module, inputs, output: caught.append(output))
    policy.loss(batch)
    handle.remove()
    return caught[0].detach() if isinstance(caught[0], torch.Tensor) else caught[0]


@pytest.mark.parametrize("case", CASES)
def test_an_episode_of_actions(case: str) -> None:
    """Frame stack padding, and the state of a recurrent net, which starts anew every horizon steps."""
    policy, info, golden = policy_of(case)
    policy.eval()
    if isinstance(policy, BcVae):
        seen = policy.encoder(
            {key: value[:1, None] for key, value in batch_of(golden, "episode", info.features).items()}
        )[:, 0]
        latent = torch.from_numpy(golden["vae_noise"][:1])
        with torch.no_grad():
            np.testing.assert_allclose(policy._decode(latent, seen), golden["vae_decoded"], atol=TOLERANCE)
        return
    if isinstance(policy.head, MixtureHead):  # the most probable mode instead of a draw
        policy.choose = lambda features, noise: (most_probable(policy, features), noise)  # type: ignore[method-assign]
    values, memory = batch_of(golden, "episode", info.features), policy.start(3)
    for step, expected in enumerate(golden["episode_actions"]):
        rows = [max(0, step + delta) for delta in policy.windows.acting[policy.reads[0]].deltas]
        observation = {
            key: value[:1] if key.startswith("goal.") else value[rows][None] for key, value in values.items()
        }
        action, memory = policy.act(observation, memory)
        np.testing.assert_allclose(action["action"][0, 0], expected, atol=TOLERANCE, err_msg=f"step {step}")


def most_probable(policy: BehaviourCloning, features: torch.Tensor) -> torch.Tensor:
    mixture = policy.head(features)
    return mixture.mean[torch.arange(len(features)), mixture.logits.argmax(-1)]
