"""Latents, paths through latent space, and their sounds, pictures and files.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 327-363 and 387-460.

Latents are float32 [n, latent_dim] in the cube [-1, 1]^latent_dim, from which training
draws them uniformly. `interpolate`, `path`, `walk`, `grid` and `truncate` stay in it.
"""

import io
import itertools
import os
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing
from specgan_tf.moments import Moments
from specgan_tf.pickles import read_pickle, write_pickle
from specgan_tf.spectral import GRIFFIN_LIM, GriffinLim

CHUNK = 64  # latents synthesized at a time


def sample_z(
    n: int | tf.Tensor, latent_dim: int | tf.Tensor, seed: int | tf.Tensor
) -> tf.Tensor:
    """Draw latents float32 [n, latent_dim], uniform in [-1, 1].

    With the same seed a larger n begins with the same latents.

    original: uniform, not normal.  [train_specgan.py:334]

    Args:
      n, latent_dim, seed: ints, or int32 scalar tensors.
    """
    return tf.random.stateless_uniform([n, latent_dim], [seed, 0], -1.0, 1.0)


def interpolate(z0: np.ndarray, z1: np.ndarray, steps: int) -> np.ndarray:
    """A straight line from one latent to another, in equal steps.

    Not spherical: the cube is convex, so a straight line stays where G was trained.
    Arcs suit normal latents, and would leave the cube.

    Args:
      z0, z1: float [latent_dim] each.
      steps: int, at least 2.

    Returns:
      float32 [steps, latent_dim], from exactly z0 to exactly z1.
    """
    _at_least("steps", steps, 2)
    t = np.linspace(0.0, 1.0, steps)[:, np.newaxis]
    return ((1.0 - t) * np.asarray(z0) + t * np.asarray(z1)).astype(np.float32)


def path(z: np.ndarray, steps: int) -> np.ndarray:
    """`interpolate` from each latent to the next, through all of them.

    Args:
      z: float [n, latent_dim], n at least 2.
      steps: int, at least 2: latents from one z to the next, both included.

    Returns:
      float32 [(n - 1) * (steps - 1) + 1, latent_dim]; every (steps - 1)th is one of z.
    """
    _at_least("latents in a path", len(z), 2)
    legs = [interpolate(a, b, steps)[:-1] for a, b in itertools.pairwise(z)]
    return np.concatenate([*legs, np.asarray(z[-1:], np.float32)])


def walk(z0: np.ndarray, n: int, step: float, seed: int) -> np.ndarray:
    """A random walk through the cube, reflected at its walls.

    Each step moves every coordinate by a uniform number in [-step, step]. Because it is
    reflected, not clipped, in the long run it is everywhere equally often, like the
    latents in training, and does not stick to the walls. With the same seed a longer
    walk begins with the same latents.

    Args:
      z0: float [latent_dim], within the cube: the start.
      n: int, the number of latents, with z0.
      step: float in (0, 2]; 2 is the cube's side.
      seed: int.

    Returns:
      float32 [n, latent_dim]; the first is z0.
    """
    _at_least("n", n, 1)
    if not 0.0 < step <= 2.0:
        raise ValueError(f"step must be in (0, 2]. Received: {step!r}")
    z0 = np.asarray(z0, np.float32)
    # [seed, 1]: not the numbers that sample_z draws with this seed
    moves = tf.random.stateless_uniform([n - 1, len(z0)], [seed, 1], -step, step)
    free = z0 + np.cumsum(moves, axis=0, dtype=np.float64)
    folded = 1.0 - np.abs((free + 1.0) % 4.0 - 2.0)
    return np.concatenate([z0[np.newaxis], folded.astype(np.float32)])


def grid(z: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A grid of latents between four corners.

    Args:
      z: float [4, latent_dim]: top left, top right, bottom left, bottom right.
      rows, columns: ints, at least 2.

    Returns:
      float32 [rows * columns, latent_dim], row by row.
    """
    if len(z) != 4:
        raise ValueError(f"z must hold 4 latents, the corners. Received: {len(z)}")
    left, right = interpolate(z[0], z[2], rows), interpolate(z[1], z[3], rows)
    lines = [interpolate(a, b, columns) for a, b in zip(left, right, strict=True)]
    return np.concatenate(lines)


def truncate(z: np.ndarray, t: float) -> np.ndarray:
    """Scale latents towards the centre: sounds become more alike, and more typical.

    Normal latents are truncated by drawing those in the tails again. Uniform ones have
    no tails: drawing those outside [-t, t] again gives uniform latents in [-t, t], and
    so does scaling, with which each sound remains recognizable.

    Args:
      z: float [n, latent_dim].
      t: float in (0, 1]; 1 changes nothing.

    Returns:
      float32 [n, latent_dim], in [-t, t].
    """
    if not 0.0 < t <= 1.0:
        raise ValueError(f"t must be in (0, 1]. Received: {t!r}")
    return np.asarray(z, np.float32) * np.float32(t)


def _at_least(name, value, least):
    if value < least:
        raise ValueError(f"{name} must be at least {least}. Received: {value!r}")


def synthesize(
    G: keras.Model,
    moments: Moments,
    z: TensorLike,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
) -> dict[str, tf.Tensor]:
    """The original's inference graph: outputs by its tensors' names.

    Args:
      G: generator.
      moments: its `moments.Moments`.
      z: float32 [b, latent_dim].
      griffin_lim: a `GriffinLim`.

    Returns:
      dict of G_z_norm float32 [b, 128, 128, 1] in [-1, 1], G_z float32 [b, 16384, 1],
      G_z_norm_uint8 uint8 [b, 128, 128, 1], G_z_int16 int16 [b, 16384, 1].
      G_z may exceed 1; G_z_int16 is clipped there.

    [train_specgan.py:341-362]
    """
    G_z_norm = G(z, training=False)
    G_z = moments.f_to_t(G_z_norm, griffin_lim)
    return {
        "G_z_norm": G_z_norm,
        "G_z": G_z,
        "G_z_norm_uint8": spectral.f_to_img(G_z_norm),
        "G_z_int16": spectral.float_to_int16(G_z),
    }


def render_chunks(
    G: keras.Model,
    moments: Moments,
    z: TensorLike,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
) -> Iterator[dict[str, np.ndarray]]:
    """`synthesize` for any number of latents, in chunks: dicts of numpy arrays."""
    graph = tf.function(
        lambda z: synthesize(G, moments, z, griffin_lim),
        input_signature=[tf.TensorSpec([None, z.shape[1]], tf.float32)],
    )
    for i in range(0, len(z), CHUNK):
        yield {name: t.numpy() for name, t in graph(z[i : i + CHUNK]).items()}


def checked_latents(
    G: keras.Model, moments: Moments, z: TensorLike, griffin_lim: GriffinLim
) -> np.ndarray:
    """`z` as an array; a ValueError for arguments that `render` cannot use."""
    order = "render(G, moments, z, griffin_lim)"
    if not isinstance(G, keras.Model):
        raise ValueError(f"G must be a generator: {order}. Received: {G!r}")
    if not isinstance(moments, Moments):
        raise ValueError(
            "moments must be a moments.Moments, as load_moments returns it, or "
            f"Moments(mean, std): {order}. Received: a {type(moments).__name__}"
        )
    spectral.check_griffin_lim(griffin_lim)
    z = np.asarray(z, np.float32)
    spectral.require_shape("z", z, None, getattr(G, "latent_dim", None))
    if not len(z):
        raise ValueError("z must hold at least one latent. Received: none")
    return z


def render(
    G: keras.Model,
    moments: Moments,
    z: TensorLike,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
) -> dict[str, np.ndarray]:
    """Turn latents into spectrograms and sounds, any number of them.

    Args:
      G: generator, as `load_generator` returns it.
      moments: its moments, as `load_moments` returns them.
      z: latents, float32 [n, latent_dim], n at least 1, usually within [-1, 1].
      griffin_lim: a `GriffinLim`. `load_griffin_lim` returns the one that the model
        recorded, with which the command line generates; the default is the original's.

    Returns:
      dict of numpy arrays: G_z_norm, spectrograms float32 [n, 128, 128, 1] in [-1, 1];
      G_z, waveforms float32 [n, 16384, 1], which may exceed 1; G_z_norm_uint8, images
      uint8 [n, 128, 128, 1]; G_z_int16, int16 [n, 16384, 1], clipped at full scale.

    Examples:
      >>> G, moments = load_generator("drums"), load_moments("drums")
      >>> z = generate.sample_z(16, G.latent_dim, seed=0)
      >>> audio = render(G, moments, z, load_griffin_lim("drums"))["G_z"]

    Raises:
      ValueError: an argument is of another kind or shape.
    """
    z = checked_latents(G, moments, z, griffin_lim)
    chunks = list(render_chunks(G, moments, z, griffin_lim))
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def load_z(fp: StrPath, latent_dim: int) -> np.ndarray:
    """Read latents from a .npy file, or a pickle such as the original's preview/z.pkl.

    Raises:
      InputError: no such file, not latents, or another latent_dim.
    """
    if not os.path.isfile(fp):
        raise InputError(f"no latents at {fp}")
    if str(fp).endswith(".npy"):
        try:
            # Mapped: otherwise numpy allocates as much as the header claims.
            z = np.load(fp, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as e:  # numpy parses the header as Python: any error
            raise InputError(f"{fp} is not a .npy file of latents ({e})") from None
    else:
        z = read_pickle(fp)
    if (
        not isinstance(z, np.ndarray)
        or z.dtype.kind != "f"
        or z.ndim != 2
        or not len(z)
    ):
        raise InputError(f"{fp} does not hold latents, float [n, {latent_dim}]")
    if z.shape[1] != latent_dim:
        raise InputError(
            f"{fp} holds latents of {z.shape[1]} dimensions, the generator takes "
            f"{latent_dim}"
        )
    if not np.isfinite(z).all():
        raise InputError(f"{fp} holds NaN or infinite latents")
    return z.astype(np.float32)


def save_z(fp: StrPath, z: TensorLike) -> None:
    """Write latents [n, latent_dim] to a .npy file, or a pickle for the original."""
    z = np.asarray(z, np.float32)
    if str(fp).endswith(".npy"):
        with replacing(fp) as f:
            np.save(f, z)
    else:
        write_pickle(fp, z)


def write_wav(fp: StrPath, samples: TensorLike, sample_rate: int) -> None:
    """Write int16 [n, 1] as a 16-bit PCM WAV file."""
    from scipy.io import wavfile

    encoded = io.BytesIO()
    wavfile.write(encoded, sample_rate, np.asarray(samples))
    with replacing(fp) as f:
        f.write(encoded.getbuffer())


def write_flac(fp: StrPath, samples: TensorLike, sample_rate: int) -> None:
    """Write int16 [n, 1] as a 16-bit FLAC file: the same samples, in a smaller file.

    Raises:
      InputError: a rate that FLAC cannot hold.
    """
    import soundfile

    encoded = io.BytesIO()
    try:
        soundfile.write(encoded, np.asarray(samples), sample_rate, format="FLAC")
    except soundfile.LibsndfileError:
        raise InputError(f"FLAC cannot hold {sample_rate} Hz; WAV can") from None
    with replacing(fp) as f:
        f.write(encoded.getbuffer())


WRITERS = {"wav": write_wav, "flac": write_flac}
