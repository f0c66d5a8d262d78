"""A scripted expert's demonstrations in a format that somebody reads: ``tendon demo-data`` calls this.

robomimic's file also holds the simulator's states; every other format is written from Episodes, with no file in between.
Each has a card that says who made the demonstrations: README.md in a folder, <file>.md beside a file.
"""

from __future__ import annotations

from collections.abc import Callable

from tendon.evaluate.demo_card import demo_card
from tendon.evaluate.experts import ExpertSettings
from tendon.storage import open_store
from tendon.storage.uri import local_path, scheme_of

FORMATS = {"lerobot": "lerobot-v3.0", "modality": "modality", "minestudio": "minestudio-v1.1"}


def write_demos(
    settings: ExpertSettings, output: str, format: str, progress: Callable[[int, int], None] | None = None
) -> str:
    """Record the expert and write its episodes; where they are.

    Args:
        settings: the expert, how many episodes and from which seed.
        output: the file or folder to make; for ``shards`` the store that the dataset is put into.
        format: robomimic, lerobot, modality, minestudio or shards.
        progress: called with (episodes recorded, episodes in all).
    """
    if format == "robomimic":
        from tendon.evaluate.demos import record_demos

        report = record_demos(
            settings.env,
            settings.episodes,
            settings.seed,
            output,
            noise=settings.noise,
            images=settings.images,
            num_guests=settings.num_guests,
            step_timeout_s=settings.step_timeout_s,
            progress=progress,
        )
        _leave_card(f"{output}.md", demo_card(settings, report.failed_seeds, report.crashed_seeds))
        return output
    from tendon.data.convert import convert, dataset_uri, plan_digest
    from tendon.data.writers import write_dataset
    from tendon.evaluate.demo_episodes import expert_episodes
    from tendon.evaluate.demo_uri import recording_digest

    env, uri = settings.env, f"demo://{settings.env.name}"
    known_by = recording_digest(env, settings.episodes, settings.seed, settings.noise, settings.images)
    says_success = format == "lerobot"
    with expert_episodes(settings, uri, known_by, progress, says_success=says_success) as source:
        if format == "shards":
            convert(source, output, env.name)
            return dataset_uri(output, env.name, plan_digest(known_by))
        write_dataset(source, output, FORMATS[format])
        _leave_card(f"{output}/README.md", demo_card(settings, source.lost.failed, source.lost.crashed))
    return output


def _leave_card(path: str, card: str) -> None:
    if scheme_of(path) == "s3":
        folder, _, name = path.rpartition("/")
        open_store(folder).write(name, card.encode())
    else:
        local_path(path).write_text(card, encoding="utf-8")
