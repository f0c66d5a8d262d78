"""Runs inside the environment of GR00T's data module: every step of a folder as GR00T's own loader of episodes gives it.

    CHECKOUT FOLDER OUT.npz

OUT has ``episode/modality.key`` for every key of meta/modality.json. The last line printed is a JSON answer: how many episodes
and steps there are, the texts of each annotation, and the statistics that GR00T reads beside those that it computes itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main(checkout: str, folder: str, out: str) -> dict[str, object]:
    sys.path.insert(0, checkout)
    from gr00t.data.dataset.lerobot_episode_loader import LeRobotEpisodeLoader
    from gr00t.data.dataset.sharded_single_step_dataset import extract_step_data
    from gr00t.data.embodiment_tags import EmbodimentTag
    from gr00t.data.stats import calculate_dataset_statistics
    from gr00t.data.types import ModalityConfig

    entries = json.loads((Path(folder) / "meta/modality.json").read_text())
    keys = {kind: list(entries[kind]) for kind in ("state", "action", "video") if entries.get(kind)}
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, list[str]] = {}
    for name in entries["annotation"]:
        configs = {kind: ModalityConfig([0], list(names)) for kind, names in keys.items()}
        configs["language"] = ModalityConfig([0], [f"annotation.{name}"])
        loader = LeRobotEpisodeLoader(folder, configs, video_backend="torchcodec")
        for number in range(len(loader)):
            episode = loader[number]
            steps = [extract_step_data(episode, t, configs, EmbodimentTag.NEW_EMBODIMENT) for t in range(len(episode))]
            texts.setdefault(name, []).extend(step.text for step in steps)
            for kind, field in (("state", "states"), ("action", "actions"), ("video", "images")):
                for key in keys.get(kind, ()):
                    arrays[f"{number}/{kind}.{key}"] = np.stack([getattr(step, field)[key][0] for step in steps])
    np.savez(out, **arrays)
    told = loader.get_dataset_statistics()
    columns = [
        name for name, entry in loader.feature_config.items() if "float" in entry["dtype"]
    ]  # as its generate_stats takes them
    computed = calculate_dataset_statistics(sorted(Path(folder).glob("data/*/*.parquet")), columns)
    statistics = {name: {"read": loader.stats[name], "computed": computed[name]} for name in columns}
    parts = {f"{kind}.{key}": told[kind][key] for kind in ("state", "action") for key in keys.get(kind, ())}
    return {"episodes": len(loader), "texts": texts, "statistics": statistics, "parts": parts}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
