"""``make faults``: LoRA runs killed at 20 updates, and every combination of tune flags trained by two processes.

Tiny networks on a small dataset with a camera and two instructions (tests/policies/vla_trials.py).
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from tests.benchmarks.rows import Skip, row

MOMENTS = 20


def share_equal(policy: str, moments: int) -> float:
    """The share of LoRA runs, each killed once behind an update and started again, that end as the undisturbed one."""
    _demand()
    from tests.benchmarks.train_faults import ended
    from tests.policies.vla_trials import LORA, make_dataset, on_base, run, run_killed, save_base

    steps, equal = moments + 2, 0
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder))
        base = on_base(save_base(Path(folder, "base.safetensors"), policy))
        overrides = (*LORA, *base, "policy.base_dtype=bfloat16", f"training.offline_steps={steps}")
        run(dataset, Path(folder, "trials/whole"), policy, *overrides)
        expected = ended(Path(folder, "trials/whole"), steps)
        for at in range(moments):
            trial = Path(folder, f"trials/cut-{at}")
            assert run_killed(dataset, trial, policy, *overrides, at=at) == -9
            run(dataset, trial, policy, *overrides)
            equal += ended(trial, steps) == expected
    return equal / moments


def parts_of(policy: str) -> list[str]:
    """What its ``tune_*`` keys name."""
    from tests.policies.vla_cases import config_of

    return [key.removeprefix("tune_") for key in vars(config_of(policy)) if key.startswith("tune_")]


def share_trained(policy: str) -> float:
    """The share of combinations of tune flags that two processes train for two updates; where nothing learns, that are refused."""
    _demand()
    from tendon.errors import ConfigError
    from tests.policies.vla_cases import config_of
    from tests.policies.vla_trials import make_dataset, run_ranks

    parts, trials, done = parts_of(policy), [], 0
    combinations = list(itertools.product((False, True), repeat=len(parts)))
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder))
        for number, chosen in enumerate(combinations):
            flags = tuple(f"policy.tune_{part}={str(on).lower()}" for part, on in zip(parts, chosen, strict=True))
            try:
                config_of(policy, *flags)
            except ConfigError:
                done += not any(chosen)
                continue
            short = ("training.offline_steps=2", "training.valid_freq=2", "training.save_freq=2")
            trials.append((str(Path(folder, f"trials/{number}")), policy, (*flags, *short)))
        codes = run_ranks(dataset, trials)
        finished = sum(Path(trial, "checkpoints/000002").is_dir() for trial, _, _ in trials)
    return (done + finished) / len(combinations) if codes == [0, 0] else finished / len(combinations)


def _demand() -> None:
    try:
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error}: pip install 'tendon-robotics[vla]'") from None


def _rows() -> None:
    @row(
        "faults",
        "internmanip-lora-exact",
        f"share of {MOMENTS} LoRA runs of pi0, SIGKILL behind each update, that end bit for bit equal",
        "== 1",
    )
    def killed() -> float:
        return share_equal("pi0", MOMENTS)

    for policy in ("pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5", "act_clip", "dp_clip"):
        what = (
            f"share of combinations of tune flags of {policy} that two processes train, or refuse where nothing learns"
        )

        @row("faults", f"internmanip-tune-{policy}", what, "== 1")
        def trained(policy: str = policy) -> float:
            return share_trained(policy)


_rows()
