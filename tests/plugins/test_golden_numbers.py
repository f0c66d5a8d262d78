"""Whoever changes a number raises the version of what makes it: the goldens hold the files to their NUMERICS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tendon.config.numerics import statement
from tendon.errors import ConfigError, MissingDependency
from tests.plugins import golden_numbers

ROOT = Path(__file__).resolve().parents[2]
RENEW = "python -m tests.plugins.golden_numbers"
GOLDEN = json.loads(golden_numbers.FILE.read_text())
ENTRIES = golden_numbers.entries()


def check(name: str, numbers: list[float]) -> None:
    """The numbers are the golden ones, and of the versions that they were made with."""
    statements, _ = ENTRIES[name]
    stated, kept = {one: golden_numbers.version(one) for one in statements}, GOLDEN[name]
    differing = [one for one in statements if stated[one] != kept["numerics"].get(one)]
    if differing:
        pytest.fail(f"{name}: NUMERICS of {', '.join(differing)} is not the golden's: renew the golden with {RENEW}")
    same = len(numbers) == len(kept["numbers"]) and numbers == pytest.approx(
        kept["numbers"], rel=golden_numbers.TOLERANCE, abs=golden_numbers.TOLERANCE
    )
    if not same:
        others = f" (or of one of {', '.join(statements[1:])})" if len(statements) > 1 else ""
        words = f"numbers changed: raise NUMERICS of {statements[0]}{others} and renew the golden with {RENEW}"
        pytest.fail(f"{name}: {words}\nnow    {numbers}\ngolden {kept['numbers']}")


@pytest.mark.parametrize("name", list(ENTRIES))
def test_the_numbers_are_those_of_the_stated_version(name: str) -> None:
    try:
        numbers = ENTRIES[name][1]()
    except (MissingDependency, ConfigError) as error:  # a simulator that is not here, or not its data
        pytest.skip(error.problems[0].what)
    check(name, numbers)


def test_a_changed_number_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import Tensor

    from tendon.policies.bc_rnn.model import BcRnn

    loss = BcRnn.loss

    def other(self: BcRnn, batch: dict[str, Tensor], *rest: object) -> object:
        return loss(self, {key: value * 1.001 if key == "action" else value for key, value in batch.items()}, *rest)

    monkeypatch.setattr(BcRnn, "loss", other)
    words = r"numbers changed: raise NUMERICS of tendon\.policies\.bc_rnn\.model .* and renew the golden"
    with pytest.raises(pytest.fail.Exception, match=words):
        check("bc_rnn", ENTRIES["bc_rnn"][1]())
    check("bc", ENTRIES["bc"][1]())


def test_a_raised_version_asks_for_a_new_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_numbers, "version", lambda name: 1 + ("transformer" in name))
    with pytest.raises(pytest.fail.Exception, match=r"NUMERICS of .*bc_transformer\.model.* renew the golden"):
        check("bc_transformer", GOLDEN["bc_transformer"]["numbers"])
    check("bc", GOLDEN["bc"]["numbers"])


def test_every_file_that_makes_numbers_states_a_version_and_is_held() -> None:
    """Every policy's model, what policies share and each adapter; and each statement has an entry that belongs to it."""
    held = {one.partition(":")[0] for statements, _ in ENTRIES.values() for one in statements}
    source = ROOT / "src/tendon"
    shared = [file for part in ("parts", "processing") for file in source.glob(f"policies/{part}/*.py")]
    computing = [file for file in shared if "import torch" in file.read_text() or "from torch" in file.read_text()]
    computing += [*source.glob("policies/*/model.py"), *source.glob("sim/adapters/[!_]*.py")]
    modules = {file: ".".join(file.relative_to(source.parent).with_suffix("").parts) for file in computing}
    assert len(modules) > 13
    assert [module for file, module in modules.items() if statement(file) is None] == []
    assert [module for module in modules.values() if module not in held] == []


def test_the_golden_holds_every_entry_and_no_other() -> None:
    assert set(GOLDEN) == set(ENTRIES), f"{RENEW} writes it"
