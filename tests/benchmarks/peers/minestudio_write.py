"""Run by MineStudio's interpreter: make a dataset with its own converters and its own event tool.

minestudio_write.py FOLDER EPISODES -> {"version", "episodes": {name: frames}}; FOLDER/dataset is what it wrote.
"""

import contextlib
import io
import json
import pickle
import sys
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import numpy as np

BUTTONS = ["attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory"]
BUTTONS += [f"hotbar.{i}" for i in range(1, 10)]
START, LENGTHS = 120000, (300, 75, 100)


def write_raw(folder, episodes):
    """Recordings as MineStudio's converters read them: mp4 640x360, pickles of actions, meta information, masks."""
    rng = np.random.default_rng(0)
    for kind in ("video", "action", "meta", "rle"):
        (folder / kind).mkdir(parents=True)
    for i in range(episodes):
        length = LENGTHS[i % len(LENGTHS)]
        name = f"Player{i}-abc{i}-2022010{i + 1}-{START + i}"
        with av.open(str(folder / "video" / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("h264", rate=20)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            y, x = np.mgrid[0:360, 0:640]
            for t in range(length):
                frame = np.stack([(x + 4 * t) % 256, (y + 2 * t) % 256, (x + y + i * 40) % 256], -1).astype(np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        action = {key: (rng.random(length) < 0.2).astype(np.int64) for key in BUTTONS}
        action["camera"] = rng.integers(-30, 30, (length, 2)) * 360 / 2400 * (rng.random((length, 1)) < 0.5)
        meta = [
            {"yaw": float(rng.normal()), "pitch": float(rng.normal()), "xpos": float(rng.normal() * 1e3), "ypos": 63.0 + t / 7,
             "zpos": 1 / 3, "hotbar": t % 9, "inventory": [{"type": "dirt", "quantity": t}], "isGuiOpen": t % 5 == 0,
             "isGuiInventory": False, "delta_yaw": 0.5, "delta_pitch": -0.5, "cursor_x": 1.0, "cursor_y": 2.0,
             "events": {"minecraft.kill_entity:cow": 1} if t % 40 == 7 else {}}
            for t in range(length)
        ]  # fmt: skip
        keys = [((10, 30), "minecraft.kill_entity:cow", f) for f in range(10, 31)]
        masks = {
            key: {"obj_id": 0, "rle_mask": f"{1000 + 10 * key[2]} 200 {4000 + key[2]} 31", "event": key[1],
                  "point": (120.5, 33.0 + key[2]), "frame_range": key[0]}
            for key in keys
        }  # fmt: skip
        rle = {"video_annos": {key[2]: [key] for key in keys}, "rle_mask_mapping": masks}
        for kind, suffix, value in (("action", "pkl", action), ("meta", "pkl", meta), ("rle", "rle", rle)):
            (folder / kind / f"{name}.{suffix}").write_bytes(pickle.dumps(value))


def main(folder, episodes):
    import minestudio.data.minecraft.callbacks as cb
    from minestudio.data.minecraft.tools.convertion import ConvertWorker

    worker_class = ConvertWorker.__ray_metadata__.modified_class  # the same class without a Ray cluster
    progress = SimpleNamespace(update=SimpleNamespace(remote=lambda n: None))
    write_raw(folder / "raw", episodes)

    class ActionConvert(cb.ActionConvertCallback):
        """The constructor of 1.1.6 calls its parent without the two values that the parent needs."""

        def __init__(self, input_dirs, chunk_size):
            self.input_dirs, self.chunk_size = input_dirs, chunk_size

    flags = ActionConvert(input_dirs=[str(folder / "raw" / "action")], chunk_size=32)
    found = {}
    for name, kind, convert in (
        ("image", "video", cb.ImageConvertCallback), ("action", "action", ActionConvert),
        ("meta_info", "meta", cb.MetaInfoConvertCallback), ("segmentation", "rle", cb.SegmentationConvertCallback),
    ):  # fmt: skip
        kernel = convert(input_dirs=[str(folder / "raw" / kind)], chunk_size=32)
        tasks = dict(sorted(kernel.load_episodes().items()))
        names = list(tasks)
        parts = [names] if name == "action" else [names[:1], names[1:]]  # the modalities need not align
        for i, part in enumerate(parts):
            worker = worker_class(
                write_path=str(folder / "dataset" / name / f"part-{i + 1}"), convert_kernel=kernel,
                tasks={each: tasks[each] for each in part}, chunk_size=32, remote_tqdm=progress, filter_kernel=flags,
            )  # fmt: skip
            info = worker.run()
            worker.lmdb_handler.close()
            found |= {each["episode"]: each["num_frames"] for each in info["__chunk_infos__"]}
    sys.modules["ipdb"] = ModuleType("ipdb")  # imported by the event tool, not used
    from minestudio.data.minecraft.tools import event_convertion

    event_convertion.main(Namespace(input_dir=str(folder / "dataset")))
    return {"version": version("minestudio"), "episodes": found}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(answer))
