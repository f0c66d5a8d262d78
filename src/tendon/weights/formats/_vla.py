"""What the files of vision-language-action policies share: sizes from shapes, tensors by name, the report of names, exact copies.

Who wrote a file here finds, in a folder ``tendon`` beside the weights, the policy's description and its processing to the bit; of
a file from elsewhere both follow from its shapes, its config.json and its statistics. Used by openpi.py, internmanip.py and lerobot.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tendon.config.compose import compose
from tendon.config.override_text import quote
from tendon.config.policies import policy_configs
from tendon.data.features import TASK, Feature
from tendon.data.stats import FeatureStats
from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.gr00t.weights import N1, N1_5, their_name
from tendon.policies.gr00t.weights import our_name as our_gr00t_name
from tendon.policies.parts.towers import without_values
from tendon.policies.pi0.weights import openpi_name
from tendon.policies.pi0.weights import our_name as our_pi0_name
from tendon.policies.processing.processing import load_processing
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy
from tendon.weights.load import fill, read_tensors
from tendon.weights.lora import merged_state, without_adapters
from tendon.weights.spec import opened, tensor_files

BESIDE = "tendon"
NET = "net."
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
BASE_KEYS = (
    "base_model_path",
    "base_sha256",
    "base_revision",
    "base_dtype",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_targets",
)
SMALL_HEADS = 72  # numbers of a head of SigLIP So400m, where nothing says how many heads there are
STATISTICS = ("mean", "std", "min", "max", "q01", "q99")
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Found:
    """What a foreign folder says beside its tensors."""

    name: str
    section: Mapping[str, Any]  # keys of the configuration
    features: Mapping[str, Feature]
    stats: Mapping[str, FeatureStats]


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes; no value is read."""
    made: dict[str, tuple[int, ...]] = {}
    for file in tensor_files(path):
        with opened(file, "np") as content:
            made |= {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
    return made


def kind_of(shapes: Shapes) -> str:
    """The policy that tensors of these names belong to; empty where none does."""
    names = [name.removeprefix("model.").removeprefix("_groot_model.") for name in shapes]
    if any(name.startswith("action_head.") for name in names):
        return "gr00t_n1_5" if any(name.startswith("action_head.future_tokens") for name in names) else "gr00t_n1"
    if any("paligemma" in name for name in names):
        return "pi0" if any(name.startswith("action_in_proj") for name in names) else "pi0fast"
    return ""


def ours(kind: str) -> Callable[[str], str]:
    """From a published name to ours below ``net``; empty: no number depends on it."""
    if kind.startswith("gr00t"):
        return our_gr00t_name
    if kind == "pi0fast":
        return lambda name: our_pi0_name(name).replace("gemma.prefix_norm.", "gemma.norm.").replace(".prefix.", ".")
    return our_pi0_name


def theirs(kind: str) -> Callable[[str], str]:
    """The way back: GR00T's names, or openpi's."""
    if kind.startswith("gr00t"):
        table = N1 if kind == "gr00t_n1" else N1_5
        return lambda name: their_name(name, table)
    if kind == "pi0fast":
        return lambda name: openpi_name(
            re.sub(r"^gemma\.layers\.(\d+)\.", r"gemma.layers.\1.prefix.", name).replace(
                "gemma.norm.", "gemma.prefix_norm."
            )
        )
    return openpi_name


def read_folder(path: Path, weights: Path, look: Callable[[str, Shapes], Found], where: str) -> ForeignPolicy:
    """A policy from tensors by published names.

    Args:
        path: the folder, in which ``tendon`` may lie.
        weights: the file or folder of its tensors.
        look: what else a foreign folder says, given the kind of the policy and the shapes by our names.
        where: what an error names.

    Raises:
        DataError: tensors are missing, left over or of another shape, or belong to no policy here.
    """
    published = shapes_of(weights)
    kind = kind_of(published)
    if not kind:
        why, fix = "no tensor has a name of pi0, pi0-FAST or GR00T", "name the folder of a checkpoint of these"
        raise DataError("these weights are of no policy that is known here", where=where, why=why, fix=fix)
    rename = ours(kind)
    info = _described(path)
    if info is not None:
        config, features, stats = info.config, dict(info.features), None
    else:
        found = look(kind, {rename(name): shape for name, shape in published.items() if rename(name)})
        overrides = [f"++policy.{key}={quote(value)}" for key, value in found.section.items()]
        config = compose([f"policy={found.name}", "data.uri=imported", *overrides]).policy
        features, stats = dict(found.features), found.stats
    with without_adapters(), without_values(), torch.random.fork_rng(devices=[]):
        policy = make_policy(config, features, stats)
    left = [name for name in published if not rename(name)]
    tensors = ((rename(name), tensor) for name, tensor in read_tensors(weights) if rename(name))
    fill(policy.net, tensors, "", where, config.name)  # type: ignore[arg-type]
    if info is not None:
        _take_processing(policy, path)
    num_renamed = sum(rename(name) not in ("", name) for name in published)
    notes = [f"{len(published) - len(left)} tensor(s) loaded, {num_renamed} of them under another name"]
    if left:
        notes.append(f"{len(left)} left out, on which no action depends: {', '.join(sorted(left)[:8])}")
    info = PolicySpec(config, features, policy.windows, tuple(policy.processing.texts) if policy.processing else ())
    return ForeignPolicy(policy.eval(), info, notes=tuple(notes))


def tensors_of(policy: Policy, kind: str, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Published names and tensors, adapters merged; of pi0 the output layers too, which its own code asks for."""
    rename = theirs(kind)
    for name, tensor in merged_state(policy).items():
        if not name.startswith(NET):
            continue
        inner = name.removeprefix(NET)
        value = tensor.detach().cpu().contiguous()
        if inner == "gemma.embed_tokens.weight":
            yield f"{prefix}paligemma_with_expert.paligemma.lm_head.weight", value  # the embedding is tied to it
            if kind == "pi0":
                width = policy.config.expert_width  # type: ignore[attr-defined]
                unread = torch.zeros(len(value), width, dtype=value.dtype)
                yield f"{prefix}paligemma_with_expert.gemma_expert.lm_head.weight", unread
            continue
        yield f"{prefix}{rename(inner)}", value


def write_beside(policy: Policy, info: PolicySpec, path: Path) -> None:
    """The description and the processing, for who reads it here again; FAST's table too."""
    folder = path / BESIDE
    assert policy.processing is not None
    policy.processing.save(folder)
    (folder / "policy.json").write_text(json.dumps(info.to_json(), indent=1) + "\n")
    rest = {
        name: value.detach().cpu().contiguous()
        for name, value in policy.state_dict().items()
        if not name.startswith((NET, "processing."))
    }
    if rest:
        from safetensors.torch import save_file

        save_file(rest, folder / "rest.safetensors")


def _described(path: Path) -> PolicySpec | None:
    """What was written beside it, as a policy of whole weights: it stands on no base and has no adapters."""
    file = path / BESIDE / "policy.json"
    if not file.is_file():
        return None
    info = PolicySpec.from_json(json.loads(file.read_text()), str(file))
    config: Any = info.config
    whole = {"base_model_path": "", "base_sha256": "", "base_revision": "", "base_dtype": "", "lora_rank": 0}
    return replace(info, config=replace(config, **whole))


def _take_processing(policy: Policy, path: Path) -> None:
    folder = path / BESIDE
    assert policy.processing is not None
    saved = load_processing(folder, str(path))
    policy.processing.load_state_dict(saved.state_dict())
    policy.set_texts(saved.texts)
    if (folder / "rest.safetensors").is_file():
        from safetensors.torch import load_file

        policy.load_state_dict(load_file(folder / "rest.safetensors"), strict=False)


# ------------------------------------------------------------------------------------------------- sizes from shapes


def sizes(kind: str, shapes: Shapes) -> dict[str, Any]:
    """Keys of the configuration that shapes decide; ``shapes`` by our names."""
    vision = "backbone.vision." if kind.startswith("gr00t") else "vision."
    made = _vision_sizes({n.removeprefix(vision): s for n, s in shapes.items() if n.startswith(vision)})
    if kind.startswith("gr00t"):
        language = {
            name.removeprefix("backbone.language."): shape
            for name, shape in shapes.items()
            if name.startswith("backbone.language.")
        }
        return made | _decoder_sizes(language, "layers.{}.") | _head_sizes(kind, shapes)
    language = {name.removeprefix("gemma."): shape for name, shape in shapes.items() if name.startswith("gemma.")}
    made |= _decoder_sizes(language, "layers.{}.prefix." if kind == "pi0" else "layers.{}.")
    if kind == "pi0":
        made["expert_width"] = shapes["action_in_proj.weight"][0]
        made["max_action_dim"] = shapes["action_in_proj.weight"][1]
        made["expert_feedforward"] = shapes["gemma.layers.0.expert.mlp.gate_proj.weight"][0]
        made["pi05"] = "time_mlp_in.weight" in shapes
        if not made["pi05"]:
            made["max_state_dim"] = shapes["state_proj.weight"][1]
    return made


def named_keys(kind: str, config: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of ours that a config.json holds under our names, such as how many heads there are; shapes win elsewhere."""
    known = {one.name for one in fields(policy_configs()[kind])} - {"name", "init_from", *BASE_KEYS}
    decided = {key for key in section if not key.endswith("_heads")}
    return {key: value for key, value in config.items() if key in known and key not in decided and value is not None}


def _vision_sizes(shapes: Shapes) -> dict[str, Any]:
    width, patch = shapes["embeddings.patch_embedding.weight"][0], shapes["embeddings.patch_embedding.weight"][-1]
    side = math.isqrt(shapes["embeddings.position_embedding.weight"][0])
    return {
        "vision_width": width,
        "vision_layers": _count(shapes, "encoder.layers."),
        "vision_heads": width // SMALL_HEADS if width % SMALL_HEADS == 0 else 1,
        "vision_feedforward": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "patch_size": patch,
        "image_size": side * patch,
    }


def _decoder_sizes(shapes: Shapes, layer: str) -> dict[str, Any]:
    first = layer.format(0)
    vocab, width = shapes["embed_tokens.weight"]
    query, key = shapes[f"{first}self_attn.q_proj.weight"][0], shapes[f"{first}self_attn.k_proj.weight"][0]
    if f"{first}self_attn.q_norm.weight" in shapes:  # Qwen3
        head_dim = shapes[f"{first}self_attn.q_norm.weight"][0]
    else:  # Gemma has one key head; Llama as many as query heads, of 64
        head_dim = key if key != query else math.gcd(64, query)
    return {
        "vocab_size": vocab,
        "text_width": width,
        "text_layers": _count(shapes, "layers."),
        "text_heads": query // head_dim,
        "text_kv_heads": key // head_dim,
        "text_head_dim": head_dim,
        "text_feedforward": shapes[f"{first}mlp.gate_proj.weight"][0],
    }


def _head_sizes(kind: str, shapes: Shapes) -> dict[str, Any]:
    state = shapes["head.state_encoder.layer1.W"]
    made = {
        "max_num_embodiments": state[0],
        "max_state_dim": state[1],
        "hidden_size": state[2],
        "input_embedding_dim": shapes["head.state_encoder.layer2.W"][2],
        "max_action_dim": shapes["head.action_encoder.W1.W"][1],
        "diffusion_layers": _count(shapes, "head.model.transformer_blocks."),
        "max_seq_len": shapes["head.position_embedding.weight"][0],
    }
    if kind == "gr00t_n1":
        return made | {"project_to_dim": shapes["linear.weight"][0]}
    num_layers = _count(shapes, "head.vl_self_attention.transformer_blocks.")
    return made | {"num_target_vision_tokens": shapes["head.future_tokens.weight"][0], "vl_layers": num_layers}


def _count(shapes: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


# ------------------------------------------------------------------------------------------------ features, statistics


def camera(name: str, size: int, height: int = 0, width: int = 0) -> Feature:
    """A camera of the network's size, or of its own."""
    key = name if name.startswith("observation.") else f"observation.images.{name}"
    return Feature(key, "image", (height or size, width or size, 3), "uint8")


def vector(key: str, dim: int, kind: str = "state") -> Feature:
    """A state or an action."""
    return Feature(key, kind, (dim,), "float32")  # type: ignore[arg-type]


def instruction() -> Feature:
    """The task."""
    return Feature(TASK, "text", (), "int64")


def stats_from(values: Mapping[str, Any]) -> FeatureStats:
    """Lists of numbers by statistic; what is not there is no number."""
    known = {name: [float(one) for one in values[name]] for name in STATISTICS if values.get(name) is not None}
    dim = len(next(iter(known.values())))
    rows = (tuple(known.get(name, [float("nan")] * dim)) for name in STATISTICS)
    return FeatureStats(0, *rows)


def stats_of(policy: Policy) -> dict[str, dict[str, list[float]]]:
    """The statistics that a policy scales with, as far as its modes know them."""
    from tendon.policies.processing.normalize import STATISTICS as NAMES
    from tendon.policies.processing.normalize import Normalize

    made: dict[str, dict[str, list[float]]] = {}
    assert policy.processing is not None
    for index, transform in enumerate(policy.processing.transforms):
        if isinstance(transform, Normalize):
            for key, rows in policy.processing.numbers(index).items():
                mode = transform.modes[key]
                if mode in NAMES and policy.features[key].kind != "image":
                    low, scale = rows[3].double(), rows[4].double()
                    pair = (low, scale) if mode == "mean_std" else (low, low + 2 * scale)
                    if mode == "scale":
                        pair = (-scale, scale)
                    made[key] = {name: values.tolist() for name, values in zip(NAMES[mode], pair, strict=True)}
    return made
