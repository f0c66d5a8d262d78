"""Windows, memory and chance of the sequence policies: what no golden file of upstream holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.policies.bc_transformer.model import BcTransformer
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.registry import make_policy
from tests.policies.features_of import features_of

FEATURES = {"observation.object": 5, "observation.robot0_eef_pos": 3, "action": 4}
SMALL = {
    "bc_rnn": ["policy.hidden_dim=8", "policy.hidden_dims=[]", "policy.horizon=3", "policy.seq_length=3"],
    "bc_transformer": [
        "policy.embed_dim=8",
        "policy.num_heads=2",
        "policy.num_layers=2",
        "policy.context_length=4",
        "policy.emb_dropout=0",
        "policy.attn_dropout=0",
        "policy.block_output_dropout=0",
    ],
    "bc_vae": ["policy.encoder_dims=[8]", "policy.decoder_dims=[8]"],
    "bc_gaussian": ["policy.hidden_dims=[8]", "policy.low_noise_eval=false"],
}
SMALL["bc_rnn_gmm"] = [*SMALL["bc_rnn"], "policy.open_loop=true"]


def policy_of(name: str, *more: str) -> Any:
    torch.manual_seed(0)
    return make_policy(compose([f"policy={name}", "data.uri=x", *SMALL[name], *more]).policy, features_of(FEATURES))


def batch_of(policy: BehaviourCloning, size: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    spans = policy.windows.training
    times, steps = len(spans[policy.reads[0]].deltas), len(spans["action"].deltas)
    made = {k: torch.randn(size, times, FEATURES[k], generator=generator) for k in policy.reads}
    made["action"] = torch.rand(size, steps, 4, generator=generator) * 2 - 1
    made["action_is_pad"] = torch.zeros(size, steps, dtype=torch.bool)
    return made


def observation(seed: int, size: int, times: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(size, times, d, generator=generator) for k, d in FEATURES.items() if k != "action"}


@pytest.mark.parametrize("name", list(SMALL))
def test_every_policy_learns_a_batch(name: str) -> None:
    policy = policy_of(name)
    optimizer, data = torch.optim.Adam(policy.parameters(), 1e-2), batch_of(policy)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        output = policy.loss(data)
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0] - 0.1 * abs(losses[0])
    unused = [n for n, p in policy.named_parameters() if p.grad is None]
    assert not unused, unused


@pytest.mark.parametrize("name", list(SMALL))
def test_an_episodes_actions_do_not_depend_on_its_neighbours(name: str) -> None:
    policy = policy_of(name).eval()
    times = len(policy.windows.acting[policy.reads[0]].deltas)
    together, alone = policy.start(7, 8, 9), policy.start(8)
    for step in range(5):
        seen = observation(step, 3, times)
        many, together = policy.act(seen, together)
        one, alone = policy.act({key: value[1:2] for key, value in seen.items()}, alone)
        torch.testing.assert_close(many["action"][1], one["action"][0], rtol=1e-5, atol=1e-6)


def test_the_state_starts_anew_every_horizon() -> None:
    policy = policy_of("bc_rnn").eval()
    memory, same, actions = policy.start(1), observation(3, 1), []
    for _ in range(6):
        action, memory = policy.act(same, memory)
        actions.append(action["action"])
    assert torch.equal(actions[0], actions[3])
    assert torch.equal(actions[2], actions[5])
    assert not torch.equal(actions[0], actions[1])


def test_open_loop_holds_the_first_observation() -> None:
    policy = policy_of("bc_rnn", "policy.open_loop=true").eval()
    first, others = observation(1, 1), [observation(s, 1) for s in (2, 3)]
    memory, changing = policy.start(1), []
    for seen in (first, *others):
        action, memory = policy.act(seen, memory)
        changing.append(action["action"])
    memory, holding = policy.start(1), []
    for _ in range(3):
        action, memory = policy.act(first, memory)
        holding.append(action["action"])
    assert all(torch.equal(a, b) for a, b in zip(changing, holding, strict=True))


def steps_of(policy: Any) -> tuple[tuple[int, ...], ...]:
    """Of observations and actions in training, and of observations when acting."""
    windows = policy.windows
    for spans in (windows.training, windows.acting):
        assert len({spans[key] for key in policy.reads}) == 1
    assert (windows.chunk, windows.execute) == (1, 1)
    return tuple(
        spans[key].deltas
        for spans, key in (
            (windows.training, policy.reads[0]),
            (windows.training, "action"),
            (windows.acting, policy.reads[0]),
        )
    )


def test_windows_are_robomimics() -> None:
    rnn, transformer = policy_of("bc_rnn"), policy_of("bc_transformer")
    assert steps_of(rnn) == ((0, 1, 2), (0, 1, 2), (0,))
    assert steps_of(transformer) == ((-3, -2, -1, 0), (0,), (-3, -2, -1, 0))
    everything = policy_of("bc_transformer", "policy.supervise_all_steps=true")
    assert steps_of(everything)[1] == (-3, -2, -1, 0)
    future = policy_of("bc_transformer", "policy.supervise_all_steps=true", "policy.pred_future_acs=true")
    assert steps_of(future)[1] == (0, 1, 2, 3)


@pytest.mark.parametrize(("attention", "sees_now"), [("full", True), ("causal", False)])
def test_future_actions_see_the_newest_observation(attention: str, sees_now: bool) -> None:
    """Under upstream's causal mask the executed token sees the oldest frame alone."""
    policy = policy_of(
        "bc_transformer",
        "policy.supervise_all_steps=true",
        "policy.pred_future_acs=true",
        f"policy.future_attention={attention}",
        "policy.head=deterministic",
    ).eval()
    seen = observation(1, 1, 4)
    newer = {key: torch.cat([value[:, :1], value[:, 1:] + 3], 1) for key, value in seen.items()}
    changed = (policy.act(seen)[0]["action"] - policy.act(newer)[0]["action"]).abs().max().item()
    assert (changed > 1e-4) == sees_now
    assert sees_now or changed == 0.0


def test_the_last_token_alone_gives_the_same_numbers() -> None:
    policy = policy_of("bc_transformer").eval()
    assert isinstance(policy, BcTransformer)
    tokens = torch.randn(3, 4, 8)
    whole, last = policy.transformer(tokens), policy.transformer(tokens, last_only=True)
    torch.testing.assert_close(whole[:, -1:], last, rtol=1e-5, atol=1e-6)


def test_padded_steps_count_unless_they_are_masked() -> None:
    for masked in (False, True):
        policy = policy_of("bc_rnn", f"policy.mask_padding={str(masked).lower()}")
        data = batch_of(policy)
        data["action_is_pad"][:, 2] = True
        before = policy.loss(data).loss.item()
        data["action"][:, 2] = 0.9
        assert math.isclose(before, policy.loss(data).loss.item()) == masked


def test_goals_are_one_step_repeated() -> None:
    config = compose(["policy=bc_rnn", "data.uri=x", *SMALL["bc_rnn"]]).policy
    policy = make_policy(config, features_of(FEATURES | {"goal.observation.object": 5}))
    assert policy.reads == (
        "observation.object",
        "observation.robot0_eef_pos",
        "goal.observation.object",
    )
    data = batch_of(policy_of("bc_rnn")) | {"goal.observation.object": torch.randn(5, 1, 5)}
    one = policy.loss(data).loss.item()
    assert policy.loss(data | {"goal.observation.object": torch.zeros(5, 1, 5)}).loss.item() != one


def test_scans_are_three_convolutions() -> None:
    features = {"observation.object": 5, "observation.scans.lidar": (1, 64), "action": 4}
    config = compose(["policy=bc", "data.uri=x", "policy.hidden_dims=[8]"]).policy
    policy = make_policy(config, features_of(features))
    data = {"observation.object": torch.randn(2, 1, 5), "observation.scans.lidar": torch.randn(2, 1, 1, 64)}
    assert policy.act(data)[0]["action"].shape == (2, 1, 4)
    assert isinstance(policy, BehaviourCloning)
    layers = [layer for layer in policy.encoder.modules() if isinstance(layer, torch.nn.Conv1d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in layers] == [(32, 8, 4), (64, 4, 2), (64, 2, 1)]
