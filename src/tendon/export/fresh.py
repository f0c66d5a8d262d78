"""A bundle acting in a process of its own: what was loaded is the files alone, nothing that the parent process holds.

``python -m tendon.export.fresh FOLDER EXCHANGE THREADS URI`` is the child: it reads EXCHANGE/inputs.safetensors, acts, and
writes EXCHANGE/actions.safetensors. ``act_in_fresh_process`` starts it; called by export.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tendon.errors import DataError, TendonError
from tendon.export.parity import actions_over
from tendon.policies.base import Batch

TIMEOUT_S = 600.0


def act_in_fresh_process(folder: Path, inputs: Sequence[Batch], where: str) -> list[Tensor]:
    """The actions of the bundle in ``folder`` over the inputs as consecutive steps.

    Raises:
        DataError: the process failed; ``where`` names the bundle.
    """
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(prefix="tendon-parity-") as exchange:
        named = {f"{step:04d}/{key}": value for step, batch in enumerate(inputs) for key, value in batch.items()}
        save_file({name: value.contiguous() for name, value in named.items()}, Path(exchange, "inputs.safetensors"))
        command = [sys.executable, "-m", "tendon.export.fresh", str(folder), exchange, str(torch.get_num_threads())]
        command.append(where)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            done, why = None, f"it had not acted after {TIMEOUT_S:g} s"
        if done is None or done.returncode:
            raise DataError(
                "the bundle does not act in a process of its own",
                where=where,
                why=why,
                fix="export again; if it stays, the checkpoint and this version of tendon do not belong together",
            )
        actions = load_file(Path(exchange, "actions.safetensors"))
        return [actions[name] for name in sorted(actions)]


def main(folder: str, exchange: str, num_threads: str, where: str) -> None:
    """The child: sums in as many threads as the parent's, so that no bit differs for that."""
    from safetensors.torch import load_file, save_file

    from tendon.export.bundle import read_policy

    torch.set_num_threads(int(num_threads))
    policy, _ = read_policy(Path(folder), where)
    inputs: dict[str, Batch] = {}
    for name, value in load_file(Path(exchange, "inputs.safetensors")).items():
        step, _, key = name.partition("/")
        inputs.setdefault(step, {})[key] = value
    actions = actions_over(policy, [inputs[step] for step in sorted(inputs)])
    named = {f"{step:04d}": action.contiguous() for step, action in enumerate(actions)}
    save_file(named, Path(exchange, "actions.safetensors"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TendonError as error:
        sys.exit(
            "; ".join(f"{problem.what}: {problem.why}" for problem in error.problems)
        )  # one line: the parent's why
