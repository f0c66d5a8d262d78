"""A loss that is no number stops the run at its step, names the episode, and never reaches a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.config.schema import TrainConfig
from tendon.errors import DataError
from tendon.policies.windows import Windows
from tendon.storage import open_store
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.training import train
from tendon.train.state.checkpoint import complete
from tests.train.small_trial import MemoryLoader, OpenMemory, make_config, make_stats, run


class OpenBroken(OpenMemory):
    """One value of batch 13 is what it must not be."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __call__(self, dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
        feeds = super().__call__(dataset_uri, config, windows, world)
        whole = feeds.train.batch

        def batch(k: int) -> dict[str, np.ndarray]:
            made = whole(k)
            if k == 13:
                made["observation.b_target"][4, 0, 1] = self.value
            return made

        feeds.train.batch = batch  # type: ignore[method-assign]
        return feeds


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("freq", [{"log_freq": 10, "save_freq": 10}, {"log_freq": 1000, "save_freq": 1000}])
def test_the_step_and_the_episode_are_named(tmp_path: Path, value: float, freq: dict[str, Any]) -> None:
    feed = OpenBroken(value)
    with pytest.raises(DataError) as caught:
        train(make_config(**freq), "memory", make_stats(), str(tmp_path), open_data=feed)
    problem = caught.value.problems[0]
    batch = MemoryLoader(1, make_config().training.batch_size).batch(13)
    episode, frame = batch["episode_index"][4], batch["frame_index"][4]
    assert problem.where.startswith("step 13, episodes demo_")
    assert problem.why == f"observation.b_target is NaN or infinite in episode demo_{episode}, frame {frame}"
    assert problem.fix.endswith(f"data.skip_episodes=[demo_{episode}]")
    assert complete(open_store(str(tmp_path))) == (["000010"] if freq["save_freq"] == 10 else [])


def test_divergence_is_told_from_bad_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(tmp_path, lr=1e30, lr_scheduler="constant", lr_warmup_steps=0)
    assert "training diverged" in caught.value.problems[0].why
    assert complete(open_store(str(tmp_path))) == []
