"""Write docs/PARITY.md from a live run beside the reference.

    python -m benchmarks.parity --original CHECKOUT --python PYTHON_WITH_TF1
        [--data FOLDER_OF_16KHZ_WAV] [--parts matrix,keras,derivative,long,exchange]

Takes about an hour on two cores. Each part's results are kept in
benchmarks/out/parity.json, so --parts can renew some and keep the others. Needs
matplotlib for the picture of the long run.
"""

import argparse
import contextlib
import datetime
import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from benchmarks import referee
from specgan_tf import loader, moments, spectral, tf1
from specgan_tf.crosscheck import table
from specgan_tf.crosscheck.derivative import slopes_along
from specgan_tf.crosscheck.iterations import replaying
from specgan_tf.crosscheck.matrix import Cell, compute, inputs, weights
from specgan_tf.crosscheck.records import GOLDENS, Check, Record, build_gan, networks
from specgan_tf.crosscheck.replay import run
from specgan_tf.specgan import UPSAMPLES
from specgan_tf.weights import checkpoint, folders

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")
DOCS = os.path.join(ROOT, "docs")
RESULTS = os.path.join(ROOT, "benchmarks", "out", "parity.json")
TRAIN_PY = os.path.join(ROOT, "train_specgan.py")


# The parts: each takes the parsed flags and returns what goes into the JSON file


def matrix(args):
    """The whole of `python -m specgan_tf.crosscheck --all`, in two processes."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as d:
        jobs = []
        for i in (1, 2):
            out = os.path.join(d, f"{i}.json")
            command = [sys.executable, "-m", "specgan_tf.crosscheck", "--all"]
            command += ["--original", args.original, "--python", args.python]
            command += ["--share", f"{i}/2", "--json", out]
            jobs.append((out, subprocess.Popen(command, cwd=ROOT)))
        if any(job.wait() not in (0, 1) for _, job in jobs):
            sys.exit("the cross-check could not be done")
        return joined([out for out, _ in jobs], (time.monotonic() - began) / 60)


def joined(paths, minutes):
    parts = []
    for path in paths:
        with open(path) as f:
            parts.append(json.load(f))
    checks = [c for part in parts for c in part["checks"]]
    return {**parts[0], "checks": checks, "minutes": minutes}


def keras_instead(args):
    """How far off each stage comes with Keras' own behaviour instead of TF 1.12's."""

    def half_pixel(method):
        return lambda x, size: tf.image.resize(x, size, method)

    class KerasRMSprop(keras.optimizers.RMSprop):
        def __init__(self, learning_rate):
            super().__init__(learning_rate)

    class KerasAdam(keras.optimizers.Adam):
        def __init__(self, learning_rate, **betas):
            super().__init__(learning_rate, **betas)

    def biased(self, mean, variance, count):
        return move(self, mean, variance, 1e9)

    move = tf1.BatchNormalization._move_averages
    cases = {
        "RMSProp": ("optimizer_lsgan", "optimizers", (tf1, "RMSProp", KerasRMSprop)),
        "Adam": ("optimizer_wgan-gp", "optimizers", (tf1, "Adam", KerasAdam)),
        "bilinear": (
            "model_k5_dim2_bn0_lin",
            "generator",
            (UPSAMPLES, "lin", half_pixel("bilinear")),
        ),
        "bicubic": (
            "model_k5_dim2_bn0_cub",
            "generator",
            (UPSAMPLES, "cub", half_pixel("bicubic")),
        ),
        "moving variance": (
            "model_k5_dim2_bn1_nn",
            "generator",
            (tf1.BatchNormalization, "_move_averages", biased),
        ),
    }
    results = {}
    for name, (golden, stage, (owner, attribute, value)) in cases.items():
        record = Record.read(os.path.join(GOLDENS, f"{golden}.npz"))
        if isinstance(owner, dict):
            patch = mock.patch.dict(owner, {attribute: value})
        else:
            patch = mock.patch.object(owner, attribute, value)
        ours = worst(record, stage)
        with patch:
            theirs = worst(record, stage)
        results[name] = {
            "what": theirs.what,
            "bound": theirs.bound,
            "Keras": theirs.error,
            "ours": ours.error if ours.what == theirs.what else None,
        }
    return results


def worst(record, stage):
    checks = [c for c in run([record]) if c.stage == stage]
    return max(checks, key=lambda c: c.error / (c.bound or 1e-9))


def derivative(args):
    """The penalty's derivative through batch norm: TF 1.12, Keras, ours, differences."""
    cell = Cell(3, 1, True, "zeros", 100, "wgan-gp")
    name = "derivative_wgan-gp_" + cell.network
    with tempfile.TemporaryDirectory() as d:
        given = inputs([cell], 0, d)
        given = [(n, arrays) for n, arrays in given if n == name]
        folder = compute(args.original, args.python, given, d)
        r = Record.read(os.path.join(folder, f"{name}.npz"))
    alpha, along = r["alpha"].reshape(-1, 1, 1, 1), r.group("dir/")
    given = r, r["x"], r["z"], alpha, along
    ours, differences = slopes_along(*given, [1e-6, float(r["eps"])])

    def keras_layer(track, name):
        return keras.layers.BatchNormalization(name=name)

    with mock.patch.object(tf1, "BatchNormalization", keras_layer):
        keras_own, _ = slopes_along(*given, [1e-6])
    return {
        v.path: {
            "finite differences, float64": differences[0][i],
            "here": ours[i],
            "Keras' layer": keras_own[i],
            "TF 1.12": float(r[f"analytic/{v.path}"]),
            "finite differences in TF 1.12": float(r[f"difference/{v.path}"]),
        }
        for i, v in enumerate(networks(r)[1].trainable_variables)
    }


ITERATIONS, DIM, BATCH = 300, 4, 8
PERTURBED = 3  # runs of the reference with every input moved by one rounding


def long(args):
    """D's losses of the port, the reference, and the reference perturbed."""
    cell = Cell(5, DIM, False, "zeros", 100, "wgan-gp")
    values = weights(cell, np.random.RandomState(0))
    given = {
        **vars(cell),
        **{f"init/{k}": v for k, v in values.items()},
        "pool": pool(),
        "seed": 1,
        "iterations": ITERATIONS,
        "batch_size": BATCH,
    }
    names = [f"long_{k}" for k in range(PERTURBED + 1)]
    with tempfile.TemporaryDirectory() as d:
        asked = [(name, {**given, "perturb": k}) for k, name in enumerate(names)]
        folder = compute(args.original, args.python, asked, d)
        paths = [os.path.join(folder, f"{name}.npz") for name in names]
        runs = [Record.read(path) for path in paths]
    theirs = [by_iteration(r["losses"]) for r in runs]
    ours = by_iteration(replay(runs[0]))
    return {
        "ours": ours.tolist(),
        "reference": theirs[0].tolist(),
        "perturbed": [t.tolist() for t in theirs[1:]],
    }


def pool():
    """Spectrograms of the embedded drums, float32 [77, 128, 128, 1]."""
    fps = loader.find_audio(DRUMS)
    short = {"slice_first_only": True, "slice_pad_end": True}
    x = loader.decode_extract_and_batch(
        fps, len(fps), spectral.SLICE_LEN, 16000, 1, **short
    )
    (x,) = (b[:, :, 0, 0] for b in x)
    mean, std, _ = moments.moments([x])
    return spectral.t_to_f(x[:, :, tf.newaxis], mean, std).numpy()


def replay(r):
    """The port's losses on the inputs of a `long` record."""
    gan = build_gan(r)
    iteration, losses = replaying(gan), []
    rs, b, n = np.random.RandomState(int(r["seed"])), BATCH, gan.disc_nupdates
    for _ in range(int(r["iterations"])):
        x, z, alpha = [], [], []
        for _ in range(n):
            x.append(r["pool"][rs.randint(len(r["pool"]), size=b)])
            z.append(rs.uniform(-1, 1, (b, gan.G.latent_dim)).astype("f4"))
            alpha.append(rs.uniform(size=(b, 1, 1, 1)).astype("f4"))
        z.append(rs.uniform(-1, 1, (b, gan.G.latent_dim)).astype("f4"))
        found = iteration(np.stack(x), np.stack(z), np.stack(alpha))
        losses += [loss.numpy() for loss in found["losses"]]
    return losses


def by_iteration(losses):
    """[iterations, 6]: five losses of D, one of G."""
    return np.asarray(losses, np.float64).reshape(-1, 6)


EXCHANGE = "--specgan_dim 8 --train_batch_size 16 --data_first_slice --data_pad_end"
EXCHANGE += " --data_fast_wav --train_save_secs 5 --train_summary_secs 2"


def exchange(args):
    """The reference trains, this goes on, the reference goes on; D's loss all along."""
    data = ["--data_dir", os.path.abspath(args.data)]
    flags = [*data, *EXCHANGE.split()]
    results = {}
    with tempfile.TemporaryDirectory() as d:
        first, last = os.path.join(d, "reference"), os.path.join(d, "back")
        moments_fp = os.path.join(first, "moments.pkl")
        os.makedirs(first)
        original_train(
            args, "moments", first, [*flags, "--data_moments_fp", moments_fp]
        )
        reference_flags = [*flags, "--data_moments_fp", moments_fp]
        original_train(args, "train", first, reference_flags, secs=args.secs)
        step = step_of(first)
        results["reference"] = d_losses(first)

        middle = shutil.copytree(first, os.path.join(d, "here"))
        for events in glob.glob(os.path.join(middle, "events*")):
            os.remove(events)
        target = str(2 * step)
        for argv in (
            ["train", middle, "--train_max_steps", target],
            ["generate", middle, "--generate_n", "4"],
            ["to_tf1", middle, last],
        ):
            subprocess.run([sys.executable, TRAIN_PY, *argv], check=True)
        export = [os.path.join(ROOT, "export.py"), middle]
        subprocess.run([sys.executable, *export], check=True)
        results["here"] = d_losses(middle)

        moments_fp = os.path.join(last, "moments.pkl")
        back = [*flags, "--data_moments_fp", moments_fp]
        original_train(args, "train", last, back, secs=args.secs)
        results["reference again"] = d_losses(last)
        checkpoint.load_generator(last)
        steps = {
            "reference": step,
            "here": step_of(middle),
            "reference again": step_of(last),
        }
    return {name: {"to": steps[name], "D_loss": loss} for name, loss in results.items()}


def original_train(args, mode, train_dir, flags, secs=None):
    """The reference's own command line; a training is interrupted after `secs`."""
    command = [args.python, "train_specgan.py", mode, train_dir, *flags]
    command += ["--data_prefetch_gpu_num", "-1"]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command,
        cwd=args.original,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        _, err = process.communicate(timeout=secs)
        if process.returncode:
            sys.exit(f"the reference's {mode} failed: {err.strip().splitlines()[-1]}")
        return
    process.terminate()  # a SIGINT may be ignored where this runs in the background
    process.communicate()


def step_of(train_dir):
    return checkpoint.step_of(folders.require(train_dir))


def d_losses(train_dir):
    """(step, D_loss) of a folder's TensorBoard events, in order."""
    found = []
    for fp in glob.glob(os.path.join(train_dir, "events*")):
        # The last record of a training that was killed may be half a record.
        with contextlib.suppress(tf.errors.DataLossError):
            for event in tf.compat.v1.train.summary_iterator(fp):
                for value in event.summary.value:
                    if value.tag == "D_loss":
                        loss = value.simple_value
                        if value.HasField("tensor"):
                            loss = float(tf.make_ndarray(value.tensor))
                        found.append((event.step, loss))
    return sorted(found)


PARTS = {
    "matrix": matrix,
    "keras": keras_instead,
    "derivative": derivative,
    "long": long,
    "exchange": exchange,
}


# The document


BEHAVIOURS = [
    (
        "RMSProp starts at one",
        "RMSProp",
        """`tf.train.RMSPropOptimizer` begins with a mean square of ones, Keras with zeros, and adds its
epsilon (1e-10, Keras 1e-7) inside the root. Keras' first steps are therefore about three times the
learning rate whatever the gradient, TF 1.12's proportional to it.""",
    ),
    (
        "Adam's epsilon",
        "Adam",
        """1e-8, where Keras has 1e-7. It shows where gradients are of that size: late in a training, and
in layers that hardly move.""",
    ),
    (
        "Resizing without half-pixel centres",
        "bilinear",
        """`tf.image.resize_bilinear` and `resize_bicubic` map output pixel i to input i/2. TF 2 and Keras
map the centres of pixels, which shifts every map of the generator by a quarter of a pixel, five
times over. Nearest neighbour is the same in both.""",
    ),
    (
        "Batch norm's moving variance is unbiased",
        "moving variance",
        """TF 1.12's fused op hands n/(n-1) times the batch variance to the moving average; Keras hands it
the biased one. With 4x4 maps and small batches that is seen after one pass.""",
    ),
    (
        "Whose moving averages move",
        None,
        """Update ops are run by the generator's graph, in all six updates of an iteration, since each runs
G in training mode. The discriminator's never run: its averages stay at zero and one, and nothing
reads them. The checkpoints compared above hold both.""",
    ),
    (
        "Second derivatives of batch norm",
        None,
        """The gradient penalty differentiates the discriminator twice. `tf.nn.moments`, inside Keras'
layer, stops a gradient that is zero the first time and not the second; TF 1.12's fused op counts a
path twice where such layers are stacked. See the table below.""",
    ),
    (
        "A fetched loss may be read after the update",
        None,
        """In one `session.run` of a loss and a training op, TF 1.12 does not say which comes first. All
losses above were read in a run of their own, before the update; so are those the training prints
here.""",
    ),
]


def render(results, checkout):
    """docs/PARITY.md as text."""
    parts = [
        "# Parity\n",
        "How near this package comes to the original, measured. Written by `python -m "
        "benchmarks.parity --original CHECKOUT --python PYTHON_WITH_TF1`; every figure comes "
        "from it.\n",
        machine(results["matrix"], checkout),
        the_matrix(results["matrix"]),
        *([referee.section(seeds)] if (seeds := referee.read())["cases"] else []),
        the_behaviours(results["keras"]),
        the_derivative(results["derivative"]),
        the_long_run(results["long"]),
        the_exchange(results["exchange"]),
        HOW,
    ]
    return "\n".join(parts)


HOW = """## Do it again

The reference needs Python 3.6; `benchmarks/original-requirements.txt` lists the versions tested:

```
python3.6 -m venv wavegan-env
wavegan-env/bin/pip install pip==21.3.1
wavegan-env/bin/pip install -r benchmarks/original-requirements.txt
git clone https://github.com/chrisdonahue/wavegan && git -C wavegan checkout 40e85e8
python -m specgan_tf.crosscheck --original wavegan --python wavegan-env/bin/python
```

`--dim`, `--kernel_len`, `--batchnorm`, `--upsample`, `--latent_dim`, `--loss` and `--seed` choose
another case, `--all` runs the matrix. Without `--original`, recorded results are replayed, for
which no TensorFlow 1 is needed. The checkout is imported where it is; nothing of it is changed or
copied.
"""


def machine(matrix, checkout):
    ours, theirs = matrix["versions"], matrix["reference"]
    said = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    commit = said.stdout.strip()[:7] or theirs["commit"]
    return (
        f"The original: `chrisdonahue/wavegan` {commit}, Python {theirs['python']}, "
        f"TensorFlow {theirs['tensorflow']}, numpy {theirs['numpy']}, scipy "
        f"{theirs['scipy']}, librosa {theirs['librosa']}. Here: Python {ours['python']}, "
        f"TensorFlow {ours['tensorflow']}, Keras {ours['keras']}, numpy {ours['numpy']}. "
        f"Both on {os.cpu_count()} cores of {cpu()}, without a GPU.\n"
    )


def cpu():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        if found := re.search(r"model name\s*: (.*)", f.read()):
            return re.sub(r"\s+", " ", found[1])
    return platform.processor() or platform.machine()


VERDICT = """Every update of a training is judged separately. It starts from the reference's own variables and
optimizer slots. Three things are compared: its loss, its gradients, and the variables and slots after our
optimizer applied the reference's gradients. So a rounding error in one update does not grow in the next.

The slope of lrelu and relu jumps at zero. Where only rounding decides on which side of zero a
pre-activation is, our network takes the reference's value there, and the gradient is judged with the
slope that the reference had. This is allowed only if both values are almost equal. The row
"pre-activations across zero" shows the largest distance between two such values; if it is larger than
rounding, the check fails.
"""


def the_matrix(matrix):
    checks = [
        Check(**{k: v for k, v in c.items() if k != "verdict"})
        for c in matrix["checks"]
    ]
    failed = sum(c.verdict == "FAIL" for c in checks)
    lines = [
        "## Every stage\n",
        f"{len(checks)} checks of {len({c.record for c in checks})} records: four losses, batch norm on "
        f"and off, four ways of upsampling, kernels 3, 4, 5 and 7, dim 2. {failed} exceed their "
        f"bound ({matrix['minutes']:.0f} minutes). Each row shows the worst case; *of* is the number of cases.\n",
        VERDICT,
    ]
    header, *rows = table.rows(checks)
    lines += markdown(header, rows)
    lines += [
        "\n`differs` marks the one deliberate difference: with batch norm under the gradient "
        "penalty TF 1.12's updates are wrong (below). There the first loss is compared, and our "
        "gradients with finite differences.\n"
    ]
    lines += [
        "Trainings, cell by cell (✓ all checks within their bounds; ≠ the deliberate difference):\n"
    ]
    cells = {}
    for c in checks:
        if found := re.fullmatch(
            r"train_(?:resumed_)?(.+)_k(\d)_dim\d+_bn([01])_(\w+)", c.record
        ):
            loss, k, bn, upsample = found.groups()
            cells.setdefault((upsample, k), {}).setdefault((loss, bn), set()).add(
                c.verdict
            )
    columns = sorted({key for row in cells.values() for key in row})
    header = [
        "upsample",
        "kernel",
        *(f"{loss}{', bn' * (bn == '1')}" for loss, bn in columns),
    ]
    rows = [
        [*key, *(mark(row[column]) for column in columns)] for key, row in cells.items()
    ]
    lines += markdown(header, rows)
    return "\n".join(lines) + "\n"


def mark(verdicts):
    if "FAIL" in verdicts:
        return "FAIL"
    return "≠" if "differs" in verdicts else "✓"


def markdown(header, rows):
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def the_behaviours(figures):
    lines = ["## Seven things TensorFlow 1.12 did\n"]
    for i, (title, key, text) in enumerate(BEHAVIOURS, 1):
        lines.append(f"{i}. **{title}.** " + " ".join(text.split()))
        keys = ["bilinear", "bicubic"] if key == "bilinear" else [key] if key else []
        for k in keys:
            f = figures[k]
            lines[-1] += (
                f' With Keras\' own {k}, "{f["what"]}" is off by {f["Keras"]:.1g}; the bound is '
                f"{f['bound']:.0e}"
                + (f", ours {f['ours']:.1g}." if f["ours"] is not None else ".")
            )
    return "\n".join(lines) + "\n"


def the_derivative(slopes):
    header = ["variable of D", *next(iter(slopes.values()))]
    rows = [
        [f"`{path}`", *(f"{v:.6g}" for v in row.values())]
        for path, row in slopes.items()
    ]
    return "\n".join(
        [
            "## Batch norm under the gradient penalty\n",
            "D's loss (wgan-gp, dim 1, kernel 3, weights and inputs drawn at random), differentiated along one "
            "random direction per variable. Finite differences decide: central, step 1e-6 in float64, and "
            "step 1e-3 in TF 1.12's float32.\n",
            *markdown(header, rows),
            "",
        ]
    )


def smooth(losses, width=25):
    """Mean of the last `width` iterations of D's losses."""
    d = np.asarray(losses)[:, :5].mean(1)
    return np.convolve(d, np.ones(width) / width, "valid")


def drift(a, b):
    return np.abs(np.asarray(a)[:, :5] - np.asarray(b)[:, :5])


def the_long_run(runs):
    draw(runs)
    port = drift(runs["ours"], runs["reference"])
    selves = [drift(p, runs["reference"]) for p in runs["perturbed"]]
    header = [
        "iterations",
        "port from reference",
        *(f"reference, rounding {k}" for k in range(1, len(selves) + 1)),
    ]
    rows = []
    for begin, end in (
        (0, 1),
        (1, 10),
        (10, 50),
        (50, 100),
        (100, 200),
        (200, ITERATIONS),
    ):
        means = [d[begin:end].mean() for d in (port, *selves)]
        rows.append([f"{begin + 1}-{end}", *(f"{m:.2g}" for m in means)])
    size = np.abs(np.asarray(runs["reference"])[:, :5]).mean()
    share = port.mean() / np.mean([s.mean() for s in selves])
    return "\n".join(
        [
            "## A long run side by side\n",
            "![D's loss in the port and the reference](parity_long_run.png)\n",
            f"{ITERATIONS} iterations of wgan-gp (dim {DIM}, batch {BATCH}, embedded drums) from the same weights, on the "
            "same recorded batches, z and alpha. Beside the port stand runs of the reference itself with every input "
            "moved by one float32 rounding, up or down. Mean absolute difference of D's loss from the unperturbed "
            f"reference's (whose mean size is {size:.3g}):\n",
            *markdown(header, rows),
            "",
            "Two trainings that differ by roundings drift apart: float32 sums are rounded differently, and Adam takes a "
            "step of full size where a gradient is near zero, in either direction. Over the whole run the port is "
            f"{share:.2f} times as far from the reference as the reference is from itself.\n",
        ]
    )


def draw(runs):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(9, 7), sharex=True)
    top.plot(
        smooth(runs["reference"]), label="reference, TF 1.12", color="black", lw=2.5
    )
    for p in runs["perturbed"]:
        top.plot(smooth(p), color="0.6", lw=1)
    top.plot(smooth(runs["ours"]), label="this port", color="tab:red", lw=1)
    top.plot([], color="0.6", lw=1, label="reference, inputs moved by one rounding")
    top.set_ylabel("D's loss, mean of 25 iterations")
    top.legend()
    for p in runs["perturbed"]:
        bottom.semilogy(drift(p, runs["reference"]).mean(1), color="0.6", lw=0.8)
    bottom.semilogy(
        drift(runs["ours"], runs["reference"]).mean(1), color="tab:red", lw=0.8
    )
    bottom.set_ylabel("distance from the reference")
    bottom.set_xlabel("iteration")
    figure.tight_layout()
    figure.savefig(os.path.join(DOCS, "parity_long_run.png"), dpi=90)


def the_exchange(legs):
    header = ["trained by", "until step", "D_loss, first tenth", "D_loss, last tenth"]
    header += ["from step 30 on"]
    rows = []
    for name, leg in legs.items():
        losses = np.array([loss for _, loss in leg["D_loss"]])
        tenth = max(3, len(losses) // 10)
        ends = (losses[:tenth], losses[-tenth:])
        later = [loss for step, loss in leg["D_loss"] if step >= 30]
        rows.append(
            [
                name,
                str(leg["to"]),
                *(f"{e.mean():.2f} ± {e.std():.2f}" for e in ends),
                f"{min(later):.1f} to {max(later):.1f}",
            ]
        )
    return "\n".join(
        [
            "## One training, three legs\n",
            f"The reference's own command line trains on the embedded drums (`{EXCHANGE}`); this package continues "
            "from its folder, generates, exports, and writes it back with `to_tf1`; the reference continues from that. "
            "Losses of single batches of 16, from each leg's TensorBoard events:\n",
            *markdown(header, rows),
            "\nThe losses show no jump at either handover: batch-to-batch variation is larger. On equal batches "
            "the two sides continue alike, up to the errors in the `checkpoints` rows above.\n",
        ]
    )


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--original", required=True)
    p.add_argument("--python", required=True)
    p.add_argument("--data", default=DRUMS, help="16 kHz WAV files, for the exchange")
    p.add_argument("--secs", type=int, default=150, help="of the reference's legs")
    p.add_argument("--parts", default=",".join(PARTS), help="'' for none: write only")
    args = p.parse_args()
    args.original = os.path.abspath(args.original)
    args.python = shutil.which(args.python) or p.error(f"no {args.python}")
    results = {}
    with contextlib.suppress(FileNotFoundError), open(RESULTS) as f:
        results = json.load(f)
    for name in filter(None, args.parts.split(",")):
        print(f"== {name}", datetime.datetime.now().strftime("%H:%M:%S"), flush=True)
        results[name] = PARTS[name](args)
        os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
        with open(RESULTS, "w") as f:
            json.dump(results, f)
    if missing := PARTS.keys() - results.keys():
        sys.exit(f"not yet computed: {', '.join(sorted(missing))}")
    with open(os.path.join(DOCS, "PARITY.md"), "w") as f:
        f.write(render(results, args.original))


if __name__ == "__main__":
    main()
