"""Which feature of a LeRobot policy's file is missing where: its input_shapes beside the dataset and the simulator. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import EnvConfig
from tendon.data.features import Feature
from tendon.errors import Problem
from tendon.evaluate.feature_table import MISSING, FeatureRow, FeatureTable
from tendon.lerobot.request import Shape

ACTION = "action"
ADAPTED = "docs/from-lerobot.md#act-on-pusht"


def declared_problems(
    policy: str, declared: Mapping[str, Shape], recorded: Mapping[str, Feature], env: EnvConfig
) -> Iterator[Problem]:
    """One problem with the whole table, where a feature is missing or has another width.

    Args:
        policy: the option of ``policy=``.
        declared: what its file reads and writes; of cameras height, width, channels.
        recorded: what the dataset has.
        env: our environment, with its feature map.
    """
    table = declared_table(declared, recorded, env)
    wrong = [row for row in table.rows if MISSING in row.demonstrations or row.simulator == MISSING]
    if not wrong:
        return
    keys = ", ".join(row.key for row in wrong)
    if policy == "act" and env.simulator == "pusht":
        fix = f"policy=act_pusht, which is act with PushT's features: {ADAPTED}"
    else:
        fix = "an env and a dataset_repo_id of the policy's task; or policy.input_shapes and policy.output_shapes of the dataset"
    yield Problem(f"policy={policy} does not fit: {keys}", "policy, env, dataset_repo_id", f"\n{table.text}", fix)


def declared_table(declared: Mapping[str, Shape], recorded: Mapping[str, Feature], env: EnvConfig) -> FeatureTable:
    """The rows of the policy's file, then what the others have beside them."""
    names = FeatureMap.of(env)
    shown = {names.key_of(name): name for name in env.observation}
    rows = []
    for key, shape in declared.items():
        verb = "writes" if key == ACTION else "reads"
        simulated = "what it takes" if key == ACTION else shown.get(key, MISSING)
        rows.append(FeatureRow(key, f"{verb} {_size(shape)}", _recorded(key, shape, recorded), simulated))
    for key, name in shown.items():
        if key not in declared:
            there = _size(recorded[key].shape) if key in recorded else "-"
            rows.append(FeatureRow(key, "-", there, name))
    return FeatureTable(tuple(rows), tuple(recorded))


def _recorded(key: str, shape: Shape, recorded: Mapping[str, Feature]) -> str:
    """Cameras may have another height and width; the first layers do not care, and crops are checked on their own."""
    if key not in recorded:
        return MISSING
    there = recorded[key].shape
    is_same = len(shape) == 3 == len(there) or _count(shape) == _count(there)
    return _size(there) if is_same else f"{_size(there)}, {MISSING} {_size(shape)}"


def _count(shape: Shape) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _size(shape: Shape) -> str:
    return " x ".join(str(side) for side in shape) or "1"
