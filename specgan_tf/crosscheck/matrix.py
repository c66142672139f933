"""Make records of inputs, and run a checkout of the reference on them."""

import dataclasses
import glob
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from specgan_tf import moments, spectral
from specgan_tf.crosscheck.iterations import alphas, real, replaying
from specgan_tf.crosscheck.records import Record, build_gan, networks
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import UPSAMPLES
from specgan_tf.weights import checkpoint

COMMIT = "40e85e8"
HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One configuration of the reference."""

    kernel_len: int
    dim: int
    batchnorm: bool
    upsample: str
    latent_dim: int
    loss: str

    @property
    def network(self) -> str:
        return (
            f"k{self.kernel_len}_dim{self.dim}_bn{int(self.batchnorm)}_{self.upsample}"
        )


def every_cell(cell: Cell) -> list[Cell]:
    """Every loss, with and without batch norm, every upsampling, four kernels."""
    return [
        dataclasses.replace(cell, loss=loss, batchnorm=bn, upsample=up, kernel_len=k)
        for k, bn, up, loss in itertools.product(
            (3, 4, 5, 7), (False, True), UPSAMPLES, LOSSES
        )
    ]


def weights(cell: Cell, rs: np.random.RandomState) -> dict[str, np.ndarray]:
    """Values for every variable of G and D, by path: no bias 0, and no gamma 1."""
    values = {}
    for v in (v for net in networks(Record(vars(cell), "")) for v in net.variables):
        noise = rs.uniform(-1, 1, v.shape)
        if v.name == "kernel":
            *area, fan_in, fan_out = v.shape
            noise *= np.sqrt(6 / (np.prod(area) * (fan_in + fan_out)))
        else:
            noise = 0.1 * noise + (v.name in ("gamma", "moving_variance"))
        values[v.path] = noise.astype(np.float32)
    return values


def bursts(shape: Sequence[int], rs: np.random.RandomState) -> np.ndarray:
    """Waveforms int16 [*shape, 16384]: noise that decays, in some to silence."""
    t = np.arange(spectral.SLICE_LEN) / spectral.SLICE_LEN
    decay = np.exp(-t * rs.uniform(10, 60, [*shape, 1]))
    noise = rs.uniform(-1, 1, [*shape, spectral.SLICE_LEN]) * decay
    return (noise * 78).astype("i2") * np.int16(256)  # 8 bits, which compress well


def inputs(
    cells: list[Cell], seed: int, folder: str, b: int = 3
) -> Iterator[tuple[str, dict]]:
    """Yield records without results, (name, arrays), with batches of b.

    Checkpoints of ours, from which the reference continues, are written to `folder`.
    """
    rs = np.random.RandomState(seed)
    iterations, n = 3, 5
    wav = bursts([iterations * n, b], rs)
    audio = wav.reshape(-1, spectral.SLICE_LEN).astype(np.float32) / 32768
    mean, std, _ = moments.moments([audio])
    scale = {"mean": mean, "std": std}
    # Most of the audio is silence. With its mean, G's sounds would be zero in int16.
    loud = {"mean": mean + np.float32(9), "std": std}
    spectrograms = (rs.randint(-64, 65, [b, 128, 128, 1]) / 64).astype("f4")

    x = audio[:b, :, np.newaxis]
    # The Nyquist bin returns as its mean alone; it is loud, so that a lack would show.
    nyquist = {"mean": np.append(mean[:-1], mean[-1] + np.float32(6))}
    given = {**scale, **nyquist, "x": x, "S": spectrograms, "ngl": [0, 1, 16]}
    yield "spectral", given
    files = {
        "a_long.wav": bursts([3], rs).ravel()[:40000],
        "b_short.wav": bursts([], rs)[:5000],
        "c_float.wav": bursts([2], rs).ravel()[:20000].astype("f4") / 32768,
        "d_stereo.wav": bursts([2], rs).T,
        "e_silence.wav": np.zeros(3000, "i2"),
        "rate22050": bursts([2], rs).ravel()[:30000],
    }
    names = [name for name in files if name.endswith(".wav")]
    files = {f"file/{name}": samples for name, samples in files.items()}
    yield "data", {**files, "names": names, "random_offset": 1234}
    for loss in dict.fromkeys(cell.loss for cell in cells):
        v = rs.uniform(-0.1, 0.1, 500).astype("f4")
        # Gradients that are partly as small as Adam's epsilon.
        g = (10.0 ** rs.uniform(-9, 0, 500) * rs.randn(50, 500)).astype("f4")
        yield f"optimizer_{loss}", {"loss": loss, "v": v, "g": g}

    network, resumed = None, set()
    for cell in cells:
        flags = vars(cell)
        z = rs.uniform(-1, 1, [iterations * (n + 1), b, cell.latent_dim]).astype("f4")
        if cell.network != network:
            network, values = cell.network, weights(cell, rs)
            w = {f"w/{k}": v for k, v in values.items()}
            yield f"model_{network}", {**flags, **w, "z": z[0], "x": spectrograms}
            yield f"init_{network}", {**flags, "draws": 20}
            # Larger weights than at the start of a training: its spectrograms are so
            # flat that Griffin-Lim amplifies rounding to noise.
            w = {k: v * np.float32(1.3) for k, v in w.items() if k.startswith("w/G/")}
            n_z = 50000 // cell.latent_dim
            given = {"z": z[0], "ngl": 1, "flat_pad": 100, "samp_z_n": n_z}
            yield f"infer_{network}", {**flags, **w, **loud, **given}
        init = {f"init/{k}": v for k, v in values.items()}
        alpha = rs.uniform(size=[iterations * n, b, 1, 1, 1]).astype("f4")
        drawn = {
            **flags,
            **scale,
            "disc_nupdates": n,
            "wav": wav,
            "z": z,
            "alpha": alpha,
        }
        name = f"{cell.loss}_{network}"
        # The tensors in a checkpoint depend on the loss and batch norm alone.
        first = (cell.loss, cell.batchnorm) not in resumed
        resumed.add((cell.loss, cell.batchnorm))
        yield f"train_{name}", {**drawn, **init, **({"save_at": 1} if first else {})}
        if not first:
            continue
        if cell.batchnorm and cell.loss == "wgan-gp":
            D = {k: v for k, v in values.items() if k[0] == "D" and "moving" not in k}
            signs = {k: rs.choice([-1.0, 1.0], v.shape) for k, v in D.items()}
            along = {f"dir/{k}": v / np.sqrt(v.size) for k, v in signs.items()}
            given = {"x": spectrograms, "z": z[0], "alpha": alpha[0]}
            given |= {"eps": 1e-2, "smooth": True}
            yield f"derivative_{name}", {**flags, **init, **along, **given}
        else:
            r = Record({**drawn, **init}, f"{folder}/train_resumed_{name}")
            yield r.name, {**drawn, "checkpoint": own_checkpoint(r)}


def own_checkpoint(r: Record) -> str:
    """Train one iteration here and save it. Returns the checkpoint's prefix."""
    gan = build_gan(r)
    n = gan.disc_nupdates
    replaying(gan)(real(r, 0, n), r["z"][: n + 1], alphas(r, 0, n))
    os.makedirs(r.path)
    return checkpoint.save(gan, r.path)


def compute(
    checkout: StrPath, python: str, records: Iterable[tuple[str, dict]], folder: StrPath
) -> str:
    """Run the reference on records of inputs. Returns the folder of its results.

    Args:
      checkout: the folder of the reference.
      python: a Python with TensorFlow 1.
      records: (name, arrays) of each, which are written to the folder `in` in `folder`.
      folder: for inputs and results.

    Raises:
      InputError: no checkout, no such Python, no TensorFlow 1 in it, or the reference
        failed on a record.
    """
    for name in ("specgan.py", "train_specgan.py", "loader.py"):
        if not os.path.isfile(os.path.join(checkout, name)):
            raise InputError(
                f"{checkout} is not a checkout of wavegan: it lacks {name}"
            )
    given, computed = os.path.join(folder, "in"), os.path.join(folder, "out")
    os.makedirs(given)
    os.makedirs(computed)
    for name, arrays in records:
        np.savez(os.path.join(given, f"{name}.npz"), **arrays)
    count = len(glob.glob(os.path.join(glob.escape(given), "*.npz")))

    script = os.path.join(HERE, "original.py")
    command = [python, script, os.path.abspath(checkout), given, computed]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=err, env=clean, text=True
            )
        except OSError as e:
            raise InputError(f"{python} cannot be run: {e.strerror}") from None
        with process:
            for i, line in enumerate(process.stdout, 1):
                print(f"reference: {line.rstrip()} ({i} of {count})", file=sys.stderr)
        err.seek(0)
        output = err.read().strip()
    if process.returncode:
        if process.returncode != 2:
            print(output, file=sys.stderr)
        last = output.splitlines()[-2:] or [f"status {process.returncode}"]
        raise InputError(f"the reference failed: {'; '.join(reversed(last))}")
    return computed


def check_commit(checkout: StrPath) -> None:
    """Print a warning if the checkout is at another commit."""
    git = ["git", "-C", checkout, "rev-parse", "HEAD"]
    try:
        git = subprocess.run(git, capture_output=True, text=True)
    except OSError:  # no git
        return
    if git.returncode == 0 and not git.stdout.startswith(COMMIT):
        print(
            f"warning: {checkout} is at {git.stdout[:7]}, not {COMMIT}",
            file=sys.stderr,
        )
