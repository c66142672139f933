"""The studies of benchmarks.learning: what differs between them, and their texts."""

from typing import NamedTuple


class Study(NamedTuple):
    """Two sides, the one under test first, and what their document says of them."""

    names: dict  # side -> its name
    where: dict  # side -> the same, after a figure
    quiet: str  # whose trainings still make no sound
    flags: dict  # side -> flags of its trainings alone
    document: str
    picture: str
    title: str
    introduction: str
    not_claimed: str
    again: str


ORIGINAL_INTRODUCTION = """Does this package learn as the original does? Both sides learn from {sets}, recorded sounds that the paper did not use. `python -m benchmarks.learning` wrote this page, with every figure and every verdict.

Both sides were trained by their own command lines, the original's unmodified under TensorFlow {original_tensorflow} (Python {original_python}), ours under TensorFlow {here_tensorflow} and Keras {here_keras} (Python {here_python}): {m} trainings of the original and {n} of ours on each data set, with random weights and orders of the data, the same flags (`--specgan_dim {dim} --train_batch_size {batch}`, otherwise the defaults: wgan-gp, five updates of D to one of G) and the same moments. Their checkpoints have one format; each generated {clips} sounds from the same latents, and the same code measured them.
"""

ORIGINAL_NOT_CLAIMED = """## What this does not say

- Nothing about the paper's scores: these are other sounds, small networks and few iterations, on a CPU. The generated sounds are still far from real ones (see *real*).
- Not that the two are equal. Few trainings reveal large differences only: the intervals say how large, and the section "What the test would see" shows what the test finds.
- Not that every choice was made before the first result. At 150 iterations nearly all generated drums were below -80 dB; then the trainings of drums were continued to 300 iterations, and the Frechet distance of spectrograms was added. Four trainings per side came first. Two distances looked larger here then, so four more per side followed; the distance to real sounds no longer looks larger.
- Nothing about longer trainings: [SOUNDS.md](SOUNDS.md#how-long-to-train) has the scores of the bundled models' trainings over hours.
- Nothing about batch norm with wgan-gp, which differs here on purpose ([PORTING.md](PORTING.md), What differs), nor about other losses; [PARITY.md](PARITY.md) compares those with the original step by step.
- CPU time is that of small networks on {machine}, without a GPU.
"""

ORIGINAL_AGAIN = """```
python -m benchmarks.learning train --original ../wavegan --python ../tf1/bin/python \\
    {names} \\
    --dim {dim} --batch {batch} --seeds {n} --steps {steps}
python -m benchmarks.learning score{classifier}
python -m benchmarks.learning write
```

`../wavegan` is an unmodified checkout of chrisdonahue/wavegan at 40e85e8, `../tf1` the environment that [PARITY.md](PARITY.md#do-it-again) describes; each folder holds 16-bit WAV files at 16 kHz and nothing else (`{flags}`). Each training is a process, one at a time, the sides in turns. Finished trainings are kept, so the commands can be interrupted. The benchmark adds to each process only what saves at the given iterations and reads losses and CPU seconds. It ends the original's process, which would train for ever, after the last iteration.
"""

HALF_INTRODUCTION = """Does training with `--mixed_precision` (half precision) learn as training in float32 does? Both sides are this package, and learn from {sets}, recorded sounds. `python -m benchmarks.learning` wrote this page, with every figure and every verdict.

Both sides were trained by `train_specgan.py` under TensorFlow {half_tensorflow} and Keras {half_keras} (Python {half_python}): {n} trainings in half precision and {m} in float32 on each data set. All have different seeds, so they share neither initial weights nor the order of the data. The flags are the same (`--specgan_dim {dim} --train_batch_size {batch}`, otherwise the defaults: wgan-gp, five updates of D to one of G) but for `--mixed_precision`, and so are the moments. Each checkpoint generated {clips} sounds in float32 from the same latents, and the same code measured them.

`--mixed_precision` falls back to float32 where bfloat16 would be slower. The benchmark refuses to train there, so every training counted as half precision did compute in bfloat16.
"""

HALF_NOT_CLAIMED = """## What this does not say

- Not that the two are equal. {n} + {m} trainings reveal large differences only: the intervals say how large, and the section "What the test would see" shows what the test finds.
- Nothing about larger networks or longer trainings: these networks are small (`--specgan_dim {dim}`) and stop after {last} iterations, where generated sounds are still far from real ones (see *real*). `tests/test_precision.py` bounds the gradients and the drift of half precision.
- Nothing about batch normalization or the losses other than wgan-gp.
- Nothing about the matrix products that networks of `--specgan_dim` 16 or more compute with in bfloat16: here the networks are too narrow for them. `tests/test_precision.py` bounds the gradients through these products, for each loss and for the gradient penalty.
- Nothing about GPUs, and nothing about speed: the networks are too small to gain much from bfloat16. [SPEED.md](SPEED.md) measures networks of the default size. CPU time here is on {machine}.
- The settings are those of [LEARNING.md](LEARNING.md), fixed before the first training. The number of trainings was not: eight a side came first, and because one comparison differed then (how far generated digits are from each other, at the last iteration), eight more a side followed.
"""

HALF_AGAIN = """```
python -m benchmarks.learning train --beside float32 --out OUT \\
    {names} \\
    --dim {dim} --batch {batch} --seeds {n} --steps {steps}
python -m benchmarks.learning score --out OUT{classifier}
python -m benchmarks.learning write --out OUT
```

OUT is a new folder; each other folder holds 16-bit WAV files at 16 kHz and nothing else (`{flags}`). Each training is a process, one at a time, the sides in turns. Finished trainings are kept, so the commands can be interrupted. The benchmark adds to each process only what saves at the given iterations and reads losses and CPU seconds.
"""

STUDIES = {
    "original": Study(
        names={"here": "here", "original": "the original"},
        where={"here": "here", "original": "the original"},
        quiet="{original} trainings of the original and {here} of ours",
        flags={},
        document="LEARNING.md",
        picture="learning.png",
        title="Learning",
        introduction=ORIGINAL_INTRODUCTION,
        not_claimed=ORIGINAL_NOT_CLAIMED,
        again=ORIGINAL_AGAIN,
    ),
    "float32": Study(
        names={"half": "half precision", "float32": "float32"},
        where={"half": "in half precision", "float32": "in float32"},
        quiet="{float32} trainings in float32 and {half} in half precision",
        flags={"half": ["--mixed_precision"]},
        document="HALF_PRECISION.md",
        picture="half_precision.png",
        title="Half precision",
        introduction=HALF_INTRODUCTION,
        not_claimed=HALF_NOT_CLAIMED,
        again=HALF_AGAIN,
    ),
}
