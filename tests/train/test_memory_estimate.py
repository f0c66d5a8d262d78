"""The memory of a training step, estimated without values, is what the allocator counts; and a 3 B preset's by the estimate."""

from __future__ import annotations

import pytest

from tests.benchmarks.vla_memory import worst_share

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tendon-robotics[vla]'")


@pytest.mark.parametrize("name", ["pi0", "gr00t_n1_5"])
def test_the_estimate_is_what_the_allocator_counts(name: str) -> None:
    assert worst_share(f"{name}_tiny") < 0.1


@pytest.mark.long
def test_lora_and_recomputing_take_less() -> None:
    from tendon.train.loop.memory_estimate import estimate_memory
    from tests.benchmarks.vla_memory import LORA, MID, MID_OF, config_of, features

    mid = [f"policy.{one}" for one in (*MID, *MID_OF["pi0"])]
    whole = estimate_memory(config_of("pi0_tiny", *mid), features())
    again = estimate_memory(config_of("pi0_tiny", *mid, "policy.gradient_checkpointing=true"), features())
    lora = estimate_memory(config_of("pi0_tiny", *mid, *LORA[:-1], "training.batch_size=4"), features())
    assert again.passing < 0.7 * whole.passing
    assert again.learning == whole.learning
    assert lora.moments < 0.2 * whole.moments
    assert lora.frozen < 0.6 * (whole.frozen + whole.learning)  # half the bytes
    assert lora.total < again.total < whole.total
    assert [line.rsplit(None, 2)[0] for line in lora.describe().splitlines()][-1] == "together"
