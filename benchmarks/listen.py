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

from specgan_tf.files import replacing

CLIPS = 8
QUIET = 1e-4  # of full scale: what follows is cut off
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SpecGAN: what it sounds like</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem;
       padding: 0 1rem; }
.clips { display: grid; gap: 1rem;
         grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
figure { margin: 0; }
img { width: 100%; height: 8rem; image-rendering: pixelated; }
audio { width: 100%; }
</style>
</head>
<body>
<h1>SpecGAN: what it sounds like</h1>
<p>Eight clips of each, chosen at random. Pictures: one second from left to right, 0 to
8 kHz upwards; 60 dB from black to white.</p>
{% for title, clips in sets %}
<h2>{{ title }}</h2>
<div class="clips">
{% for sound, picture in clips %}
<figure>
<img src="{{ picture }}" alt="Spectrogram of clip {{ loop.index }}">
<audio src="{{ sound }}" controls preload="none" aria-label="clip {{ loop.index }}">
</audio>
</figure>
{% endfor %}
</div>
{% endfor %}
</body>
</html>
"""


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
    from specgan_tf.cli.settings import griffin_lim, resolve_settings

    G, moments = load_generator(path), load_moments(path)
    settings = resolve_settings({"mode": "generate", "train_dir": path})
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


def pictures(x):
    """float32 [n, 16384] -> PNGs in colour: 60 dB below each clip's loudest bin."""
    import tensorflow as tf

    from specgan_tf import sheet, spectral

    X = spectral.log_magnitude(tf.constant(x)).numpy()[..., :128]
    X = X - X.max(axis=(1, 2), keepdims=True)
    level = np.clip(1 + X / np.log(1000), 0, 1).transpose(0, 2, 1)[:, ::-1]
    images = (level * 255).astype(np.uint8)[..., np.newaxis]
    return [sheet.encode_png(image) for image in images]


def embedded(kind, data):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def clips_of(title, x, folder):
    """(sound, picture) of each clip, embedded; the sounds are files, too."""
    stem = re.sub(r"\W+", "-", title)
    for i, (clip, png) in enumerate(zip(x, pictures(x), strict=True)):
        sound = mp3(clip)
        with replacing(os.path.join(folder, f"{stem}-{i + 1}.mp3")) as f:
            f.write(sound)
        yield embedded("audio/mpeg", sound), embedded("image/png", png)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("sets", nargs="+", metavar="NAME:WORDS=MODEL")
    p.add_argument("--out_dir", default="docs/sounds")
    args = p.parse_args(argv)
    import jinja2

    from specgan_tf.weights import bundled

    os.makedirs(args.out_dir, exist_ok=True)
    sets = []
    for one in args.sets:
        title, _, path = one.partition("=")
        title = title.replace(":", ", ", 1)
        model = bundled.find(path) or os.path.exists(os.path.join(path, "args.txt"))
        x = generated(path) if model or ".ckpt" in path else real(path)
        sets.append((title, list(clips_of(title, x, args.out_dir))))
    page = jinja2.Environment(autoescape=True).from_string(PAGE).render(sets=sets)
    with replacing(os.path.join(args.out_dir, "index.html"), "w") as f:
        f.write(page)


if __name__ == "__main__":
    sys.exit(main())
