"""Files from strangers, found by a fuzzer: python -m benchmarks.fuzz KIND [--minutes 1]

KIND: pickle (moments, latents), npy (latents), shard (of moments), args (args.txt),
list (`checkpoint`), checkpoint (its index), audio (WAV through --data_fast_wav). Each
input must be read, or refused with an error of ours, within 10 s and 2 GiB above the
imports, and must not create or run anything. A coverage-guided fuzzer (`pip install
atheris`) mutates valid files for as long as is asked, and ends at the first that breaks
this, which it writes to crash-*. What it has found became tests.
"""

import argparse
import contextlib
import logging
import os
import resource
import shutil
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atheris

WATCHED = "specgan_tf train_specgan pickle ast numpy.lib scipy.io.wavfile".split()
with atheris.instrument_imports(include=WATCHED):
    import io
    import pickle

    import numpy as np
    from scipy.io import wavfile

    from specgan_tf import (
        SpecGAN,
        SpecGANDiscriminator,
        SpecGANGenerator,
        generate,
        loader,
        moments,
        pickles,
        shards,
    )
    from specgan_tf.cli.settings import resolve_settings
    from specgan_tf.errors import InputError
    from specgan_tf.weights import checkpoint, folders

RSS = 2048  # MiB above the imports
LATENT_DIM = 3


def pickled():
    arrays = np.zeros(129, "f4"), np.ones(129)
    for protocol in range(6):
        yield pickle.dumps(arrays, protocol)
        yield pickle.dumps(np.asfortranarray(np.ones((2, 3), ">f8")), protocol)


def written(write):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "file.npy")
        write(path)
        with open(path, "rb") as f:
            return f.read()


def a_checkpoint(folder):
    G, D = SpecGANGenerator(dim=1, latent_dim=LATENT_DIM), SpecGANDiscriminator(dim=1)
    gan = SpecGAN(G, D)
    gan.compile()
    return checkpoint.save(gan, folder)


def seeds(kind, folder):
    """Valid inputs, and ones that nearly are."""
    z = np.ones((2, LATENT_DIM), "f4")
    if kind == "pickle":
        yield from pickled()
        yield written(lambda p: pickles.write_pickle(p, z))
    if kind == "npy":
        yield written(lambda p: generate.save_z(p, z))
    if kind == "shard":
        yield written(lambda p: shards.save(p, 3, *np.ones((3, 129))))
    if kind == "args":
        yield b"specgan_dim,64\nspecgan_loss,wgan-gp\ndata_dir,/tmp/x\nseed,None\n"
        yield b"specgan_batchnorm,True\ndata_overlap_ratio,0.5\nspecgan_gl_window,dual"
    if kind == "list":
        yield b'model_checkpoint_path: "model.ckpt-0"\n'
    if kind == "checkpoint":
        with open(f"{folder}/model.ckpt-0.index", "rb") as f:
            yield f.read()
    if kind == "audio":
        for dtype in ("int16", "float32", "uint8"):
            data = io.BytesIO()
            wavfile.write(data, 16000, np.ones((50, 2), dtype))
            yield data.getvalue()


def reading(kind, folder):
    """data -> None: reads it as a user's command would."""
    names = {
        "pickle": "moments.pkl",
        "npy": "z.npy",
        "shard": "moments-1-of-1.pkl",
        "args": "args.txt",
        "list": "checkpoint",
        "checkpoint": "model.ckpt-0.index",
        "audio": "sound.wav",
    }
    path = os.path.join(folder, names[kind])
    given = {"mode": "generate", "train_dir": folder}

    def latents():
        generate.load_z(path, LATENT_DIM)

    def both():
        for read in (moments.load, lambda p: generate.load_z(p, LATENT_DIM)):
            try:
                read(path)
            except InputError:
                continue

    read = {
        "pickle": both,
        "npy": latents,
        "shard": lambda: shards.merge(folder),
        "args": lambda: resolve_settings(given),
        "list": lambda: folders.latest(folder),
        "checkpoint": lambda: checkpoint.load_generator(folder),
        "audio": lambda: loader.decode_audio(path, 16000, fast_wav=True),
    }[kind]

    def one(data):
        with open(path, "wb") as f:
            f.write(data)
        entries = set(os.listdir(folder))
        with contextlib.suppress(InputError):
            read()
        assert set(os.listdir(folder)) == entries, "it left something behind"

    return one


KINDS = "pickle npy shard args list checkpoint audio".split()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("kind", choices=KINDS)
    p.add_argument("--minutes", type=float, default=1.0)
    args = p.parse_args()
    folder = tempfile.mkdtemp()
    corpus = os.path.join(folder, "corpus")
    train_dir = os.path.join(folder, "train")
    os.mkdir(corpus), os.mkdir(train_dir)
    if args.kind in ("args", "list", "checkpoint"):
        a_checkpoint(train_dir)
    for i, data in enumerate(seeds(args.kind, train_dir)):
        with open(os.path.join(corpus, str(i)), "wb") as f:
            f.write(data)
    logging.disable(logging.CRITICAL)  # a million messages about skipped files
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    limits = f"-max_total_time={int(60 * args.minutes)} -timeout=10 -rss_limit_mb="
    atheris.Setup(
        [sys.argv[0], *f"{limits}{used + RSS}".split(), corpus],
        reading(args.kind, train_dir),
    )
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
