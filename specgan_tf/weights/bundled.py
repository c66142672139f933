"""A generator in one file: all it takes to make sound, and a card that describes it.

An .npz of the generator's variables by name, float16; its moments, float32; and `card`,
JSON in bytes. The bundled models, `MODELS`, are such files in data/models;
`python -m benchmarks.bundle` makes them. Reading one runs nothing that it holds, and
takes no more room than it fills.
"""

import io
import json
import os
import zipfile
from typing import NamedTuple

import numpy as np

from specgan_tf.files import InputError, replacing
from specgan_tf.moments import Moments, check, check_analysis
from specgan_tf.specgan import SLICE_LENS, UPSAMPLES, SpecGANGenerator
from specgan_tf.spectral import GL_WINDOWS, GRIFFIN_LIM, GriffinLim
from specgan_tf.weights.tensors import generator_options

MODELS = DEFAULT, _ = "drums", "digits"  # that are bundled, by name
MAX_BYTES = 64 << 20  # of its arrays; a generator of dim 64 has 38 million
CARD, MEAN, STD = "card", "moments/mean", "moments/std"
MAX_NGL = 1000  # Griffin-Lim steps that a card may ask for: half a second a clip
OPTIONS = "kernel_len dim use_batchnorm upsample latent_dim slice_len".split()


class Box(NamedTuple):
    """A generator, its moments, and its card.

    card: dict of at least options (as `SpecGANGenerator` takes them), step (updates of
    G), and sample_rate (Hz). Of the moments, log_eps, pad_front and clip_nstd are on
    it, and of its `griffin_lim` ngl, gl_window and gl_momentum; where one is missing,
    it is the reference's.
    """

    G: SpecGANGenerator
    moments: Moments
    card: dict

    @property
    def griffin_lim(self):
        """`spectral.GriffinLim` that the card recommends."""
        return griffin_lim_of(self.card)


def path_of(name):
    """The file of the bundled model of this name, one of `MODELS`."""
    data = os.path.join(os.path.dirname(os.path.dirname(__file__)), "data")
    return os.path.join(data, "models", name, "generator.npz")


def is_name(path):
    """Whether a path is the name of a bundled model, not that of a training folder."""
    return path in MODELS and not (
        os.path.isfile(os.path.join(path, "args.txt"))
        or os.path.isfile(os.path.join(path, "checkpoint"))
    )


def find(path=None):
    """The file of a generator that `path` names, or None if it names something else.

    path: an .npz; the name of a bundled model; or None for the default one, `DEFAULT`.
    A training folder of such a name comes first.
    """
    if path is None:
        return path_of(DEFAULT)
    path = os.fspath(path)
    if is_name(path):
        return path_of(path)
    return path if path.endswith(".npz") and os.path.isfile(path) else None


def save(path, G, moments, card):
    """Write a generator, its moments, and what there is to say of it.

    Args:
      moments: `Moments`.
      card: as in `Box`, and whatever else JSON can hold; its options are G's, its
        log_eps, pad_front and clip_nstd the moments'.

    Raises:
      ValueError: a name that does not end in .npz; a weight beyond float16.
      InputError: what `load` would refuse.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"path must end in .npz. Received: {path!r}")
    card = {**card, "options": {name: getattr(G, name) for name in OPTIONS}}
    card |= moments.analysis
    with np.errstate(over="ignore"):
        arrays = {v.path: v.numpy().astype(np.float16) for v in G.variables}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds what float16 cannot")
    arrays |= {MEAN: np.float32(moments.mean), STD: np.float32(moments.std)}
    arrays[CARD] = np.frombuffer(json.dumps(card).encode(), np.uint8)
    _check(path, arrays)
    with replacing(path) as f:
        np.savez_compressed(f, **arrays)


def load(path=None):
    """The `Box` in a file, or of a bundled model: see `find`.

    Raises:
      InputError: no such file, or one that holds something else.
    """
    path = find(path) or path
    arrays = _read(path)
    card = _check(path, arrays)
    G = SpecGANGenerator(**card["options"])
    values = {v.path: arrays.pop(v.path, None) for v in G.variables}
    for v in G.variables:
        value = values[v.path]
        if value is None or value.shape != tuple(v.shape):
            raise _not_one(path, f"{v.path} is missing, or of another shape")
    found = _moments(arrays, card)
    for name in (MEAN, STD):
        del arrays[name]
    if extra := arrays.keys() - {CARD}:
        raise _not_one(path, f"it holds {min(extra)}, too")
    for v in G.variables:
        v.assign(values[v.path])
    return Box(G, found, card)


def load_moments(path=None):
    """The moments of `load`, alone."""
    path = find(path) or path
    arrays = _read(path)
    return _moments(arrays, _check(path, arrays))


def read_card(path=None):
    """The card of `load`, alone."""
    path = find(path) or path
    return _check(path, _read(path))


def analysis_of(card):
    """`Moments.analysis` of a card: the reference's where it does not say."""
    analysis = Moments(None, None).analysis
    return {name: card.get(name, value) for name, value in analysis.items()}


def griffin_lim_of(card):
    """`spectral.GriffinLim` of a card: the reference's where it does not say."""
    ngl, window, momentum = GRIFFIN_LIM
    return GriffinLim(
        card.get("ngl", ngl),
        card.get("gl_window", window),
        card.get("gl_momentum", momentum),
    )


def _moments(arrays, card):
    return Moments(arrays[MEAN], arrays[STD], **analysis_of(card))


def _check(path, arrays):
    """The card of what is read or about to be written; refuses what is no generator."""
    for name, array in arrays.items():
        if not array.size or not np.isfinite(array).all():
            raise _not_one(path, f"{name} is empty, or not finite")
    if missing := {CARD, MEAN, STD} - arrays.keys():
        raise _not_one(path, f"it lacks {min(missing)}")
    check(arrays[MEAN], arrays[STD], where=str(path))
    try:
        card = json.loads(arrays[CARD].tobytes())
        options, step, rate = (card[k] for k in ("options", "step", "sample_rate"))
        said = {type(step), type(rate)} == {int} and step >= 0 and rate >= 1
        said = said and options["upsample"] in UPSAMPLES
        options.setdefault("slice_len", SLICE_LENS[0])  # older cards leave it out
    except (ValueError, TypeError, KeyError, RecursionError):
        said = False
    if not said:
        raise _not_one(path, "its card does not say options, step and sample_rate")
    check_analysis(analysis_of(card), where=f"{path}: its card")
    ngl, window, momentum = griffin_lim_of(card)
    known = type(ngl) is int and 0 <= ngl <= MAX_NGL
    known = known and window in [*GL_WINDOWS] and type(momentum) in (int, float)
    if not known or not 0.0 <= momentum < 1.0:
        raise _not_one(
            path,
            f"its card asks for Griffin-Lim with ngl {ngl!r}, gl_window {window!r}, "
            f"gl_momentum {momentum!r}",
        )
    # What the card says must be what is there: no network is made that would be larger.
    seen = generator_options({name: a.shape for name, a in arrays.items()})
    if seen is None or {"upsample": options["upsample"], **seen} != options:
        raise _not_one(path, "its weights are not those of the options on its card")
    return card


def _read(path):
    """Name -> array of an .npz.

    Not np.load, which makes room for whatever a header claims.
    """
    if not os.path.isfile(path):
        raise InputError(f"no generator at {path}")
    try:
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
            if sum(m.file_size for m in members) > MAX_BYTES:
                raise _not_one(path, f"it claims arrays of more than {MAX_BYTES} bytes")
            # zipfile inflates other methods without a limit.
            methods = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
            if {m.compress_type for m in members} - methods:
                raise _not_one(path, "it is not compressed as numpy does")
            return {m.filename.removesuffix(".npy"): _array(z, m) for m in members}
    except (OSError, InputError):
        raise
    except Exception:  # whatever a hostile file makes zipfile or numpy trip over
        raise _not_one(
            path, "damaged, or no .npz of float16, float32 or bytes"
        ) from None


def _array(z, member):
    with z.open(member) as f:
        # A size: without one, zipfile inflates all there is, and cuts that off.
        data = f.read(member.file_size)
    header = io.BytesIO(data)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    if fortran or dtype.str not in ("<f2", "<f4", "|u1"):
        raise ValueError
    return np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)


def _not_one(path, reason):
    return InputError(f"{path} is not a generator's .npz: {reason}")
