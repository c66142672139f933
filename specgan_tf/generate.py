"""Latents -> sound and pictures, and the files they go to.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 327-363 and 387-460.
"""

import io
import os

import numpy as np
import tensorflow as tf

from specgan_tf import spectral
from specgan_tf.files import InputError, read_pickle, replacing, write_pickle

CHUNK = 64  # latents synthesized at a time


def sample_z(n, latent_dim, seed):
    """Latents float32 [n, latent_dim], uniform in [-1, 1]; more of them begin alike.

    original: uniform, not normal.  [train_specgan.py:334]

    Args:
      n, latent_dim, seed: ints, or int32 scalar tensors.
    """
    return tf.random.stateless_uniform([n, latent_dim], [seed, 0], -1.0, 1.0)


def synthesize(G, X_mean, X_std, z, ngl=16, window="hann", momentum=0.0):
    """The original's inference graph, under its tensors' names.

    Args:
      G: generator; X_mean, X_std: its moments, float32 [129].
      z: float32 [b, latent_dim].
      ngl, window, momentum: as in `spectral.invert_spectra_griffin_lim`.

    Returns:
      dict of G_z_norm float32 [b, 128, 128, 1] in [-1, 1], G_z float32 [b, 16384, 1],
      G_z_norm_uint8 uint8 [b, 128, 128, 1], G_z_int16 int16 [b, 16384, 1].

    [train_specgan.py:341-362]
    """
    G_z_norm = G(z, training=False)
    G_z = spectral.f_to_t(G_z_norm, X_mean, X_std, ngl, window, momentum)
    return {
        "G_z_norm": G_z_norm,
        "G_z": G_z,
        "G_z_norm_uint8": spectral.f_to_img(G_z_norm),
        "G_z_int16": spectral.float_to_int16(G_z),
    }


def render_chunks(G, X_mean, X_std, z, ngl=16, window="hann", momentum=0.0):
    """`synthesize` for any number of latents: dicts of numpy arrays, chunk by chunk."""
    graph = tf.function(
        lambda z: synthesize(G, X_mean, X_std, z, ngl, window, momentum),
        input_signature=[tf.TensorSpec([None, z.shape[1]], tf.float32)],
    )
    for i in range(0, len(z), CHUNK):
        yield {name: t.numpy() for name, t in graph(z[i : i + CHUNK]).items()}


def render(*args, **kwargs):
    """`render_chunks`, joined: a dict of numpy arrays."""
    chunks = list(render_chunks(*args, **kwargs))
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def load_z(fp, latent_dim):
    """Latents from a .npy file, or a pickle such as the original's preview/z.pkl.

    Raises:
      InputError: no such file, not latents, or another latent_dim.
    """
    if not os.path.isfile(fp):
        raise InputError(f"no latents at {fp}")
    if str(fp).endswith(".npy"):
        try:
            # Mapped: read whole, numpy would make room for whatever its header claims.
            z = np.load(fp, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as e:  # numpy parses the header as Python, and trips as Python
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


def save_z(fp, z):
    """Write latents [n, latent_dim] as .npy, or else as a pickle the original reads."""
    z = np.asarray(z, np.float32)
    if str(fp).endswith(".npy"):
        with replacing(fp) as f:
            np.save(f, z)
    else:
        write_pickle(fp, z)


def write_wav(fp, samples, sample_rate):
    """Write int16 [n, 1] as a 16-bit PCM WAV file."""
    from scipy.io import wavfile

    encoded = io.BytesIO()
    wavfile.write(encoded, sample_rate, np.asarray(samples))
    with replacing(fp) as f:
        f.write(encoded.getbuffer())


def write_png(fp, image):
    """Write uint8 [h, w, 1] as a PNG file."""
    with replacing(fp) as f:
        f.write(tf.io.encode_png(image).numpy())


def contact_sheet(images, columns=8, gap=4):
    """uint8 [n, h, w, 1] -> one picture, row by row, white between."""
    n, h, w, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    size = (rows * (h + gap) + gap, columns * (w + gap) + gap, 1)
    sheet = np.full(size, 255, np.uint8)
    for i, image in enumerate(images):
        top = (i // columns) * (h + gap) + gap
        left = (i % columns) * (w + gap) + gap
        sheet[top : top + h, left : left + w] = image
    return sheet
