"""Run by MineStudio's interpreter: CPU seconds of a training step of its MineLightning under Lightning's Trainer.

minestudio_step.py REQUEST -> {"steps_s": [..], "losses": [..]}; REQUEST is JSON: arguments, size, rows, steps, updates. Weights
and windows are seeded as ours; with its BehaviorCloneCallback, EMA and gradient clipping, batches made before.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "golden" / "minestudio"))


def main(request):
    import lightning
    import peer_run
    import seeded
    import torch
    from minestudio.offline.lightning_callbacks.ema import EMA
    from minestudio.offline.trainer import MineLightning
    from peer import BehaviorCloneCallback

    torch.set_num_threads(1)
    policy = peer_run.make(**request["arguments"])
    size, length = tuple(request["size"]), request["steps"]
    batches = []
    for i in range(request["updates"]):
        batch = peer_run.batch_of(seeded.window(f"step {i}", request["rows"], length, size))
        first = i * length
        batch["timestamp"] = torch.arange(first, first + length).expand(request["rows"], length)
        batches.append(batch)
    module = MineLightning(
        policy, [BehaviorCloneCallback(0.01)], log_freq=20, learning_rate=4e-5, weight_decay=1e-3, warmup_steps=2000
    )
    times, losses = [], []

    class Clock(lightning.Callback):
        def on_train_batch_start(self, *_):
            self.began = time.process_time()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            times.append(time.process_time() - self.began)
            losses.append(float(outputs["loss"]))

    with tempfile.TemporaryDirectory() as scratch:
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, default_root_dir=scratch,
            callbacks=[EMA(decay=0.999, validate_original_weights=True, every_n_steps=8, cpu_offload=False), Clock()],
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        trainer.fit(module, loader)
    return {"steps_s": times, "losses": losses}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(answer))
