"""Which seeds belong to what, so that no policy is ever judged on a seed that trained, demonstrated or selected it.

Pure. The blocks do not overlap by construction; asking one for more seeds than it has is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from tendon.errors import ConfigError


@dataclass(frozen=True)
class SeedBlock:
    """Seeds ``first .. last`` (both included) that serve one purpose."""

    name: str
    first: int
    last: int

    def take(self, count: int, start: int = 0) -> tuple[int, ...]:
        """``count`` seeds, from the ``start``-th of the block on."""
        size = self.last - self.first + 1
        if count < 0 or start < 0 or start + count > size:
            raise ConfigError(
                f"the {self.name} block has no {count} seeds left from its seed {self.first + start} on",
                where=f"seed block {self.name}: {self.first} .. {self.last}",
                why=f"it holds {size} seeds, and a seed of another block would be judged twice",
                fix=f"ask for at most {max(0, size - max(0, start))} episodes",
            )
        return tuple(range(self.first + start, self.first + start + count))


DEMONSTRATIONS = SeedBlock("demonstrations", 1, 9_999)
TRAINING = SeedBlock("training", 10_000, 99_999)
SELECTION = SeedBlock("selection", 100_000, 999_999)
CONFIRMATION_FIRST = 1_000_000
CONFIRMATION_SIZE = 10_000
CONFIRMATION_BLOCKS = 1_000
ONLINE = SeedBlock("online", 20_000_000, 29_999_999)


def confirmation(run_id: str) -> SeedBlock:
    """The confirmation block of a run; ``run_id`` is hexadecimal."""
    index = int(run_id, 16) % CONFIRMATION_BLOCKS
    first = CONFIRMATION_FIRST + CONFIRMATION_SIZE * index
    return SeedBlock("confirmation", first, first + CONFIRMATION_SIZE - 1)


def demonstrations(seed: int, count: int) -> tuple[int, ...]:
    """Seeds of scripted demonstrations, from ``seed`` on."""
    return DEMONSTRATIONS.take(count, seed - DEMONSTRATIONS.first)


def training(count: int, start: int = 0) -> tuple[int, ...]:
    """Seeds of rollouts during training."""
    return TRAINING.take(count, start)


def selection(count: int) -> tuple[int, ...]:
    """Seeds on which trials are compared."""
    return SELECTION.take(count)


def online(begin: int, number: int) -> int:
    """The seed of an episode that a policy plays while it learns; after the last of the block comes the first again.

    Example:
        >>> online(10_000, 5)
        20010005
    """
    return ONLINE.first + (begin + number) % (ONLINE.last - ONLINE.first + 1)
