"""``make parity PEER=robomimic``, ``make bench``: policies, checkpoints and training beside robomimic 0.3.0."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.benchmarks import line, peers, robomimic_results
from tests.benchmarks.rows import Skip, row


@cache
def fifty_steps(group: str = "numbers", checkout: str = "") -> dict[str, dict[str, float]]:
    """Per case of robomimic's own checkpoints: how far both act apart over 50 steps, on its file and on two of ours.

    Ours are made of it with what the file held beside the policy, and of the policy alone, as a trained one is exported.

    ``checkout``: of another version than the installed 0.3.0.
    """
    from tendon.weights.formats.robomimic.pth import export_pth, import_pth

    python, found = peers.robomimic(), {}
    script = ("robomimic_source.py", checkout, "robomimic_policy.py") if checkout else ("robomimic_policy.py",)
    version: Any = "0.5" if checkout.endswith("v0.5.0") else "0.3"
    with tempfile.TemporaryDirectory() as scratch:
        folders = theirs, again, fresh = [Path(scratch, name) for name in ("theirs", "again", "fresh")]
        for folder in folders:
            folder.mkdir()
        cases = peers.ask(python, *script, "make", str(theirs), group)["cases"]
        bit_equal = {}
        for case in cases:
            imported = import_pth(theirs / f"{case}.pth")
            export_pth(imported.policy, imported.info, again / f"{case}.pth", version, foreign=imported.foreign)
            bit_equal[case] = float(_same_content(theirs / f"{case}.pth", again / f"{case}.pth"))
            export_pth(imported.policy, imported.info, fresh / f"{case}.pth", version)
            for folder in (again, fresh):
                shutil.copy(theirs / f"{case}.obs.npz", folder)
        for folder in folders:
            peers.ask(python, *script, "act", str(folder))
        for case in cases:
            ours = _acted(import_pth(theirs / f"{case}.pth").policy, theirs / f"{case}.obs.npz")
            acted = [np.load(folder / f"{case}.acted.npz")["arr_0"] for folder in folders]
            first, *rest = (float(np.abs(ours - one).max()) for one in acted)
            found[case] = {"theirs": first, "ours": max(rest), "lossless": bit_equal[case]}
    return found


def _acted(policy: Any, file: Path) -> np.ndarray:
    """Our actions with chance switched off, through the rollout's own actor."""
    given = dict(np.load(file))
    observations = {key: values for key, values in given.items() if not key.startswith("goal/")}
    import torch

    from tendon.evaluate.actor import Actor
    from tendon.policies.parts.heads import MixtureHead

    def mode(features: torch.Tensor, noise: Any) -> tuple[torch.Tensor, Any]:
        mixture = policy.head(features)
        chosen = mixture.mean[torch.arange(len(features)), mixture.logits.argmax(-1)]
        return policy.normalize_action.inverse(chosen), noise

    if isinstance(policy.head, MixtureHead):
        policy.choose = mode
    actor = Actor(policy, policy.action_dim)
    episode = actor.begin(1)
    episode.goal = {key.removeprefix("goal/"): values[0] for key, values in given.items() if key.startswith("goal/")}
    with patch("tendon.policies.bc_vae.model.draw_normal", lambda noise, n: (torch.zeros(len(noise), n), noise)):
        steps = zip(*observations.values(), strict=True)
        return np.stack([actor.act(episode, dict(zip(observations, step, strict=True))) for step in steps])


def _same_content(first: Path, second: Path) -> bool:
    """Whether two checkpoints hold the same tensors and the same values, to the last bit."""
    from tendon.weights.formats.robomimic.pth import read_file

    one, other = read_file(first), read_file(second)
    return _same(one | {"config": json.loads(one["config"])}, other | {"config": json.loads(other["config"])})


def _same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, dict):
        return isinstance(other, dict) and set(one) == set(other) and all(_same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if torch.is_tensor(one) else bool(one == other)


@row(
    "parity",
    "robomimic-pth-in",
    "largest difference of 50 actions, its .pth in tendon beside robomimic itself",
    "<= 1e-5",
)
def pth_in() -> float:
    """All policies, with frame stack and state rules."""
    return max(one["theirs"] for one in fifty_steps().values())


@row(
    "parity",
    "robomimic-pth-out",
    "largest difference of 50 actions, robomimic loading the .pth tendon wrote",
    "<= 1e-5",
)
def pth_out() -> float:
    """Through robomimic's own policy_from_checkpoint."""
    return max(one["ours"] for one in fifty_steps().values())


@row("parity", "robomimic-pth-lossless", "share of robomimic's checkpoints that come back bit for bit", "== 1")
def pth_lossless() -> float:
    """Tensors, doubles, configuration, metadata."""
    cases = fifty_steps()
    return sum(one["lossless"] for one in cases.values()) / len(cases)


@row(
    "parity",
    "robomimic-pth-images",
    "largest difference of 50 actions with cameras and depth, both ways; infinite when a file does not come back bit for bit",
    "<= 1e-5",
)
def pth_images() -> float:
    """BC-GMM, crops, RNN-GMM, Transformer-GMM."""
    return _worst(fifty_steps("images"))


@row(
    "parity",
    "robomimic-pth-versions",
    "the same of files that robomimic v0.2.0, v0.4.0 and v0.5.0 write and load",
    "<= 1e-5",
)
def pth_versions() -> float:
    """Neither is on the package index: checkouts of their tags are read from build/peers/robomimic-src."""
    folders = [Path("build/peers/robomimic-src", tag).absolute() for tag in ("v0.2.0", "v0.4.0", "v0.5.0")]
    missing = [folder for folder in folders if not (folder / "robomimic").is_dir()]
    if missing:
        raise Skip(f"there is no checkout of robomimic's repository in {missing[0]}")
    return max(_worst(fifty_steps(checkout=str(folder))) for folder in folders)


def _worst(cases: dict[str, dict[str, float]]) -> float:
    return max(max(one["theirs"], one["ours"]) if one["lossless"] else float("inf") for one in cases.values())


@row(
    "parity",
    "robomimic-command-line",
    "largest difference of 50 actions: JSON with a camera and a goal -> tendon train, export, .pth -> robomimic beside tendon",
    "<= 1e-5",
)
def command_line() -> float:
    """An rgb BC and a goal-conditioned BC on the toy task, evaluated too."""
    from tendon.export.bundle import load_policy

    distances = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        line.run("demo-data", "env=reach", "--episodes", 8, "--images", "-o", folder / "reach.hdf5", cwd=folder)
        for case, seen in TOY.items():
            (folder / f"{case}.json").write_text(json.dumps(_toy_config(case, **seen)))
            train = ["train", "--config", f"{case}.json", "--dataset", "reach.hdf5", "env=reach", "--store-uri", case]
            line.run(*train, "device=cpu", "training.num_threads=1", cwd=folder)
            (checkpoint,) = (folder / case).glob("trials/*/checkpoints/[0-9]*")
            bundle = folder / case / "bundle"
            line.run("export", "--checkpoint-uri", checkpoint, "--bundle-uri", bundle, cwd=folder)
            line.run("evaluate", "--bundle-uri", bundle, "eval.n_episodes=2", "eval.videos=0", cwd=folder)
            pth = ["--format", "robomimic-0.3", "-o", f"{case}.pth"]
            line.run("weights", "export", bundle, *pth, cwd=folder)
            arrays: Any = _toy_observations(folder / "reach.hdf5", **seen)
            np.savez(folder / f"{case}.obs.npz", **arrays)
        peers.ask(peers.robomimic(), "robomimic_policy.py", "act", scratch)
        for case in TOY:
            ours = _acted(load_policy(str(folder / case / "bundle"))[0], folder / f"{case}.obs.npz")
            distances.append(float(np.abs(ours - np.load(folder / f"{case}.acted.npz")["arr_0"]).max()))
    return max(distances)


TOY: dict[str, dict[str, Any]] = {
    "rgb": {"obs": {"low_dim": ["agent_pos"], "rgb": ["top_image"]}, "goal": {}},
    "goal": {"obs": {"low_dim": ["agent_pos"]}, "goal": {"low_dim": ["agent_pos"]}},
}


def _toy_config(name: str, obs: dict[str, Any], goal: dict[str, Any]) -> dict[str, Any]:
    core = {"feature_dimension": 8, "pool_kwargs": {"num_kp": 4}}
    return {
        "algo_name": "bc",
        "experiment": {
            "name": name,
            "epoch_every_n_steps": 5,
            "save": {"every_n_epochs": 2},
            "rollout": {"enabled": False, "horizon": 60},
        },
        "train": {"batch_size": 8, "num_epochs": 2, "goal_mode": "last" if goal else None, "cuda": False},
        "algo": {"actor_layer_dims": [16]},
        "observation": {
            "modalities": {"obs": obs, "goal": goal},
            "encoder": {
                "rgb": {
                    "core_kwargs": core,
                    "obs_randomizer_class": "CropRandomizer",
                    "obs_randomizer_kwargs": {"crop_height": 76, "crop_width": 76},
                }
            },
        },
    }


def _toy_observations(file: Path, obs: dict[str, Any], goal: dict[str, Any]) -> dict[str, np.ndarray]:
    """The first 50 steps of the file, and the last one as the goal."""
    import h5py

    with h5py.File(file) as source:
        demos = [source["data"][name]["obs"] for name in source["data"]]
        keys = [key for named in obs.values() for key in named]
        found = {key: np.concatenate([demo[key][:] for demo in demos])[:50] for key in keys}
        for key in (key for named in goal.values() for key in named):
            found[f"goal/{key}"] = demos[0][key][-1:]
    return {key: values if values.dtype == np.uint8 else values.astype(np.float32) for key, values in found.items()}


@row(
    "parity",
    "robomimic-success",
    "smallest p of ours being worse than robomimic's on Lift, equal budget (exact McNemar)",
    ">= 0.05",
)
def success() -> float:
    """BC, BC-RNN-GMM, BC-Transformer-GMM; 1 where ours is not worse. Minutes each, kept in build/robomimic."""
    worst = 1.0
    for algo in robomimic_results.ALGOS:
        _needs_robosuite()
        one = robomimic_results.result(algo, 1)
        if sum(one["ours"]) < sum(one["theirs"]):
            worst = min(worst, robomimic_results.p_value([one]))
    return worst


def _full_sizes(id: str, algo: str, sizes: str) -> None:
    """A step in the sizes that robomimic publishes; its JSON is the same on both sides."""

    @row(
        "bench",
        f"robomimic-step-{id}",
        f"CPU time of a step of {algo}, {sizes}, batches of 100, Lift's 23 numbers, over robomimic's own",
        "<= 0.85 x",
    )
    def _measure() -> float:
        _needs_robosuite()
        file, uri = robomimic_results.prepare()
        tree = robomimic_results.config_of(algo, 1, FULL_EPOCHS, full=True, steps=FULL_STEPS)
        with tempfile.TemporaryDirectory() as scratch:
            _, mine, _ = robomimic_results.ours(tree, uri, FULL_STEPS)
            other = robomimic_results.theirs(tree, file, Path(scratch))["step_s"]
        print(f"  ours {1e3 * mine:.1f} ms, theirs {1e3 * other:.1f} ms of CPU a step")
        return float(mine / other)


FULL_EPOCHS, FULL_STEPS = 5, 10
_full_sizes("rnn-full", "BC-RNN-GMM", "LSTM of 400 x 2")
_full_sizes("transformer-full", "BC-Transformer-GMM", "transformer of 512 x 6, 8 heads")


@row(
    "bench",
    "robomimic-step",
    "our step's CPU time beside robomimic's, the slowest of three policies in small sizes (256 x 2, LSTM 128 x 2, 64 x 2)",
    "<= 0.9 x",
)
def step_time() -> float:
    """Data loading included, medians over epochs of 50 updates."""
    _needs_robosuite()
    ratios = []
    file, uri = robomimic_results.prepare()
    with tempfile.TemporaryDirectory() as scratch:
        for algo in robomimic_results.ALGOS:
            tree = robomimic_results.config_of(algo, 1, epochs=5)
            _, step_s, _ = robomimic_results.ours(tree, uri)
            ratios.append(step_s / robomimic_results.theirs(tree, file, Path(scratch))["step_s"])
    return float(max(ratios))


def _needs_robosuite() -> None:
    from tendon.evaluate import sims

    if not sims.installed("robosuite"):
        raise Skip("robosuite is not installed: tendon sims install robosuite")


EIGHT = [
    f"bc_rnn_hyper_plr_{lr}_gmm_{gmm}_rnnd_{rnn}"
    for lr in ("0.001", "0.0001")
    for gmm in "tf"
    for rnn in ("400_mlp_1024", "1000_mlp_0")
]


@row(
    "faults",
    "robomimic-sweep",
    "of the seed's 8 experiments as trials of the DAG, one diverging: how many are evaluated",
    "== 7",
)
def sweep_of_eight() -> float:
    """The hyperparameter helper's generator is the pipeline's sweep; its nets are made tiny, its names kept."""
    from tendon.config.generator import ConfigGenerator

    base = Path(__file__).parents[1] / "config" / "foreign" / "base.json"
    generator = ConfigGenerator(base)
    for key, value in (("algo.rnn.enabled", True), ("train.seq_length", 10), ("algo.rnn.horizon", 10)):
        generator.add_param(key, "", 0, [value])
    generator.add_param("algo.optim_params.policy.learning_rate.initial", "plr", 1, [1e-3, 1e-4])
    generator.add_param("algo.gmm.enabled", "gmm", 2, [True, False], ["t", "f"])
    generator.add_param("algo.rnn.hidden_dim", "rnnd", 3, [8, 16], ["400", "1000"])
    generator.add_param("algo.actor_layer_dims", "mlp", 3, [[8], []], ["1024", "0"])
    run = generator.pipeline()
    rates = next(entry for entry in run["policy_sweep"] if entry["key"] == "training.lr")
    rates["values"][2] = 3e38  # one of them is made to fail
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "sweep.json").write_text(json.dumps(run["policy_sweep"]))
        small = [
            "env=reach",
            "env.observation=[agent_pos,target_pos]",
            "training.offline_steps=100",
            "training.log_freq=10",
            "training.num_threads=1",
            "device=cpu",
        ]
        small += ["training.save_freq=100", "training.valid_freq=100", "training.batch_size=16"]
        source = ["--source-uri", "demo://reach?episodes=10&seed=1", "--store-uri", folder / "store"]
        counts = ["--episodes", 2, "--confirm-episodes", 2, "--sweep", folder / "sweep.json"]
        line.run("run", *run["policy_config"].split(" "), *small, *source, *counts, cwd=folder)
        (selection,) = (folder / "store" / "runs").glob("*/selection.json")
        outcomes = {one["trial"]: one for one in json.loads(selection.read_text())["outcomes"]}
    assert sorted(outcomes) == sorted(EIGHT), sorted(outcomes)
    dead = [name for name, one in outcomes.items() if one["status"] != "ok"]
    assert dead == [EIGHT[2]], dead
    assert outcomes[EIGHT[2]]["failed_step"] == "train"
    return float(len(outcomes) - len(dead))
