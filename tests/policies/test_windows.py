"""No policy sees the future: not when it acts, and not in a prediction that its loss judges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.policies.registry import make_policy
from tendon.policies.windows import GOAL, NOW, Span, windows_of
from tests.policies.features_of import features_of
from tests.policies.test_family import SMALL

FEATURES = features_of({"observation.a": 3, "observation.b": 2, "action": 4})
FUTURE = ("policy.supervise_all_steps=true", "policy.pred_future_acs=true")
CASES: dict[str, tuple[str, ...]] = {
    "bc": ("policy=bc", "policy.hidden_dims=[8]"),
    "bc_gaussian": ("policy=bc_gaussian", *SMALL["bc_gaussian"]),
    "bc_gmm": ("policy=bc_gmm", "policy.hidden_dims=[8]"),
    "bc_vae": ("policy=bc_vae", *SMALL["bc_vae"]),
    "bc_rnn": ("policy=bc_rnn", *SMALL["bc_rnn"]),
    "bc_rnn_gmm": ("policy=bc_rnn_gmm", *SMALL["bc_rnn_gmm"]),
    "bc_rnn, open loop": ("policy=bc_rnn", *SMALL["bc_rnn"], "policy.open_loop=true"),
    "bc_transformer": ("policy=bc_transformer", *SMALL["bc_transformer"]),
    "bc_transformer_gmm": ("policy=bc_transformer_gmm", *SMALL["bc_transformer"], "policy.supervise_all_steps=true"),
    "bc_transformer, future": ("policy=bc_transformer", *SMALL["bc_transformer"], *FUTURE),
}


def policy_of(case: str) -> Any:
    torch.manual_seed(0)
    return make_policy(compose([*CASES[case], "data.uri=x"]).policy, FEATURES)


@pytest.mark.parametrize("case", list(CASES))
def test_no_prediction_of_the_loss_follows_a_later_observation(case: str) -> None:
    """By its gradient: the loss of validation may look at a whole sequence, each of its predictions may not."""
    policy = policy_of(case)
    spans = policy.windows.training
    targets = spans["action"].deltas
    seen = {key: torch.randn(2, len(spans[key].deltas), FEATURES[key].dim, requires_grad=True) for key in policy.reads}
    caught: list[Any] = []
    policy.head.register_forward_hook(lambda module, inputs, output: caught.append(output))
    policy.loss(seen | {"action": torch.rand(2, len(targets), 4), "action_is_pad": torch.zeros(2, len(targets)).bool()})
    predicted = caught[0] if isinstance(caught[0], torch.Tensor) else caught[0].mean
    predicted = predicted if predicted.shape[1] == len(targets) else predicted.unsqueeze(1)
    follows = 0.0
    for place, target in enumerate(targets):
        gradients = torch.autograd.grad(predicted[:, place].sum(), [*seen.values()], retain_graph=True)
        for key, gradient in zip(seen, gradients, strict=True):
            for step, delta in enumerate(spans[key].deltas):
                size = gradient[:, step].abs().max().item()
                assert size == 0 or delta <= target, f"the action at {target} follows {key} at {delta}"
                follows += size
    assert follows > 0


def test_acting_may_not_ask_for_a_later_step() -> None:
    with pytest.raises(ValueError, match="it may read steps up to now"):
        windows_of(("observation.a",), ("action",), (0, 1), (0,))
    windows = windows_of(("observation.a",), ("action",), (0, 1), (0,), acting=(0,))
    assert windows.validation["observation.a"] == NOW


def test_a_goal_is_one_step_whatever_the_others_have() -> None:
    goal = f"{GOAL}observation.a"
    windows = windows_of(("observation.a", goal), ("action",), (-1, 0), range(4), chunk=4, execute=2)
    assert windows.training == {"observation.a": Span((-1, 0)), goal: NOW, "action": Span((0, 1, 2, 3))}
    assert windows.acting == {"observation.a": Span((-1, 0)), goal: NOW}
    assert (windows.chunk, windows.execute) == (4, 2)
