"""robomimic's JSON: both seeds' files mean what they meant, and what would silently go wrong is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tendon.config.compose import compose
from tendon.config.foreign.robomimic import read_json, translate
from tendon.errors import ConfigError

HERE = Path(__file__).parent
BASE, TEMPLATE = HERE / "base.json", HERE / "bc_transformer.json"


def changed(file: Path, **values: Any) -> dict[str, Any]:
    """The file with keys replaced, their dots written as __."""
    tree = json.loads(file.read_text())
    for key, value in values.items():
        *branches, leaf = key.split("__")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return tree


def config_of(tree: dict[str, Any], **more: Any) -> Any:
    return compose([*translate(tree, **more).overrides, "data.uri=x"])


def mistakes(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        translate(tree)
    return "\n".join(f"{one.what}: {one.why}" for one in caught.value.problems)


def test_the_seeds_base_json() -> None:
    config = config_of(read_json(BASE))
    assert config.policy.name == "bc"
    assert config.policy.hidden_dims == (1024, 1024)
    assert config.policy.observation_normalization == "identity"
    assert (config.training.offline_steps, config.training.batch_size, config.training.lr) == (200_000, 100, 1e-4)
    assert (config.training.save_freq, config.training.eval_freq, config.seed) == (5000, 5000, 1)
    assert config.save.on_best_rollout_success_rate
    assert (config.data.split, config.data.valid_split) == ("train", "valid")
    assert (config.env.episode_length, config.eval.n_episodes) == (400, 50)
    assert config.env.observation == ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")


def test_the_transformer_template_is_our_default() -> None:
    translation = translate(read_json(TEMPLATE))
    config = compose([*translation.overrides, "data.uri=x"])
    own = compose(["policy=bc_transformer", "data.uri=x"])
    ignored = {"crop_size": own.policy.crop_size, "hidden_dims": own.policy.hidden_dims}  # type: ignore[attr-defined]
    assert {**vars(config.policy), **ignored} == vars(own.policy)
    for key in (
        "offline_steps",
        "batch_size",
        "lr",
        "optimizer",
        "weight_decay",
        "lr_scheduler",
        "lr_end_factor",
        "epoch_schedule",
    ):
        assert getattr(config.training, key) == getattr(own.training, key), key
    assert (config.data.split, config.data.valid_split) == ("all", "none")


@pytest.mark.parametrize("kind", ["linear", "multistep", "cosine"])
def test_a_transformer_without_an_epoch_schedule_is_not_given_the_policy_s(kind: str) -> None:
    rates = {"algo__optim_params__policy__learning_rate__epoch_schedule": []}
    rates["algo__optim_params__policy__learning_rate__scheduler_type"] = kind
    if kind == "cosine":
        more = {"step_every_batch": True, "num_cycles": 0.5, "warmup_steps": 3}
        rates |= {f"algo__optim_params__policy__learning_rate__{key}": value for key, value in more.items()}
    config = config_of(changed(TEMPLATE, **rates))
    assert tuple(config.training.epoch_schedule) == ()
    assert config.training.lr_scheduler == ("cosine" if kind == "cosine" else "constant")
    assert config.training.lr == 1e-4


def test_cameras_and_goals() -> None:
    modalities = {"obs": {"low_dim": ["a"], "rgb": ["b_image"]}, "goal": {"rgb": ["b_image"]}}
    config = config_of(changed(BASE, observation__modalities=modalities, train__goal_mode="last"))
    assert (config.env.observation, config.env.goal) == (("a", "b_image"), ("b_image",))


@pytest.mark.parametrize("head", [{}, {"algo__gmm__enabled": True}])
def test_recurrent(head: dict[str, Any]) -> None:
    tree = changed(BASE, algo__rnn__enabled=True, train__seq_length=10, algo__actor_layer_dims=[], **head)
    policy = config_of(tree).policy
    assert (policy.name, policy.horizon, policy.hidden_dim, policy.hidden_dims) == ("bc_rnn", 10, 400, ())
    assert policy.head == ("gmm" if head else "deterministic")


def test_other_heads() -> None:
    gaussian = config_of(changed(BASE, algo__gaussian={"enabled": True, "init_std": 0.2})).policy
    assert (gaussian.head, gaussian.min_std, gaussian.init_std) == ("gaussian", 0.01, 0.2)
    vae = config_of(changed(BASE, algo__vae={"enabled": True, "latent_dim": 7, "prior": {"learn": True}})).policy
    assert (vae.name, vae.latent_dim, vae.prior) == ("bc_vae", 7, "learned")


def test_v05_keys() -> None:
    tree = changed(
        BASE,
        train__action_keys=["actions"],
        train__action_config={"actions": {"normalization": "min_max"}},
        train__max_grad_norm=1.5,
        experiment__ckpt_path=None,
        experiment__env_meta_update_dict={},
    )
    config = config_of(tree)
    assert (config.policy.action_normalization, config.training.grad_clip_norm) == ("min_max", 1.5)


def test_v01_cameras_are_read_as_later_versions_write_them() -> None:
    tree = changed(
        BASE,
        observation__modalities={"obs": {"low_dim": ["proprio"], "image": ["agentview_image"]}},
        observation__encoder={
            "visual_core": "ResNet18Conv",
            "visual_feature_dimension": 48,
            "use_spatial_softmax": True,
        },
    )
    translation = translate(tree, for_weights=True)
    assert translation.cameras == ("agentview_image",)
    assert translation.policy["feature_dim"] == 48


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algo__rnn__enabled": True}, "algo.rnn.horizon is 10, train.seq_length 1"),
        ({"train__frame_stack": 4}, "train.frame_stack is 4: upstream's BC would then look at the oldest frame"),
        ({"algo__transformer": {"enabled": True}}, "frame_stack is 1, algo.transformer.context_length 10"),
        ({"algo__gaussian": {"enabled": True}, "algo__rnn__enabled": True}, "gaussian and algo.rnn are both enabled"),
        ({"algo__optim_params__policy__optimizer_type": "sgd"}, "goes on without an optimiser"),
        ({"train__batch_size": "hello"}, 'batch_size is "hello": it is a number'),
        ({"train__batchsize": 4}, "unknown key train.batchsize"),
        ({"train__goal_mode": "geom"}, "train.goal_mode"),
        ({"observation__modalities": {"obs": {"low_dim": ["a"]}, "goal": {"low_dim": ["a"]}}}, "goal names a"),
        ({"train__data": [{"path": "a"}]}, "train.data is a list"),
        ({"algo__actor_layer_dims": []}, "no layer at all"),
        ({"algo__rnn__kwargs": {"bidirectional": True}, "algo__rnn__enabled": True, "train__seq_length": 10}, "future"),
        ({"train__hdf5_validation_filter_key": "valid"}, "episodes it is validated on"),
        ({"experiment__epoch_every_n_steps": None}, "whose length is not known"),
        ({"observation__modalities": {"obs": {"low_dim": ["a"], "depth": ["b_depth"]}}}, "b_depth"),
        ({"algo__vae": {"enabled": True, "prior": {"use_gmm": True, "learn": True}}}, "prior.use_gmm is true"),
        ({"train__action_keys": ["actions_abs"]}, "actions_abs"),
    ],
)
def test_refusals(values: dict[str, Any], words: str) -> None:
    assert words in mistakes(changed(BASE, **values))


def test_another_algorithm_is_named() -> None:
    with pytest.raises(ConfigError, match="'diffusion_policy' is not here"):
        translate({"algo_name": "diffusion_policy"})


def test_masks_that_the_file_lacks() -> None:
    with pytest.raises(ConfigError, match="no mask valid"):
        translate(read_json(BASE), splits=("train",))


def test_a_pass_over_the_data() -> None:
    tree = changed(BASE, experiment__epoch_every_n_steps=None, train__num_epochs=3)
    assert config_of(tree, steps_per_pass=17).training.offline_steps == 51


def test_pred_future_keeps_upstreams_mask_and_says_so() -> None:
    tree = changed(
        TEMPLATE,
        algo__transformer__pred_future_acs=True,
        algo__transformer__supervise_all_steps=True,
        train__seq_length=10,
    )
    translation = translate(tree)
    assert translation.policy["future_attention"] == "causal"
    assert any("oldest observation only" in note for note in translation.notes)


def test_the_tree_is_not_changed() -> None:
    tree = json.loads(BASE.read_text())
    before = copy.deepcopy(tree)
    translate(tree)
    assert tree == before
