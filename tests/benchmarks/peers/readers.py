"""Run by the readers' interpreter: samples per CPU second of other containers, made of the same payloads.

readers.py PAYLOADS.npz FOLDER -> {"litdata": .., "array_record": .., "lance": .., "mds": ..}; each in its best way
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

CHUNK = 64  # rows that Lance takes at once


def litdata(payloads, folder):
    import litdata

    litdata.optimize(
        fn=dict_of, inputs=[bytes(p) for p in payloads], output_dir=str(folder), chunk_bytes="64MB", num_workers=1
    )
    found = litdata.StreamingDataset(str(folder), shuffle=False)
    return lambda: sum(1 for item in found if item["x"])


def dict_of(payload):
    return {"x": payload}


def array_record(payloads, folder):
    from array_record.python import array_record_module as arm

    folder.mkdir(parents=True)
    writer = arm.ArrayRecordWriter(str(folder / "a.array_record"), "group_size:1")
    for payload in payloads:
        writer.write(bytes(payload))
    writer.close()
    reader = arm.ArrayRecordReader(str(folder / "a.array_record"))
    order = np.random.default_rng(0).permutation(len(payloads)).tolist()
    return lambda: sum(1 for i in order if reader.read([i]))


def lance(payloads, folder):
    import lance
    import pyarrow

    table = pyarrow.table({"x": pyarrow.array([bytes(p) for p in payloads], pyarrow.large_binary())})
    found = lance.write_dataset(table, str(folder))
    order = np.random.default_rng(0).permutation(len(payloads)).tolist()

    def take():
        return sum(len(found.take(order[i : i + CHUNK]).to_pydict()["x"]) for i in range(0, len(order), CHUNK))

    return take


def mds(payloads, folder):
    import streaming

    with streaming.MDSWriter(out=str(folder), columns={"x": "bytes"}) as writer:
        for payload in payloads:
            writer.write({"x": bytes(payload)})
    streaming.base.util.clean_stale_shared_memory()
    found = streaming.LocalDataset(str(folder))
    order = np.random.default_rng(0).permutation(len(payloads)).tolist()
    return lambda: sum(1 for i in order if found[i]["x"])


def rate(take):
    take()
    rates = []
    for _ in range(5):
        began, count = time.process_time(), 0
        while time.process_time() - began < 0.3:
            count += take()
        rates.append(count / (time.process_time() - began))
    return sorted(rates)[2]


def main(payloads, folder):
    with np.load(payloads) as found:
        flat, sizes = found["flat"], found["sizes"].tolist()
    items = np.split(flat, np.cumsum(sizes)[:-1])
    answer = {}
    for name, make in (("litdata", litdata), ("array_record", array_record), ("lance", lance), ("mds", mds)):
        try:
            answer[name] = rate(make(items, folder / name))
        except Exception as error:  # said in the row
            answer[name + "_error"] = f"{type(error).__name__}: {error}"[:300]
    return answer


if __name__ == "__main__":
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        answer = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(answer))
