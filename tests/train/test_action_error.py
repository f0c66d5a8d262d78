"""Action error: numbers worked out by hand, and no policy is shown a step that lies in its future."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.config.schema import PolicyConfig
from tendon.data.features import Feature
from tendon.policies.base import Batch, Memory, Policy
from tendon.policies.registry import make_policy
from tendon.policies.windows import Windows, windows_of
from tendon.train.loop.action_error import action_error
from tendon.train.loop.data_feeds import Episode
from tests.policies.features_of import features_of
from tests.train.small_trial import feature_stats

CPU = torch.device("cpu")
DIMS = {"observation.a_agent": 2, "observation.b_target": 3, "action": 2}
FEATURES = features_of(DIMS)
STATS = {key: feature_stats(0.0, 1.0, -1.0, 1.0, dim) for key, dim in DIMS.items()}
RNN = ["policy.hidden_dim=8", "policy.hidden_dims=[]", "policy.horizon=4", "policy.seq_length=4"]
TRANSFORMER = ["policy.embed_dim=8", "policy.num_heads=2", "policy.num_layers=1", "policy.context_length=4"]
FUTURE = ["policy.supervise_all_steps=true", "policy.pred_future_acs=true"]

SEE_NOW = tuple(
    f"{name}{size}"
    for name in ("act_clip", "dp_clip", "pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5")
    for size in ("", "_tiny")
)


def _policy(*keys: str) -> list[str]:
    return [f"policy.{key}" for key in keys]


ACT = _policy("dim_model=8", "n_heads=2", "dim_feedforward=8", "chunk_size=4", "n_action_steps=1")
DIFFUSION = _policy(
    "down_dims=[8,16]",
    "n_groups=4",
    "diffusion_step_embed_dim=8",
    "horizon=4",
    "n_action_steps=1",
    "num_inference_steps=2",
)
VQBET = _policy(
    *("n_obs_steps=2", "n_action_pred_token=2", "action_chunk_size=1", "vqvae_n_embed=4", "vqvae_embedding_dim=6"),
    *(
        "vqvae_enc_hidden_dim=8",
        "gpt_input_dim=12",
        "gpt_output_dim=10",
        "gpt_n_layer=1",
        "gpt_n_head=2",
        "gpt_hidden_dim=8",
    ),
)
TDMPC = _policy(
    *("horizon=2", "latent_dim=6", "mlp_dim=8", "state_encoder_hidden_dim=8", "n_action_repeats=1", "n_action_steps=1"),
    *("cem_iterations=2", "n_gaussian_samples=8", "n_pi_samples=2", "n_elites=3"),
)
FAMILIES = {
    "bc": ["policy=bc", "policy.hidden_dims=[8]"],
    "bc_gaussian": ["policy=bc_gaussian", "policy.hidden_dims=[8]", "policy.low_noise_eval=false"],
    "bc_gmm": ["policy=bc_gmm", "policy.hidden_dims=[8]"],
    "bc_vae": ["policy=bc_vae", "policy.encoder_dims=[8]", "policy.decoder_dims=[8]"],
    "bc_rnn": ["policy=bc_rnn", *RNN],
    "bc_rnn_gmm": ["policy=bc_rnn_gmm", *RNN],
    "bc_rnn, open loop": ["policy=bc_rnn", *RNN, "policy.open_loop=true"],
    "bc_transformer": ["policy=bc_transformer", *TRANSFORMER],
    "bc_transformer_gmm": ["policy=bc_transformer_gmm", *TRANSFORMER],
    "bc_transformer, future actions": ["policy=bc_transformer", *TRANSFORMER, *FUTURE],
    "act": ["policy=act", *ACT],
    "act_pusht": ["policy=act_pusht", *ACT],
    "act, every step": ["policy=act", *ACT, "policy.temporal_ensemble_coeff=0.01"],
    "diffusion": ["policy=diffusion", *DIFFUSION],
    "diffusion_pusht_keypoints": ["policy=diffusion_pusht_keypoints", *DIFFUSION],
    "vqbet": ["policy=vqbet", *VQBET],
    "tdmpc": ["policy=tdmpc", *TDMPC],
    "tdmpc_pusht_keypoints": ["policy=tdmpc_pusht_keypoints", *TDMPC],
}


@dataclass(frozen=True)
class EchoConfig(PolicyConfig):
    """What it sees, and how many actions it gives."""

    deltas: tuple[int, ...] = (0,)
    num_actions: int = 1

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        targets = range(self.num_actions)
        return windows_of(
            ("observation.a_agent",),
            ("action",),
            self.deltas,
            targets,
            chunk=self.num_actions,
            execute=self.num_actions,
        )


class Echo(Policy):
    """Acts as it sees: the newest ``observation.a_agent``, plus how often it has acted before in this episode."""

    def __init__(self, reading_deltas: tuple[int, ...] = (0,), num_actions: int = 1) -> None:
        super().__init__(EchoConfig("echo", reading_deltas, num_actions), FEATURES)

    def start(self, *seeds: int) -> Memory:
        return torch.zeros(len(seeds), 1, 1)

    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        newest = observation["observation.a_agent"][:, -1:]
        return {"action": newest.expand(-1, self.windows.execute, -1) + memory}, memory + 1


def episodes_of(*lengths: int, seed: int = 0) -> list[Episode]:
    generator = np.random.default_rng(seed)
    return [
        {key: generator.uniform(-1, 1, (length, dim)).astype(np.float32) for key, dim in DIMS.items()}
        for length in lengths
    ]


def test_the_error_is_that_of_what_the_policy_saw_and_remembers() -> None:
    """By hand: at step t the policy answers observation + t; steps behind the end of the short episode do not count."""
    episodes = episodes_of(5, 3)
    policy = Echo()
    error = action_error(policy, policy.act, episodes, CPU)
    differences = np.concatenate(
        [one["observation.a_agent"] + np.arange(len(one["action"]))[:, None] - one["action"] for one in episodes]
    )
    assert error["action_mse"] == pytest.approx(float(np.square(differences).mean()), rel=1e-5)
    assert error["action_l1"] == pytest.approx(float(np.abs(differences).mean()), rel=1e-5)


def test_actions_executed_in_a_row_are_compared_with_their_own_steps() -> None:
    """Two actions at a time of five steps: the policy is asked at 0, 2 and 4, and the sixth action has no counterpart."""
    (episode,) = episodes_of(5)
    policy = Echo(reading_deltas=(-1, 0), num_actions=2)
    error = action_error(policy, policy.act, [episode], CPU)
    predicted = episode["observation.a_agent"][[0, 0, 2, 2, 4]] + np.array([[0], [0], [1], [1], [2]])
    assert error["action_mse"] == pytest.approx(float(np.square(predicted - episode["action"]).mean()), rel=1e-5)


def actions_over(policy: Policy, episodes: Sequence[Episode]) -> list[torch.Tensor]:
    """What the policy answers at each step at which validation asks it."""
    answers: list[torch.Tensor] = []

    def act(observation: Batch, memory: Memory) -> tuple[Batch, Memory]:
        actions, memory = policy.act(observation, memory)
        answers.append(actions["action"])
        return actions, memory

    action_error(policy, act, episodes, CPU)
    return answers


@pytest.mark.parametrize("family", list(FAMILIES))
def test_validation_shows_no_policy_the_future(family: str) -> None:
    """Other observations after step t: the actions until t are the same bits, and later ones are not all the same."""
    torch.manual_seed(0)
    policy = make_policy(compose([*FAMILIES[family], "data.uri=x"]).policy, FEATURES, STATS).eval()
    episodes, others = episodes_of(9, 7), episodes_of(9, 7, seed=1)
    expected = actions_over(policy, episodes)
    for t in range(6):
        changed = [cut(episode, other, t) for episode, other in zip(episodes, others, strict=True)]
        actions = actions_over(policy, changed)
        assert all(torch.equal(actions[step], expected[step]) for step in range(t + 1)), f"step {t} sees a later one"
        assert any(not torch.equal(actions[step], expected[step]) for step in range(t + 1, 9)), "nothing is looked at"


def cut(episode: Episode, other: Episode, t: int) -> Episode:
    """The episode with the observations of another one after step t."""
    return {
        key: values if key == "action" else np.concatenate([values[: t + 1], other[key][t + 1 :]])
        for key, values in episode.items()
    }


def test_every_policy_of_the_tree_is_looked_at() -> None:
    from tendon.config.tree import search_path

    assert set(search_path(None).groups()["policy"]) <= {*FAMILIES, *SEE_NOW}


@pytest.mark.parametrize("name", SEE_NOW)
def test_what_reads_cameras_and_an_instruction_is_shown_the_present_alone(name: str) -> None:
    from tendon.data.features import Feature

    camera, task = "observation.images.front", "task"
    told = {camera: Feature(camera, "image", (40, 48, 3), "uint8"), task: Feature(task, "text", (), "int64")}
    windows = compose([f"policy={name}", "data.uri=x"]).policy.windows({**FEATURES, **told})
    assert {span.deltas for span in windows.acting.values()} == {(0,)}
    assert {camera, task} <= set(windows.acting)
