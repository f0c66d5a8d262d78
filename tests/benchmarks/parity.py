"""``make parity``: our files and numbers beside a peer's own code, in a scratch environment of the peer."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tendon.evaluate import sims
from tests.benchmarks import line, peers
from tests.benchmarks.rows import Skip, row

EPISODES, EPOCHS = 20, 100


@lru_cache(maxsize=1)
def robomimic_on_our_file() -> dict[str, Any]:
    """What robomimic's own dataset class and BC say of the HDF5 that ``tendon demo-data`` writes."""
    if not sims.installed("robosuite"):
        raise Skip("robosuite is not installed: tendon sims install robosuite")
    python = peers.robomimic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lift.hdf5"
        line.run("demo-data", "env=lift", "--episodes", EPISODES, "-o", path, cwd=Path(folder))
        return peers.ask(python, "robomimic_bc.py", str(path), str(EPOCHS))


@row(
    "parity",
    "robomimic-opens",
    f"demonstrations of {EPISODES} that robomimic finds under masks train and valid",
    f"== {EPISODES}",
)
def robomimic_opens() -> float:
    """Masks, attributes and arrays are as robomimic expects them."""
    answer = robomimic_on_our_file()
    assert answer["env_name"] == "Lift", answer
    assert answer["env_type"] == 1, answer
    return float(answer["demos_train"] + answer["demos_valid"])


@row(
    "parity",
    "robomimic-trains",
    f"robomimic's BC loss after {EPOCHS} epochs on our file, as a share of the first epoch's",
    "<= 0.5",
)
def robomimic_trains() -> float:
    """Its own training works on the file."""
    answer = robomimic_on_our_file()
    return float(answer["last_loss"] / answer["first_loss"])
