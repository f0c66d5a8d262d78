"""Run by the readers' interpreter: datasets of 8 shards of 16 MB, and how fast they come over a network. Wall time.

network.py make FOLDER               -> {}; FOLDER/mds, FOLDER/lit and FOLDER/wds
network.py read ENDPOINT WHAT LOCAL  -> {"mb_s": .., "first_s": ..}; WHAT of s3://bucket is read from end to end,
                                        first_s from the opened index to the first sample; LOCAL is an empty folder
"""

import contextlib
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

SHARDS, PER_SHARD, SIZE = 8, 32, 1 << 19


def payload(i):
    return np.random.default_rng(i).integers(0, 256, SIZE, np.uint8).tobytes()


def item(i):
    return {"x": payload(i)}


def make(folder):
    import litdata
    import streaming

    folder, num = Path(folder), SHARDS * PER_SHARD
    litdata.optimize(
        fn=item,
        inputs=list(range(num)),
        output_dir=str(folder / "lit"),
        chunk_bytes=PER_SHARD * (SIZE + 64),
        num_workers=1,
    )
    with streaming.MDSWriter(
        out=str(folder / "mds"), columns={"x": "bytes"}, size_limit=PER_SHARD * (SIZE + 64)
    ) as writer:
        for i in range(num):
            writer.write(item(i))
    (folder / "wds").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / "wds" / f"{shard}.tar", "w") as tar:
            for i in range(PER_SHARD):
                entry = tarfile.TarInfo(f"{i:06d}.bin")
                entry.size = SIZE
                tar.addfile(entry, io.BytesIO(payload(shard * PER_SHARD + i)))
    return {}


def wds(endpoint, local):
    import webdataset

    urls = [f"pipe:curl -s {endpoint}/bucket/wds/{shard}.tar" for shard in range(SHARDS)]
    return (len(sample["bin"]) for sample in webdataset.WebDataset(urls, shardshuffle=False))


def mds(endpoint, local):
    import streaming

    streaming.base.util.clean_stale_shared_memory()
    os.environ["S3_ENDPOINT_URL"] = endpoint
    found = streaming.StreamingDataset(
        remote="s3://bucket/mds", local=local, predownload=256, shuffle=False, batch_size=1, download_timeout=100
    )
    return (len(sample["x"]) for sample in found)


def lit(endpoint, local):
    import litdata

    litdata.streaming.downloader._OBSTORE_AVAILABLE = False  # it refuses plain http
    found = litdata.StreamingDataset(
        "s3://bucket/lit", cache_dir=local, max_pre_download=8, storage_options={"endpoint_url": endpoint}
    )
    loader = litdata.StreamingDataLoader(found, batch_size=1, num_workers=2, collate_fn=list)
    return (len(batch[0]["x"]) for batch in loader)


def read(endpoint, what, local):
    samples = {"wds": wds, "mds": mds, "lit": lit}[what](endpoint, local)
    began, size, first = time.monotonic(), 0, 0.0
    for each in samples:
        first = first or time.monotonic() - began
        size += each
    assert size == SHARDS * PER_SHARD * SIZE, size
    return {"mb_s": size / 1e6 / (time.monotonic() - began), "first_s": first}


if __name__ == "__main__":
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        answer = {"make": make, "read": read}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(answer))
