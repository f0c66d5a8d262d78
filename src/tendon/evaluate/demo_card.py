"""The card of demonstrations that a scripted expert made: what a person reads who finds the files. Written by demo_files.py."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tendon.config.numerics import statement
from tendon.evaluate.adapters import EXPERT_STATEMENT, find_adapter
from tendon.evaluate.experts import ExpertSettings

CARD = """\
# {name}: scripted demonstrations

**Scripted.** A program made these episodes, the expert of simulator `{simulator}` for task `{task}`. No person did, so results of
training on them do not compare with results on human demonstrations.

| | |
|---|---|
| episodes | {episodes}, the successful ones from seed {seed} on; success is the simulator's own rule, and ends an episode |
| left out | {failed} that did not succeed, {crashed} in which the simulator crashed |
| noise | {noise:g} (what that moves is said by the simulator, below) |
| control | {fps:g} steps a second, at most {length} steps |
| version | expert {version}{packages} |

{about}"""


def demo_card(settings: ExpertSettings, failed: Sequence[int], crashed: Sequence[int]) -> str:
    """The card as Markdown.

    Args:
        settings: what was recorded.
        failed: seeds in which the expert did not succeed.
        crashed: seeds in which the simulator crashed.
    """
    env = settings.env
    adapter = find_adapter(env.simulator)
    about = ast.get_docstring(ast.parse(adapter.file.read_text(encoding="utf-8"))) or ""
    version = (statement(adapter.file, EXPERT_STATEMENT) or {}).get(env.task, 1)
    return CARD.format(
        name=env.name,
        simulator=env.simulator,
        task=env.task,
        episodes=settings.episodes,
        seed=settings.seed,
        failed=_counted(failed),
        crashed=_counted(crashed),
        noise=settings.noise,
        fps=env.fps,
        length=env.episode_length,
        version=version,
        packages="".join(f", {pin}" for pin in adapter.pins[:2]),
        about=f"The simulator says of itself:\n\n{about}\n" if about else "",
    )


def _counted(seeds: Sequence[int]) -> str:
    """How many, and which."""
    if not seeds:
        return "none"
    return f"{len(seeds)} (seeds {', '.join(map(str, seeds[:10]))}{', ...' if len(seeds) > 10 else ''})"
