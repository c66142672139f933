"""What two healthy trainings recorded, for tests of health: about 5 CPU minutes.

    python tests/recorded/make_health.py    # writes tests/recorded/health.npz

On the embedded drums, with networks so small that they take long to make any sound.
"""

import os
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
import train_specgan
from specgan_tf.cli import callbacks
from specgan_tf.report import gather

HERE = os.path.dirname(os.path.abspath(__file__))
TRAININGS = {"wgan-gp": (1500, 15), "dcgan": (300, 4)}  # steps, of which every so many


def record(train_dir, loss, steps, every):
    """Train, with summaries at every so many steps: their scalars."""
    end = callbacks.Summaries.on_train_batch_end

    def at_some(self, *args, **kwargs):
        self.secs = 1e9 if self.model.global_step % every else 0
        end(self, *args, **kwargs)

    callbacks.Summaries.on_train_batch_end = at_some
    try:
        argv = ["train", train_dir, "--specgan_dim", 4, "--train_batch_size", 8]
        argv += ["--specgan_loss", loss, "--seed", 1, "--train_max_steps", steps]
        if train_specgan.main([str(a) for a in argv]):
            raise SystemExit("the training did not end well")
    finally:
        callbacks.Summaries.on_train_batch_end = end
    return gather.read_events(train_dir)[0]


def main():
    arrays = {}
    for loss, (steps, every) in TRAININGS.items():
        with tempfile.TemporaryDirectory() as folder:
            for tag, (at, values) in record(folder, loss, steps, every).items():
                if tag not in ("steps_per_second", "data_wait"):  # of the machine
                    arrays[f"{loss}/{tag}"] = np.stack([at, values]).astype(np.float32)
    np.savez_compressed(os.path.join(HERE, "health.npz"), **arrays)


if __name__ == "__main__":
    main()
