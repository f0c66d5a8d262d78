"""A scripted expert's demonstrations in a format that somebody reads: ``tendon demo-data`` calls this.

robomimic's file also holds the simulator's states; every other format is written from Episodes, with no file in between.
Each has a card that says who made the demonstrations: README.md in a folder, <file>.md beside a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tendon.evaluate.demo_card import demo_card
from tendon.evaluate.experts import ExpertSettings
from tendon.evaluate.recording import Recording
from tendon.storage import open_store
from tendon.storage.outputs import refuse_existing
from tendon.storage.uri import local_path, scheme_of

FORMATS = {"lerobot": "lerobot-v3.0", "modality": "modality", "minestudio": "minestudio-v1.1"}


def write_demos(
    settings: ExpertSettings,
    output: str,
    format: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    force: bool = False,
) -> str:
    """Record the expert and write its episodes; where they are. A recording that was stopped goes on.

    Args:
        settings: the expert, how many episodes and from which seed.
        output: the file or folder to make; for ``shards`` the store that the dataset is put into.
        format: robomimic, lerobot, modality, minestudio or shards.
        progress: called with (episodes recorded, episodes in all).
        force: what is there is replaced.
    """
    if format != "shards":
        card = f"{output}.md" if format == "robomimic" else f"{output}/README.md"
        refuse_existing(output, card, force=force)
    recording = Recording.of(
        output, settings.env, noise=settings.noise, images=settings.images, states=format == "robomimic"
    )
    recording.say_what_is_there()
    made = _write(replace(settings, recording=recording), output, format, progress, force)
    recording.forget()
    return made


def _write(
    settings: ExpertSettings, output: str, format: str, progress: Callable[[int, int], None] | None, force: bool
) -> str:
    if format == "robomimic":
        from tendon.evaluate.demos import record_demos

        with _file_for(output) as file:
            report = record_demos(
                settings.env,
                settings.episodes,
                settings.seed,
                file,
                noise=settings.noise,
                images=settings.images,
                num_guests=settings.num_guests,
                step_timeout_s=settings.step_timeout_s,
                recording=settings.recording,
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
        write_dataset(source, output, FORMATS[format], force=force)
        _leave_card(f"{output}/README.md", demo_card(settings, source.lost.failed, source.lost.crashed))
    return output


@contextmanager
def _file_for(output: str) -> Iterator[Path]:
    """The file to write for an address; one that is then put into a store, where it is in one."""
    if scheme_of(output) != "s3":
        yield local_path(output)
        return
    folder, _, name = output.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="tendon-demos-") as scratch:
        yield Path(scratch) / name
        open_store(folder).put_file(name, Path(scratch) / name)


def _leave_card(path: str, card: str) -> None:
    if scheme_of(path) == "s3":
        folder, _, name = path.rpartition("/")
        open_store(folder).write(name, card.encode())
    else:
        local_path(path).write_text(card, encoding="utf-8")
