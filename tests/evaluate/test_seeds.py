import itertools

import pytest

from tendon.errors import ConfigError
from tendon.evaluate import seeds


def test_blocks_start_where_the_contract_says():
    assert seeds.demonstrations(1, 3) == (1, 2, 3)
    assert seeds.training(2) == (10_000, 10_001)
    assert seeds.selection(2) == (100_000, 100_001)
    assert seeds.confirmation("00ff").take(2) == (1_000_000 + 10_000 * 255, 1_000_000 + 10_000 * 255 + 1)
    assert seeds.confirmation(f"{1234:x}") == seeds.confirmation(f"{234:x}")


def test_no_two_blocks_share_a_seed():
    blocks = [seeds.DEMONSTRATIONS, seeds.TRAINING, seeds.SELECTION]
    blocks += [seeds.confirmation(f"{index:x}") for index in range(seeds.CONFIRMATION_BLOCKS)]
    ordered = sorted(blocks, key=lambda block: block.first)
    assert all(one.last < other.first for one, other in itertools.pairwise(ordered))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: seeds.demonstrations(1, 10_000),
        lambda: seeds.demonstrations(9_990, 11),
        lambda: seeds.demonstrations(0, 1),
        lambda: seeds.demonstrations(10_000, 1),
        lambda: seeds.training(90_001),
        lambda: seeds.selection(900_001),
        lambda: seeds.confirmation("a").take(10_001),
    ],
)
def test_an_exhausted_block_is_an_error(ask):
    with pytest.raises(ConfigError, match="block"):
        ask()
