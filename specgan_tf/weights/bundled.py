"""A generator in one file: its weights, its moments, and a card that describes it.

The file is an .npz: the generator's variables by name, float16; its moments, float32;
and `card`, JSON in bytes. The bundled models, `MODELS`, are such files in data/models;
`python -m benchmarks.bundle` makes them. Reading a file runs no code from it, and
allocates no more memory than its arrays fill.
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing
from specgan_tf.moments import Moments, check, check_analysis
from specgan_tf.specgan import SLICE_LENS, UPSAMPLES, SpecGANGenerator
from specgan_tf.spectral import GL_WINDOWS, GRIFFIN_LIM, GriffinLim
from specgan_tf.weights.tensors import generator_options

MODELS = DEFAULT, _ = "drums", "digits"  # names of the bundled models
MAX_BYTES = 64 << 20  # of the arrays; a generator of dim 64 has 38 million
CARD, MEAN, STD = "card", "moments/mean", "moments/std"
MAX_NGL = 1000  # Griffin-Lim iterations that a card may ask for: 0.5 s a clip
OPTIONS = "kernel_len dim use_batchnorm upsample latent_dim slice_len".split()


class Box(NamedTuple):
    """A generator, its moments, and its card.

    Attributes:
      G: the generator.
      moments: `Moments`.
      card: at least options (the arguments of `SpecGANGenerator`), step (updates of G)
        and sample_rate (Hz). It also holds log_eps, pad_front and clip_nstd of the
        moments, and ngl, gl_window and gl_momentum of `griffin_lim`; the reference's
        value is taken where one is missing.
    """

    G: SpecGANGenerator
    moments: Moments
    card: dict[str, Any]

    @property
    def griffin_lim(self) -> GriffinLim:
        """The `spectral.GriffinLim` that the card recommends."""
        return griffin_lim_of(self.card)


def path_of(name: str) -> str:
    """The file of a bundled model; `name` is one of `MODELS`."""
    data = os.path.join(os.path.dirname(os.path.dirname(__file__)), "data")
    return os.path.join(data, "models", name, "generator.npz")


def is_name(path: StrPath | None) -> bool:
    """Whether `path` names a bundled model, and not a training folder."""
    return path in MODELS and not (
        os.path.isfile(os.path.join(path, "args.txt"))
        or os.path.isfile(os.path.join(path, "checkpoint"))
    )


def find(path: StrPath | None = None) -> str | None:
    """The file of the generator that `path` names; None if it names something else.

    Args:
      path: an .npz, the name of a bundled model, or None for the bundled model
        `DEFAULT`. A training folder whose name is that of a bundled model wins.
    """
    if path is None:
        return path_of(DEFAULT)
    path = os.fspath(path)
    if is_name(path):
        return path_of(path)
    return path if path.endswith(".npz") and os.path.isfile(path) else None


def save(
    path: StrPath, G: SpecGANGenerator, moments: Moments, card: Mapping[str, Any]
) -> None:
    """Write a generator, its moments and its card to one file.

    Args:
      path: ends in .npz.
      card: as in `Box`, with anything else that JSON can hold. Its options are
        replaced by G's, its log_eps, pad_front and clip_nstd by the moments'.

    Raises:
      ValueError: `path` does not end in .npz; a weight is too large for float16.
      InputError: `load` would refuse the file.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"path must end in .npz. Received: {path!r}")
    card = {**card, "options": {name: getattr(G, name) for name in OPTIONS}}
    card |= moments.analysis
    with np.errstate(over="ignore"):
        arrays = {v.path: v.numpy().astype(np.float16) for v in G.variables}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that float16 cannot hold")
    arrays |= {MEAN: np.float32(moments.mean), STD: np.float32(moments.std)}
    arrays[CARD] = np.frombuffer(json.dumps(card).encode(), np.uint8)
    _check(path, arrays)
    with replacing(path) as f:
        np.savez_compressed(f, **arrays)


def load(path: StrPath | None = None) -> Box:
    """Read a generator, its moments and its card; `path` is as in `find`.

    Raises:
      InputError: there is no such file, or it holds something else.
    """
    path = find(path) or path
    arrays = _read(path)
    card = _check(path, arrays)
    G = SpecGANGenerator(**card["options"])
    values = {v.path: arrays.pop(v.path, None) for v in G.variables}
    for v in G.variables:
        value = values[v.path]
        if value is None or value.shape != tuple(v.shape):
            raise _invalid(path, f"{v.path} is missing, or of another shape")
    found = _moments(arrays, card)
    for name in (MEAN, STD):
        del arrays[name]
    if extra := arrays.keys() - {CARD}:
        raise _invalid(path, f"it also holds {min(extra)}")
    for v in G.variables:
        v.assign(values[v.path])
    return Box(G, found, card)


def load_moments(path: StrPath | None = None) -> Moments:
    """The moments alone, as `load` returns them."""
    path = find(path) or path
    arrays = _read(path)
    return _moments(arrays, _check(path, arrays))


def read_card(path: StrPath | None = None) -> dict[str, Any]:
    """The card alone, as `load` returns it."""
    path = find(path) or path
    return _check(path, _read(path))


def analysis_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card's `Moments.analysis`; the reference's value where one is missing."""
    analysis = Moments(None, None).analysis
    return {name: card.get(name, value) for name, value in analysis.items()}


def griffin_lim_of(card: Mapping[str, Any]) -> GriffinLim:
    """A card's `spectral.GriffinLim`; the reference's value where one is missing."""
    ngl, window, momentum = GRIFFIN_LIM
    return GriffinLim(
        card.get("ngl", ngl),
        card.get("gl_window", window),
        card.get("gl_momentum", momentum),
    )


def _moments(arrays, card):
    return Moments(arrays[MEAN], arrays[STD], **analysis_of(card))


def _check(path, arrays):
    """The card in the arrays of a file; refuse arrays that are not a generator's."""
    for name, array in arrays.items():
        if not array.size or not np.isfinite(array).all():
            raise _invalid(path, f"{name} is empty, or not finite")
    if missing := {CARD, MEAN, STD} - arrays.keys():
        raise _invalid(path, f"it lacks {min(missing)}")
    check(arrays[MEAN], arrays[STD], where=str(path))
    try:
        card = json.loads(arrays[CARD].tobytes())
        options, step, rate = (card[k] for k in ("options", "step", "sample_rate"))
        valid = {type(step), type(rate)} == {int} and step >= 0 and rate >= 1
        valid = valid and options["upsample"] in UPSAMPLES
        options.setdefault("slice_len", SLICE_LENS[0])  # older cards leave it out
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise _invalid(path, "its card has no valid options, step and sample_rate")
    check_analysis(analysis_of(card), where=f"{path}: its card")
    ngl, window, momentum = griffin_lim_of(card)
    known = type(ngl) is int and 0 <= ngl <= MAX_NGL
    known = known and window in [*GL_WINDOWS] and type(momentum) in (int, float)
    if not known or not 0.0 <= momentum < 1.0:
        raise _invalid(
            path,
            f"its card asks for Griffin-Lim with ngl {ngl!r}, gl_window {window!r}, "
            f"gl_momentum {momentum!r}",
        )
    # The options must fit the arrays: else a card could ask for a huge network.
    seen = generator_options({name: a.shape for name, a in arrays.items()})
    if seen is None or {"upsample": options["upsample"], **seen} != options:
        raise _invalid(path, "its weights are not those of the options on its card")
    return card


def _read(path):
    """Name -> array of an .npz.

    Not by np.load, which allocates whatever a header claims.
    """
    if not os.path.isfile(path):
        raise InputError(f"no generator at {path}")
    try:
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
            if sum(m.file_size for m in members) > MAX_BYTES:
                raise _invalid(path, f"it claims arrays of more than {MAX_BYTES} bytes")
            # Of other methods zipfile does not limit what it inflates.
            methods = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
            if {m.compress_type for m in members} - methods:
                raise _invalid(path, "it is not compressed as numpy compresses")
            return {m.filename.removesuffix(".npy"): _array(z, m) for m in members}
    except (OSError, InputError):
        raise
    except Exception:  # a hostile file makes zipfile and numpy raise anything
        raise _invalid(
            path, "it is damaged, or holds other types than float16, float32 and bytes"
        ) from None


def _array(z, member):
    with z.open(member) as f:
        # With a size: without one, zipfile inflates everything, then cuts it off.
        data = f.read(member.file_size)
    header = io.BytesIO(data)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    if fortran or dtype.str not in ("<f2", "<f4", "|u1"):
        raise ValueError
    return np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)


def _invalid(path, reason):
    return InputError(f"{path} is not a generator's .npz: {reason}")
