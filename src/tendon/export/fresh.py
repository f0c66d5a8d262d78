"""A bundle acting in a process of its own: what was loaded is the files alone, nothing that the parent process holds.

``python -m tendon.export.fresh FOLDER EXCHANGE THREADS URI`` is the child: it reads EXCHANGE/inputs.safetensors, acts, and
writes EXCHANGE/actions.safetensors. ``act_in_fresh_process`` starts it; called by export.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tendon.errors import DataError, TendonError
from tendon.export.parity import actions_over
from tendon.policies.base import Batch

TIMEOUT_S = 600.0


def act_in_fresh_process(folder: Path, inputs: Sequence[Batch], where: str) -> list[Batch]:
    """The actions of the bundle in ``folder`` over the inputs as consecutive steps.

    Raises:
        DataError: the process failed; ``where`` names the bundle.
    """
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(prefix="tendon-parity-") as exchange:
        save_file(_named(inputs), Path(exchange, "inputs.safetensors"))
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
        return _steps(load_file(Path(exchange, "actions.safetensors")))


def main(folder: str, exchange: str, num_threads: str, where: str) -> None:
    """The child: sums in as many threads as the parent's, so that no bit differs for that."""
    from safetensors.torch import load_file, save_file

    from tendon.export.bundle import read_policy

    torch.set_num_threads(int(num_threads))
    policy, _ = read_policy(Path(folder), where)
    actions = actions_over(policy, _steps(load_file(Path(exchange, "inputs.safetensors"))))
    save_file(_named(actions), Path(exchange, "actions.safetensors"))


def _named(steps: Sequence[Batch]) -> Batch:
    """The tensors of all steps in one file."""
    return {f"{step:04d}/{key}": value.contiguous() for step, batch in enumerate(steps) for key, value in batch.items()}


def _steps(named: Mapping[str, Tensor]) -> list[Batch]:
    """What ``_named`` put together."""
    steps: dict[str, Batch] = {}
    for name, value in named.items():
        step, _, key = name.partition("/")
        steps.setdefault(step, {})[key] = value
    return [steps[step] for step in sorted(steps)]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TendonError as error:
        sys.exit(
            "; ".join(f"{problem.what}: {problem.why}" for problem in error.problems)
        )  # one line: the parent's why
