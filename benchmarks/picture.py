"""The README's picture: python -m benchmarks.picture OUT.png [--model TRAIN_DIR]

Two rows of real spectrograms, and below them two rows that the bundled model, or the
newest checkpoint of TRAIN_DIR, generates; both drawn at random, with a fixed seed.
"""

import argparse
import os
import random

import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out")
    p.add_argument("--model", help="training folder, or a model's .npz")
    p.add_argument("--data_dir", default="specgan_tf/data/drums")
    args = p.parse_args()
    from specgan_tf import (
        generate,
        load_generator,
        load_moments,
        loader,
        sheet,
        spectral,
    )

    moments = load_moments(args.model)
    fps = random.Random(0).sample(loader.find_audio(args.data_dir), 16)
    first = {"slice_first_only": True, "slice_pad_end": True}
    batches = loader.decode_extract_and_batch(
        fps, 16, spectral.SLICE_LEN, 16000, 1, **first
    )
    (x,) = batches.as_numpy_iterator()
    real = spectral.f_to_img(moments.t_to_f(x[:, :, 0]))
    G = load_generator(args.model)
    made = spectral.f_to_img(G(generate.sample_z(16, G.latent_dim, seed=0)))
    names = [os.path.splitext(os.path.basename(fp))[0].split("__")[-1] for fp in fps]
    names += [f"generated {i}" for i in range(16)]
    picture = sheet.contact_sheet(np.concatenate([real, made]), names, 16000)
    sheet.write_png(args.out, picture)


if __name__ == "__main__":
    main()
