"""Of every policy's page: its presets, its keys, and what was measured of it."""

from __future__ import annotations

import re

from docs.builder import DOCS, between, cell, code
from docs.builder.configuration import policy_keys, presets_of, table, training_of
from tendon.config.policies import policy_configs
from tests.benchmarks import works

ROWS = {  # rows of bench, parity, faults and results that are about a policy, by their ids
    "act": r"lerobot-act|train-exact-act",
    "act_clip": r"internmanip-act_clip",
    "bc": r"robomimic-|train-robomimic|train-exact-(cameras|sig)",
    "bc_rnn": r"robomimic-(step|success|pth)",
    "bc_transformer": r"robomimic-(step|success|pth)",
    "bc_vae": r"robomimic-(success|pth)",
    "diffusion": r"lerobot-diffusion|train-exact-diffusion|train-lerobot",
    "dp_clip": r"internmanip-dp_clip",
    "gr00t_n1": r"internmanip-.*gr00t_n1$",
    "gr00t_n1_5": r"internmanip-.*gr00t_n1_5",
    "pi0": r"internmanip-(.*pi0$|.*pi0-|lora-exact)",
    "pi0fast": r"internmanip-.*pi0fast",
    "rocket1": r"rocket1-|minestudio-(rocket|exact|loads|seed)",
    "tdmpc": r"lerobot-(exact-)?tdmpc",
    "vqbet": r"lerobot-(exact-)?vqbet",
}


def names() -> list[str]:
    """Tendon's own policies."""
    return sorted(policy_configs())


def presets(name: str) -> str:
    """The files of conf/policy, and what the policy's own one sets besides its keys."""
    lines = ["| `policy=` | what it is |", "|---|---|"]
    lines += [f"| {code(option)} | {cell(about)} |" for option, about in presets_of(name)]
    besides = ", ".join(f"`{key}={_value(value)}`" for key, value in training_of(name).items())
    return "\n".join([*lines, "", f"`policy={name}` also sets {besides}." if besides else ""])


def keys(name: str) -> str:
    """Every key of the policy."""
    return "\n".join(table(policy_keys(name)))


def numbers(name: str) -> str:
    """What was measured, as it was last."""
    results = works.measured()
    lines = ["| row | what | bound | measured | state |", "|---|---|---|---|---|"]
    for id, (_, what, bound) in sorted(works.known_rows().items()):
        if not re.match(ROWS[name], id):
            continue
        state, result = works.state_of(id, bound, results), results.get(id)
        known = result is not None and state != "unverified" and result["value"] is not None
        value = f"{result['value']:.4g} ({result['commit']})" if known and result else ""
        lines.append(f"| {code(id)} | {cell(what)} | {cell(bound)} | {value} | {state} |")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """docs/policies/<name>.md with its generated parts."""
    made = {}
    for name in names():
        text = (DOCS / "policies" / f"{name}.md").read_text(encoding="utf-8")
        for part, new in (("presets", presets(name)), ("keys", keys(name)), ("numbers", numbers(name))):
            text = between(text, part, new)
        made[f"policies/{name}.md"] = text
    return made


def _value(value: object) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).replace("'", "").replace("True", "true").replace("False", "false")
    )
