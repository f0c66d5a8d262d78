"""Run by the readers' interpreter: images per CPU second of loaders for torch, over the same JPEGs, batches of 64.

jpegs.py JPEGS.npz FOLDER -> {"dataloader": same decoder, per item, "webloader": PIL, tar samples}; two workers each
"""

import io
import json
import resource
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import webdataset

BATCH, WORKERS, EPOCHS = 64, 2, 6


class Jpegs(torch.utils.data.Dataset):
    """One image an item, decoded as ours."""

    def __init__(self, jpegs):
        self.jpegs = jpegs

    def __len__(self):
        return len(self.jpegs)

    def __getitem__(self, i):
        return torch.from_numpy(simplejpeg.decode_jpeg(self.jpegs[i], "RGB", fastdct=False, fastupsample=False))


def cpu_s():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def rate(opened):
    """Workers are joined, and so counted, when the iterator is gone; their start is in what is measured, as small as it is."""
    began, count = cpu_s(), 0
    batches = iter(opened())
    for batch in batches:
        count += len(batch[0] if isinstance(batch, (list, tuple)) else batch)
    del batches
    return count / (cpu_s() - began)


def main(path, folder):
    torch.set_num_threads(1)
    with np.load(path) as found:
        jpegs = [bytes(each) for each in np.split(found["flat"], np.cumsum(found["sizes"])[:-1])]
    jpegs = jpegs * EPOCHS * max(1, 2000 // len(jpegs))
    answer = {}
    answer["dataloader"] = rate(
        lambda: torch.utils.data.DataLoader(Jpegs(jpegs), batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    )
    paths = []
    for part in range(WORKERS):
        paths.append(str(folder / f"{part}.tar"))
        with tarfile.open(paths[-1], "w") as tar:
            for i, jpeg in enumerate(jpegs[part::WORKERS]):
                entry = tarfile.TarInfo(f"{i:06d}.jpg")
                entry.size = len(jpeg)
                tar.addfile(entry, io.BytesIO(jpeg))

    def webloader():
        samples = webdataset.WebDataset(paths, shardshuffle=False).shuffle(1000).decode("rgb8").to_tuple("jpg")
        return webdataset.WebLoader(samples, batch_size=BATCH, num_workers=WORKERS)

    answer["webloader"] = rate(webloader)
    return answer


if __name__ == "__main__":
    began = time.monotonic()
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
