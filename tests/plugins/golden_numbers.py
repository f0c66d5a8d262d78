"""A few numbers of everything that states NUMERICS, small enough for every run of the tests.

`python -m tests.plugins.golden_numbers` writes tests/golden/numerics.json anew, for whoever raised a version. Each entry
belongs to one statement: its inputs are made here and not by the code that another entry stands for.

The tolerance is 1e-5 of a value (or of 1, for smaller ones). It is chosen between two measurements: the numbers of one
thread and two, of AVX2, AVX-512 and plain kernels (ATEN_CPU_CAPABILITY), with and without oneDNN differ by less than 1e-6,
and steps that are 1 % longer move each policy by more than 3e-5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np

from tendon.config.compose import compose
from tendon.config.numerics import file_of, policy_statements, statement
from tendon.config.schema import EnvConfig
from tendon.data.features import REWARD, Feature

FILE = Path(__file__).resolve().parents[1] / "golden/numerics.json"
TOLERANCE = 1e-5
POLICIES = (
    "act", "act_clip", "bc", "bc_gaussian", "bc_gmm", "bc_rnn", "bc_rnn_gmm", "bc_transformer", "bc_transformer_gmm", "bc_vae",
    "diffusion", "dp_clip",
    "tdmpc", "vqbet",
)  # fmt: skip
SMALL = {
    "act": [
        *("policy.chunk_size=4", "policy.n_action_steps=4", "policy.dim_model=16", "policy.n_heads=2"),
        *("policy.dim_feedforward=16", "policy.n_encoder_layers=1", "policy.n_vae_encoder_layers=1"),
        *("policy.latent_dim=2", "policy.pretrained_backbone_weights=null"),
    ],
    "diffusion": [
        *("policy.horizon=4", "policy.n_action_steps=2", "policy.down_dims=[8,16]", "policy.n_groups=4"),
        *("policy.diffusion_step_embed_dim=8", "policy.crop_shape=[]", "policy.num_train_timesteps=10"),
    ],
    "act_clip": [
        *("policy.chunk_size=4", "policy.n_action_steps=4", "policy.dim_model=16", "policy.n_heads=2"),
        *("policy.dim_feedforward=16", "policy.n_encoder_layers=1", "policy.n_decoder_layers=1", "policy.latent_dim=2"),
        *("policy.text_encoder=bytes", "policy.text_sizes={hidden_size: 8, num_attention_heads: 2}", "policy.tune_llm=true"),
        *("policy.normalization={action: [[0, 1, binary], [1, 3, min_max]]}", "policy.resize_shape=[36,36]"),
    ],
    "dp_clip": [
        *("policy.horizon=4", "policy.n_action_steps=2", "policy.down_dims=[8,16]", "policy.n_groups=4"),
        *("policy.diffusion_step_embed_dim=8", "policy.num_train_timesteps=10", "policy.vision_backbone=resnet50"),
        *("policy.text_encoder=bytes", "policy.text_sizes={hidden_size: 8, num_attention_heads: 2}"),
        *("policy.text_dim=4", "policy.resize_shape=[36,36]", "policy.clip_sample=true"),
    ],
    # bc_transformer_gmm and the like: as their family
    "bc": ["policy.hidden_dims=[16,16]"],
    "bc_rnn": ["policy.hidden_dims=[16]", "policy.hidden_dim=12"],
    "bc_transformer": ["policy.embed_dim=16", "policy.num_heads=2", "policy.num_layers=2"],
    "bc_vae": [],
    "tdmpc": [
        "policy.horizon=2", "policy.latent_dim=8", "policy.mlp_dim=16", "policy.state_encoder_hidden_dim=12",
        "policy.image_encoder_hidden_dim=4", "policy.cem_iterations=2", "policy.n_gaussian_samples=16",
        "policy.n_pi_samples=4", "policy.n_elites=5",
    ],
    "vqbet": [
        "policy.n_obs_steps=2", "policy.n_action_pred_token=2", "policy.action_chunk_size=2", "policy.dropout=0.0",
        "policy.n_vqvae_training_steps=1", "policy.vqvae_n_embed=4", "policy.vqvae_embedding_dim=6",
        "policy.vqvae_enc_hidden_dim=8", "policy.gpt_input_dim=12", "policy.gpt_output_dim=10", "policy.gpt_n_layer=2",
        "policy.gpt_n_head=2", "policy.gpt_hidden_dim=8", "policy.spatial_softmax_num_keypoints=4",
        "policy.offset_loss_weight=1.0",
    ],
}  # fmt: skip
PICTURES = {"tdmpc": (40, 40, 3)}  # it takes square ones
SEES = "env.observation=[object,front_image]"
TOLD = ("act_clip", "dp_clip")  # these read a text
CHANGED = {  # what is done to the images, by family
    "act": [],
    "act_clip": [],
    "dp_clip": [],
    "diffusion": ["policy.resize_shape=[72,80]", "policy.crop_ratio=0.9"],
    "tdmpc": ["policy.max_random_shift_ratio=0.1"],
    "vqbet": ["policy.crop_shape=[36,38]"],
}
CHANGED_IN_CLONING = ["policy.crop_size=36", "policy.brightness=0.2"]
KEPT = ("train/loss", "train/grad_norm", "train/lr", "valid/loss")  # of metrics.jsonl
Numbers = list[float]
PAIRS = ("processing", "actions", "images", "normalize", "parts", "rotations", "text", "transform")
AUGMENT = "draws"


STEP = {"bc_transformer": 3e-4, "diffusion": 3e-4, "dp_clip": 1e-4}  # with pictures 0.01 overshoots, and rounding grows


def policy(name: str, *, sees: bool = False) -> Numbers:
    """Three losses under plain gradient descent, and an action."""
    import torch

    from tendon.policies.base import AUGMENT_NOISE
    from tendon.policies.registry import make_policy
    from tests.policies.features_of import features_of

    family = next(family for family in sorted(SMALL, key=len, reverse=True) if name.startswith(family))
    clones = name.startswith("bc")
    observation = [SEES, *CHANGED.get(family, CHANGED_IN_CLONING)] if sees else ["env.observation=[object]"]
    config = compose([f"policy={name}", "data.uri=x", *SMALL[family], *observation]).policy
    image = {"observation.images.front": PICTURES.get(family, (40, 44, 3))} if sees else {}
    features = {"observation.object": 5, **image, "action": 3}
    told = {"task": Feature("task", "text", (), "int64")} if family in TOLD else {}
    torch.manual_seed(0)
    stats = {key: _stats(key) for key in ("observation.object", "action")}
    made = make_policy(config, {**features_of(features), **told}, stats)
    windows, rng = made.windows, np.random.default_rng(1)
    steps = {key: len(span.deltas) for key, span in windows.training.items()}
    batch = {}
    for key, shape in features.items():
        before = (4, steps[key])
        if isinstance(shape, tuple):
            values = rng.integers(0, 256, (*before, *shape)).astype(np.uint8)
        else:
            values = rng.uniform(-0.9, 0.9, (*before, shape)).astype(np.float32)
        batch[key] = torch.from_numpy(values)
    if told:
        made.set_texts(("lift the cube", "push it"))
        batch["task"] = torch.tensor([[0], [1], [1], [0]])
    if REWARD in steps:
        batch[REWARD] = torch.from_numpy(rng.uniform(size=(4, steps[REWARD], 1)).astype(np.float32))
    batch |= {f"{key}_is_pad": torch.zeros(4, num, dtype=torch.bool) for key, num in steps.items()}
    if made.num_draws:
        batch[AUGMENT_NOISE] = torch.from_numpy(rng.uniform(size=(4, made.num_draws)).astype(np.float32))
    optimizer = torch.optim.SGD(made.parameters(), STEP.get(name, 0.01) if sees else 0.01)
    numbers = []
    for step in range(3):
        torch.manual_seed(step)
        loss = made.loss(batch, None, step).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            made.after_update(step)
        numbers.append(float(loss.detach()))
    made.eval()
    seen = {key: 1 if clones else len(span.deltas) for key, span in windows.acting.items()}
    now = {key: batch[key][:, -seen[key] :] for key in made.reads}
    action, _ = made.act(now, made.start(1, 2, 3, 4))
    return [*numbers, *map(float, action["action"].reshape(4, -1)[0])]


def rocket1() -> Numbers:
    """Three losses with a memory under plain gradient descent, and what the policy draws then."""
    import torch

    from tendon.policies.rocket1.config import Rocket1Config
    from tendon.policies.rocket1.features import AIM, BUTTONS, CAMERA, INTERACTION, TARGET, features_of_world
    from tendon.policies.rocket1.model import Rocket1

    size = {"image_size": (32, 32), "hiddim": 16, "num_heads": 2, "num_layers": 2, "timesteps": 6, "mem_len": 8}
    torch.manual_seed(0)
    made = Rocket1(Rocket1Config("rocket1", backbone="tiny", **size), features_of_world((32, 32)), {})
    rng = np.random.default_rng(1)
    batch = {
        CAMERA: torch.from_numpy(rng.integers(0, 256, (3, 6, 32, 32, 3)).astype(np.uint8)),
        TARGET: torch.from_numpy((rng.random((3, 6, 32, 32)) < 0.2).astype(np.uint8)),
        INTERACTION: torch.from_numpy(rng.integers(-1, 7, (3, 6, 1))),
        BUTTONS: torch.from_numpy((rng.random((3, 6, 20)) < 0.2).astype(np.float32)),
        AIM: torch.from_numpy(rng.normal(0, 3, (3, 6, 2)).astype(np.float32)),
        f"{BUTTONS}_is_pad": torch.zeros(3, 6, dtype=torch.bool),
    }
    optimizer = torch.optim.SGD(made.parameters(), 1e-3)
    numbers, memory = [], None
    for step in range(3):
        torch.manual_seed(step)
        output = made.loss(batch, memory, step)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        memory = {key: value.detach() for key, value in output.memory.items()}
        numbers.append(float(output.loss.detach()))
    made.eval()
    actions, _ = made.act({key: batch[key][:, :1] for key in made.reads}, made.start(1, 2, 3))
    return [*numbers, *map(float, torch.cat([actions[BUTTONS], actions[AIM]], -1)[0, 0])]


def vla(name: str) -> Numbers:
    """The same of a tiny vision-language-action policy, whose weights do not come from transformers' start."""
    import torch

    from tests.golden.lerobot.seeded import gemma_weights
    from tests.policies.vla_cases import batch_of, policy_of, seen_of

    made = policy_of(name, "policy.tune_visual=true")
    with torch.no_grad():
        for inner, parameter in made.net.named_parameters():
            parameter.copy_(torch.from_numpy(gemma_weights(inner, tuple(parameter.shape))))
    made.eval()  # no dropout
    batch, numbers = batch_of(made, size=2), []
    for step in range(2):
        torch.manual_seed(step)
        made.zero_grad()
        loss = made.loss(batch).loss
        loss.backward()
        numbers.append(float(loss.detach()))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad
    with torch.no_grad():
        actions, _ = made.act(seen_of(made, size=1), made.start(3))
    return [*numbers, *map(float, actions["action.arm"].flatten())]


def processing() -> Numbers:
    """Every pair between a dataset and a network: what goes in, and what comes back of the actions."""
    import torch

    from tendon.policies.processing import actions, images, normalize, rotations, text
    from tendon.policies.processing.processing import Processing

    picture, state = "observation.images.front", "observation.state"
    features = {
        picture: Feature(picture, "image", (24, 28, 3), "uint8"),
        state: Feature(state, "state", (5,), "float32"),
        "action": Feature("action", "action", (5,), "float32"),
        "task": Feature("task", "text", (), "int64"),
    }
    # what an entry holds must not hang on the numbers of rotations near a half turn: all angles here are small
    transforms = [
        images.ToFloat(keys=(picture,)),
        images.Crop(keys=(picture,), size=(20, 22)),
        images.Colour(keys=(picture,), brightness=0.2, contrast=0.1, saturation=0.1, hue=0.05),
        images.Letterbox(keys=(picture,), size=(16, 16)),
        images.Resize(keys=(picture,), size=(9, 11)),
        actions.RelativeActions(states={"action": state}, mask={"action": (True, True, False, True, True)}),
        rotations.Rotation(keys=("action",), start=0, source="axis_angle", target="rotation_6d"),
        normalize.Normalize(modes={state: "mean_std"}),
        actions.Bins(into={state: "bins"}, num_bins=32),
        actions.PadWidth(widths={"action": 12}),
        text.Tokenize(length=12),
    ]
    times = {picture: 1, state: 1, "action": 3, "task": 1}
    made = Processing(transforms, features, {key: _stats(key, 5) for key in (state, "action")}, times=times)
    made.set_texts(("lift the cube",))
    rng = np.random.default_rng(1)
    batch = {
        picture: torch.from_numpy(rng.integers(0, 256, (2, 1, 24, 28, 3)).astype(np.uint8)),
        state: torch.from_numpy(rng.uniform(-0.4, 0.4, (2, 1, 5)).astype(np.float32)),
        "action": torch.from_numpy(rng.uniform(-0.4, 0.4, (2, 3, 5)).astype(np.float32)),
        "action_is_pad": torch.zeros(2, 3, dtype=torch.bool),
        "task": torch.zeros(2, 1, dtype=torch.int64),
        AUGMENT: torch.from_numpy(rng.uniform(size=(2, made.num_draws)).astype(np.float32)),
    }
    inside = made(batch)
    return [float(value.double().abs().sum()) for key, value in sorted(inside.items()) if key != AUGMENT]


def statistics() -> Numbers:
    """Of a small dataset: mean, deviation, range and quantiles of all features."""
    from tendon.data.stats import compute_stats

    with TemporaryDirectory() as folder:
        made = compute_stats(_dataset(Path(folder)), "train")
    rows = [(*one.mean, *one.std, *one.min, *one.max, *one.q01, *one.q99) for _, one in sorted(made.features.items())]
    return [float(sum(row)) for row in rows]


def batches() -> Numbers:
    """Of the loader: which rows come, and their values."""
    from tendon.loader import Loader

    deltas = {"observation.object": (-1, 0), "observation.robot0_eef_pos": (0,), "action": (0, 1, 2)}
    numbers: Numbers = []
    with TemporaryDirectory() as folder:
        loader = Loader(_dataset(Path(folder)), "train", deltas, 4, 1000)
        for batch in (next(loader) for _ in range(4)):
            numbers += [float(np.sum(batch["episode_index"] * [1, 10, 100, 1000])), float(batch["action"].sum())]
            numbers.append(float(np.asarray(batch["observation.object"], np.float64).sum()))
        loader.close()
    return numbers


def training() -> Numbers:
    """Losses of the loop on batches and a policy that no other entry stands for, with most of its options on."""
    from tests.train import small_trial

    with TemporaryDirectory() as folder:
        options = {"offline_steps": 12, "log_freq": 3, "valid_freq": 12, "save_freq": 12, "grad_clip_norm": 0.5}
        options |= {
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "ema": {"enable": True, "decay": 0.5, "every_n_steps": 2},
        }
        small_trial.run(folder, gradient_accumulation_steps=2, **options)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [value for line in lines for key, value in sorted(line.items()) if key in KEPT]


def rollouts() -> Numbers:
    """Of the host side: a policy that is a formula, in the reach task."""
    from tendon.evaluate.rollout import evaluate_policy

    config = compose(["env=reach", "data.uri=x", "eval.n_episodes=4"])
    results = evaluate_policy(_formula(), config.env, config.eval, [11, 12, 13])
    return [float(number) for one in results for number in (one.steps, one.sum_reward, np.abs(one.actions).sum())]


def minecraft() -> Numbers:
    """The adapter around the imitation of its simulator."""
    places = os.pathsep.join([str(FILE.parents[1] / "sim/imitations"), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, {"PYTHONPATH": places}):
        return simulator("minecraft", "env.options.interaction=null", expert=False)


def simulator(env: str, *overrides: str, expert: bool) -> Numbers:
    """Observations under fixed actions; or those that a scripted expert makes."""
    from tendon.evaluate.guest import Guest

    config: EnvConfig = compose([f"env={env}", "data.uri=x", *overrides]).env
    numbers: Numbers = []
    with Guest(config) as guest:
        for seed in (5, 6):
            observation = guest.reset(seed)
            if expert:
                guest.reset_expert(seed, 0.05)
            for step in range(12):
                fixed = 0.5 * np.sin(np.arange(guest.action_dim) + step)
                action = guest.expert() if expert else fixed
                if expert:
                    numbers.append(float(np.abs(action).sum()))
                observation = guest.step(action).observation
            if not expert:
                numbers += [float(np.sum(observation[name])) for name in sorted(config.observation) if name != "task"]
    return numbers


def entries() -> Mapping[str, tuple[Sequence[str], Callable[[], Numbers]]]:
    """What is held, by name: the statements it belongs to (the likeliest first), and how it is made."""
    bc = _statements("bc")
    made: dict[str, tuple[Sequence[str], Callable[[], Numbers]]] = {
        "rocket1": (_statements("rocket1"), rocket1),
        "processing": ([f"tendon.policies.processing.{one}" for one in PAIRS], processing),
        "statistics": (["tendon.data"], statistics),
        "batches": (["tendon.loader", "tendon.data"], batches),
        "training": (["tendon.train", *bc], training),
        "rollouts": (["tendon.evaluate", "tendon.sim", "tendon.sim.adapters.reach"], rollouts),
        "reach": (["tendon.sim.adapters.reach", "tendon.sim"], partial(simulator, "reach", expert=False)),
        "reach expert": (["tendon.sim.adapters.reach:Reach"], partial(simulator, "reach", expert=True)),
        "lift": (["tendon.sim.adapters.robosuite", "tendon.sim"], partial(simulator, "lift", expert=False)),
        "lift expert": (["tendon.sim.adapters.robosuite:Lift"], partial(simulator, "lift", expert=True)),
        "can expert": (["tendon.sim.adapters.robosuite:PickPlaceCan"], partial(simulator, "can", expert=True)),
        "minecraft": (["tendon.sim.adapters.minecraft", "tendon.sim"], minecraft),
        "libero": (
            ["tendon.sim.adapters.libero", "tendon.sim"],
            partial(simulator, "libero", "env.observation=[agent_pos,joint_pos,task]", expert=False),
        ),
    }
    for env, task in (
        ("pusht_keypoints", "pusht:PushT-v0"),
        ("aloha_state", "aloha:AlohaTransferCube-v0"),
        ("aloha_insertion_state", "aloha:AlohaInsertion-v0"),
        ("xarm_corrected_state", "xarm_corrected:XarmLiftCorrected"),
        ("metaworld", "metaworld:reach-v3"),
        ("vizdoom_hunt", "vizdoom:Hunt"),
        ("vizdoom_approach", "vizdoom:Approach"),
    ):
        expert = f"tendon.sim.adapters.{task}"
        made[env] = ([expert.partition(":")[0], "tendon.sim"], partial(simulator, env, expert=False))
        made[f"{env} expert"] = ([expert], partial(simulator, env, expert=True))
    for env in ("calvin", "simpler_widowx", "genmanip"):  # nobody can make these here
        adapter = f"tendon.sim.adapters.{env.partition('_')[0]}"
        made[env] = ([adapter, "tendon.sim"], partial(simulator, env, expert=False))
    for name in POLICIES:
        made[name] = (_statements(name), partial(policy, name))
        if name in SMALL:
            made[f"{name} that sees"] = (_statements(name), partial(policy, name, sees=True))
    for name in ("pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5"):
        made[name] = (_statements(f"{name}_tiny"), partial(vla, name))
    return made


def _statements(name: str) -> list[str]:
    """What counts for a policy, its own first."""
    config = compose([f"policy={name}", "data.uri=x"]).policy
    return sorted(policy_statements(config), key=lambda module: (f".{config.name}." not in module, module))


def version(name: str) -> int:
    """What the code states now; ``module:Task`` is a scripted expert."""
    module, _, task = name.partition(":")
    file = file_of(module)
    assert file is not None
    return int(statement(file, "EXPERT_NUMERICS")[task] if task else statement(file))


def _stats(key: str, dim: int = 0) -> object:
    from tests.train.small_trial import feature_stats

    return feature_stats(0.1, 0.6, -0.95, 0.95, dim or (3 if key == "action" else 5))


def _dataset(folder: Path):
    from tendon.data.convert import convert
    from tendon.data.dataset import open_dataset
    from tendon.data.sources import open_source
    from tests.conftest import make_lift_like_hdf5

    source = open_source(str(make_lift_like_hdf5(folder / "lift.hdf5")))
    convert(source, str(folder / "store"), "lift")
    (uri,) = (folder / "store/datasets/lift").iterdir()
    return open_dataset(str(uri))


def _formula():
    import torch

    from tendon.config.schema import PolicyConfig
    from tendon.policies.base import LossOutput, Policy
    from tendon.policies.windows import windows_of

    class FormulaConfig(PolicyConfig):
        def windows(self, features):
            return windows_of(("observation.agent_pos", "observation.target_pos"), ("action",), (0,), (0,))

    class Formula(Policy):
        def __init__(self) -> None:
            super().__init__(FormulaConfig("formula"), {})
            self.anchor = torch.nn.Parameter(torch.zeros(1))

        def loss(self, batch, memory=None, step=0):
            return LossOutput(self.anchor.sum())

        @torch.no_grad()
        def act(self, observation, memory=None):
            gap = observation["observation.target_pos"][:, -1:] - observation["observation.agent_pos"][:, -1:]
            return {"action": (3 * gap).clamp(-1, 1)}, memory

    return Formula()


def renewed(kept: Mapping[str, dict]) -> dict[str, dict]:
    """All entries as the code makes them now; those that cannot be made here stay."""
    from tendon.errors import ConfigError, MissingDependency

    made = {}
    for name, (statements, make) in entries().items():
        try:
            made[name] = {"numerics": {one: version(one) for one in statements}, "numbers": make()}
        except (MissingDependency, ConfigError) as error:  # a simulator that is not here, or not its data
            print(f"{name} stays as it is: {error.problems[0].what}")
            made[name] = kept.get(name, {"numerics": {one: version(one) for one in statements}, "numbers": []})
    return made


if __name__ == "__main__":
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps(renewed(kept), indent=1) + "\n")
