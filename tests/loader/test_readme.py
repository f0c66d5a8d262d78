"""The README's way to read shards without tendon works as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.loader.coded import Coded, coded_dataset

README = Path(__file__).resolve().parents[2] / "README.md"


def test_plain_webdataset(tmp_path: Path) -> None:
    dataset = coded_dataset(tmp_path, Coded(episodes=3, codecs=("jpeg",)))
    block = re.search(r"<!-- plain-webdataset -->\n```python\n(.*?)```", README.read_text(), re.S)
    assert block
    code = block[1].replace("DATASET", dataset.uri)
    code += "        print(sample['__key__'], len(steps), len(frames), first.shape, steps['action'].shape[1])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lengths = [row.length for row in dataset.rows]
    assert sorted(done.stdout.splitlines()) == [f"ep_{i:08d} {T} {T} (24, 24, 3) 2" for i, T in enumerate(lengths)]
