"""Records of the reference's results, and checks against them."""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterable, Mapping
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from specgan_tf.errors import InputError
from specgan_tf.gan import SpecGAN
from specgan_tf.specgan import Scope, SpecGANDiscriminator, SpecGANGenerator

HERE = os.path.dirname(os.path.abspath(__file__))
# In a clone; an installed package has no goldens.
GOLDENS = os.path.normpath(os.path.join(HERE, "..", "..", "tests", "goldens"))
STRIDE = 7  # goldens keep every seventh value of large results


# Records, and errors


class Record(dict):
    """The arrays of one record, by name. Goldens keep a part of large arrays."""

    def __init__(self, arrays: Mapping[str, np.ndarray], path: str):
        super().__init__({k: np.asarray(v) for k, v in arrays.items()})
        self.name, self.path = os.path.basename(path).removesuffix(".npz"), path
        self.kind = str(self.get("record", self.name.partition("_")[0]))

    @classmethod
    def read(cls, path: str) -> "Record":
        try:
            with np.load(path) as arrays:
                r = cls(arrays, path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise InputError(f"{path} is not a record: {e}") from None
        if "wav.flac" in r:
            import soundfile

            flac = io.BytesIO(r["wav.flac"].tobytes())
            wav = soundfile.read(flac, dtype="int16")[0]
            r["wav"] = wav.reshape(r["wav.shape"])
        kept = os.path.join(GOLDENS, f"{r.name}.npz")
        if r.kind == "train" and "x" not in r and os.path.isfile(kept):
            # Among the goldens, only the reduced ones have x.
            r |= {k: v for k, v in np.load(kept).items() if k == "x"}
        return r

    def __missing__(self, key):
        raise InputError(f"{self.path} lacks {key}: it is not a record of this version")

    def option(self, name: str, default: object) -> object:
        return self[name].item() if name in self else default

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays under `prefix`, by the rest of their names."""
        return {k[len(prefix) :]: v for k, v in self.items() if k.startswith(prefix)}

    def off(self, key: str, got: ArrayLike) -> dict[str, float]:
        """`errors` of `got`; a golden may keep every seventh value alone."""
        want, got = self[key], np.asarray(got)
        if want.size != got.size and want.size == -(-got.size // STRIDE):
            got = got.ravel()[::STRIDE]
        if want.size == got.size:  # D's last layer is flattened for the next
            got = got.reshape(want.shape)
        return errors(got, want)


def errors(got: ArrayLike, want: ArrayLike) -> dict[str, float]:
    """Largest and mean difference, absolute and relative to the largest and mean."""
    want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
    if want.shape != got.shape:
        return dict.fromkeys(("max", "rel", "mean", "mean rel"), math.inf)
    error, size = np.abs(got - want), np.abs(want)
    top, mean = float(error.max()), float(error.mean())
    return {
        "max": top,
        "rel": top / max(float(size.max()), 1e-12),
        "mean": mean,
        "mean rel": mean / max(float(size.mean()), 1e-12),
    }


@dataclasses.dataclass
class Check:
    """One comparison, or the worst of several similar ones."""

    stage: str  # of the pipeline
    lines: str  # of the reference
    what: str  # the value compared
    absolute: float | None  # the largest error; None if no values are compared
    relative: float | None  # the largest error over the largest value
    by: str  # the kind of error judged: "max", "rel", "mean", "mean rel", or a unit
    error: float
    bound: float | None  # None: a difference made on purpose
    record: str = ""

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return "skipped" if math.isnan(self.error) else "differs"
        return "ok" if self.error <= self.bound else "FAIL"  # NaN fails


def judge(
    stage: str,
    lines: str,
    what: str,
    off: dict | Iterable[dict],
    bound: float | None,
    by: str = "max",
) -> Check:
    """A check of the worst of `off`: the `errors` of one value, or of several."""
    off = [off] if isinstance(off, dict) else list(off)
    worst = {key: float(np.max([o[key] for o in off])) for key in off[0]}
    bound = None if bound is None else float(bound)
    return Check(stage, lines, what, worst["max"], worst["rel"], by, worst[by], bound)


def tally(
    stage: str,
    lines: str,
    what: str,
    error: float,
    bound: float | None = 0,
    by: str = "unequal",
) -> Check:
    """A check of a number that is not one of `errors`, such as a count."""
    return Check(stage, lines, what, None, None, by, float(error), bound)


# Networks from a record


def options(r: Record) -> tuple[dict, dict]:
    """Keyword arguments of the generator and of the discriminator."""
    both = {
        "kernel_len": r.option("kernel_len", 5),
        "dim": r.option("dim", 64),
        "use_batchnorm": r.option("batchnorm", False),
    }
    G = {"upsample": r.option("upsample", "zeros")}
    return both | G | {"latent_dim": r.option("latent_dim", 100)}, both


def networks(r: Record) -> tuple[SpecGANGenerator, SpecGANDiscriminator]:
    G, D = options(r)
    return SpecGANGenerator(**G), SpecGANDiscriminator(**D)


def assign(net: keras.Model, record: Record, prefix: str) -> None:
    """Set every variable of a network by its TF 1 name."""
    for v in net.variables:
        v.assign(record[prefix + v.path])


def build_gan(r: Record) -> SpecGAN:
    gan = SpecGAN(*networks(r), r.option("disc_nupdates", 5), seed=0)
    gan.compile(str(r["loss"]))
    for net in (gan.G, gan.D) if "checkpoint" not in r else ():
        assign(net, r, "init/")
    return gan


def by_scope(net: keras.Model, x: ArrayLike, **kwargs) -> tuple[dict, tf.Tensor]:
    """(each scope's output after its activation, by name; the network's output)."""
    given, call = {}, Scope.call

    def spy(self, inputs, **kwargs):
        given[self.name] = inputs
        return call(self, inputs, **kwargs)

    with mock.patch.object(Scope, "call", spy):
        y = net(x, **kwargs)
    # A scope's output after its activation is the input of the next scope.
    return dict(zip(given, [*list(given.values())[1:], y], strict=True)), y
