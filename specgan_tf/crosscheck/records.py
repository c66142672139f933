"""Records of what the reference computed, and checks against them."""

import dataclasses
import io
import math
import os
import zipfile
from unittest import mock

import numpy as np

from specgan_tf.files import InputError
from specgan_tf.gan import SpecGAN
from specgan_tf.specgan import Scope, SpecGANDiscriminator, SpecGANGenerator

HERE = os.path.dirname(os.path.abspath(__file__))
# A clone has them, an installed package has not.
GOLDENS = os.path.normpath(os.path.join(HERE, "..", "..", "tests", "goldens"))
STRIDE = 7  # of what the goldens keep of large results


# Records, and how far off a value is


class Record(dict):
    """The arrays of one record by name, those of a golden reduced or in full."""

    def __init__(self, arrays, path):
        super().__init__({k: np.asarray(v) for k, v in arrays.items()})
        self.name, self.path = os.path.basename(path).removesuffix(".npz"), path
        self.kind = str(self.get("record", self.name.partition("_")[0]))

    @classmethod
    def read(cls, path):
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
            # Of the goldens, only the reduced have it.
            r |= {k: v for k, v in np.load(kept).items() if k == "x"}
        return r

    def __missing__(self, key):
        raise InputError(f"{self.path} lacks {key}: not a record of this version")

    def option(self, name, default):
        return self[name].item() if name in self else default

    def group(self, prefix):
        """Arrays under `prefix`, by the rest of their names."""
        return {k[len(prefix) :]: v for k, v in self.items() if k.startswith(prefix)}

    def off(self, key, got):
        """Errors of `got`, of which a golden may keep every seventh value."""
        want, got = self[key], np.asarray(got)
        if want.size != got.size and want.size == -(-got.size // STRIDE):
            got = got.ravel()[::STRIDE]
        if want.size == got.size:  # D's last layer is flattened for the next
            got = got.reshape(want.shape)
        return errors(got, want)


def errors(got, want):
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
    """One comparison, or the worst of several alike.

    stage, lines, what: where in the pipeline, which lines of the reference, what value
    absolute, relative: largest error, and that over the largest value; None where
      the check is of something else
    by, error, bound: what is judged ("max", "rel", "mean", "mean rel", or a unit); a
      bound of None marks a difference made on purpose
    """

    stage: str
    lines: str
    what: str
    absolute: float | None
    relative: float | None
    by: str
    error: float
    bound: float | None
    record: str = ""

    @property
    def verdict(self):
        if self.bound is None:
            return "skipped" if math.isnan(self.error) else "differs"
        return "ok" if self.error <= self.bound else "FAIL"  # NaN fails


def judge(stage, lines, what, off, bound, by="max"):
    """A check of the worst of `off`: errors of one value, or of several."""
    off = [off] if isinstance(off, dict) else list(off)
    worst = {key: float(np.max([o[key] for o in off])) for key in off[0]}
    bound = None if bound is None else float(bound)
    return Check(stage, lines, what, worst["max"], worst["rel"], by, worst[by], bound)


def tally(stage, lines, what, error, bound=0, by="unequal"):
    """A check of a number that is not a difference of values."""
    return Check(stage, lines, what, None, None, by, float(error), bound)


# Networks from a record


def options(r):
    """Keyword arguments of the generator and of the discriminator."""
    both = {
        "kernel_len": r.option("kernel_len", 5),
        "dim": r.option("dim", 64),
        "use_batchnorm": r.option("batchnorm", False),
    }
    G = {"upsample": r.option("upsample", "zeros")}
    return both | G | {"latent_dim": r.option("latent_dim", 100)}, both


def networks(r):
    G, D = options(r)
    return SpecGANGenerator(**G), SpecGANDiscriminator(**D)


def assign(net, record, prefix):
    """Set every variable of a network by its TF 1 name."""
    for v in net.variables:
        v.assign(record[prefix + v.path])


def build_gan(r):
    gan = SpecGAN(*networks(r), r.option("disc_nupdates", 5), seed=0)
    gan.compile(str(r["loss"]))
    for net in (gan.G, gan.D) if "checkpoint" not in r else ():
        assign(net, r, "init/")
    return gan


def by_scope(net, x, **kwargs):
    """(what each scope hands on after its activation, by name; the net's output)."""
    given, call = {}, Scope.call

    def spy(self, inputs, **kwargs):
        given[self.name] = inputs
        return call(self, inputs, **kwargs)

    with mock.patch.object(Scope, "call", spy):
        y = net(x, **kwargs)
    # What a scope hands on is what the next is given.
    return dict(zip(given, [*list(given.values())[1:], y], strict=True)), y
