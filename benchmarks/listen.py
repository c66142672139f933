"""Sounds to hear before installing: python -m benchmarks.listen SET=MODEL ...

    python -m benchmarks.listen drums:real=specgan_tf/data/drums \\
        "drums:after make demo=demo_out/train" drums:bundled=drums digits:bundled=digits

Each SET is NAME:WORDS; MODEL is a training folder, a checkpoint, the name of a bundled
model, or a folder of sounds that may be passed on. Writes eight MP3 files of each to
docs/sounds, and docs/sounds/index.html: players and pictures in one file.
"""

import argparse
import base64
import io
import os
import random
import re
import sys

import numpy as np

CLIPS = 8
QUIET = 1e-4  # of full scale: what follows is cut off
# matplotlib's "magma", at equal distances.
MAGMA = np.array(
    [
        (0, 0, 4),
        (28, 16, 68),
        (79, 18, 123),
        (129, 37, 129),
        (181, 54, 122),
        (229, 80, 100),
        (251, 135, 97),
        (254, 194, 135),
        (252, 253, 191),
    ]
)


def in_colour(image):
    """uint8 [h, w, 1] -> uint8 [h, w, 3]."""
    place = image[..., 0] / 255 * (len(MAGMA) - 1)
    channels = [np.interp(place, np.arange(len(MAGMA)), c) for c in MAGMA.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def real(folder):
    """The first second of some sounds of a folder: float32 [8, 16384]."""
    from specgan_tf import loader, spectral

    fps = random.Random(0).sample(loader.find_audio(folder), CLIPS)
    first = {"slice_first_only": True, "slice_pad_end": True}
    (x,) = loader.decode_extract_and_batch(
        fps, CLIPS, spectral.SLICE_LEN, 16000, 1, **first
    ).as_numpy_iterator()
    return x[:, :, 0, 0]


def generated(path, seed=0):
    """Sounds of a model, at equal loudness: float32 [8, 16384]."""
    from specgan_tf import generate, load_generator, load_moments, spectral
    from specgan_tf.cli.flags import make_parser
    from specgan_tf.cli.settings import griffin_lim, settle

    G, moments = load_generator(path), load_moments(path)
    settings = settle(make_parser(), {"mode": "generate", "train_dir": path})
    z = generate.sample_z(CLIPS, G.latent_dim, seed)
    x = generate.render(G, moments, z, griffin_lim(settings))["G_z"]
    return spectral.normalize(x).numpy()[:, :, 0]


def mp3(x):
    """float32 [n] at 16 kHz as MP3, without the silence at its end."""
    import soundfile

    heard = np.flatnonzero(np.abs(x) > QUIET)
    encoded = io.BytesIO()
    end = heard[-1] + 1 if len(heard) else len(x)
    soundfile.write(encoded, x[: max(end, 1600)], 16000, format="MP3")
    return encoded.getvalue()


def picture(x):
    """float32 [n, 16384] -> PNGs in colour: 60 dB below each clip's loudest bin."""
    import tensorflow as tf

    from specgan_tf import spectral

    X = spectral.log_magnitude(tf.constant(x[:, :, np.newaxis])).numpy()[..., :128]
    X = X - X.max(axis=(1, 2), keepdims=True)
    level = np.clip(1 + X / np.log(1000), 0, 1).transpose(0, 2, 1)[:, ::-1]
    images = (level * 255).astype(np.uint8)[..., np.newaxis]
    return [tf.io.encode_png(in_colour(image)).numpy() for image in images]


def embedded(name, kind, data, **attributes):
    from specgan_tf.report.page import element

    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return element(name, src=uri, **attributes)


def section(title, x, folder):
    """A section of the page; the files of it are written, too."""
    from specgan_tf.report import page

    figures = []
    stem = re.sub(r"\W+", "-", title)
    for i, (clip, png) in enumerate(zip(x, picture(x), strict=True)):
        sound, label = mp3(clip), f"{title}, clip {i + 1}"
        with open(os.path.join(folder, f"{stem}-{i + 1}.mp3"), "wb") as f:
            f.write(sound)
        shown = embedded("img", "image/png", png, alt=f"Spectrogram of {label}")
        player = embedded(
            "audio", "audio/mpeg", sound, controls="", preload="none", aria_label=label
        )
        figures.append(page.element("figure", shown, player))
    return page.section(title, page.element("div", *figures, class_="clips"))


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("sets", nargs="+", metavar="NAME:WORDS=MODEL")
    p.add_argument("--out_dir", default="docs/sounds")
    args = p.parse_args(argv)
    from specgan_tf.report import page
    from specgan_tf.weights import bundled

    os.makedirs(args.out_dir, exist_ok=True)
    sections = [
        page.element("h1", "SpecGAN: what it sounds like"),
        page.element(
            "p",
            "Eight clips of each, drawn by chance. Pictures: one second from left to "
            "right, 0 to 8 kHz upwards, 60 dB from black to white.",
        ),
    ]
    for one in args.sets:
        title, _, path = one.partition("=")
        name, _, words = title.partition(":")
        model = bundled.find(path) or os.path.exists(os.path.join(path, "args.txt"))
        x = generated(path) if model or ".ckpt" in path else real(path)
        sections.append(section(f"{name}, {words}", x, args.out_dir))
    with open(os.path.join(args.out_dir, "index.html"), "wb") as f:
        f.write(page.page("SpecGAN, sounds", "benchmarks.listen", *sections))


if __name__ == "__main__":
    sys.exit(main())
