#!/usr/bin/env python
"""Export a trained SpecGAN's generator as SavedModel and TFLite."""

import logging
import os
import sys
import tempfile

from train_specgan import Parser, run

log = logging.getLogger("specgan_tf")

FORMATS = {
    "saved_model": os.path.join("specgan", "1"),
    "tflite": "generator.f32.tflite",
}


def make_parser():
    p = Parser(description=__doc__)
    p.add_argument("train_dir", help="training folder, or a checkpoint's prefix")
    p.add_argument("--out_dir", help="default TRAIN_DIR/export")
    p.add_argument("--data_moments_fp", help="default TRAIN_DIR/moments.pkl")
    p.add_argument(
        "--specgan_genr_upsample",
        choices=["nn", "lin", "cub"],
        help="where neither the checkpoint nor args.txt says it",
    )
    p.add_argument("--overwrite", action="store_true", help="replace what is there")
    return p


def export(args):
    """Write and verify everything beside OUT_DIR, then move it in."""
    from specgan_tf import checkpoint
    from specgan_tf.export import save_saved_model, save_tflite
    from specgan_tf.files import InputError, put_in_place

    prefix = checkpoint.require(args.train_dir)
    folder = checkpoint.folder_of(args.train_dir)
    out_dir = os.path.abspath(args.out_dir or os.path.join(folder, "export"))
    there = [p for p in FORMATS.values() if os.path.exists(os.path.join(out_dir, p))]
    if there and not args.overwrite:
        raise InputError(
            f"{os.path.join(out_dir, there[0])} exists; choose another --out_dir, or "
            "--overwrite"
        )
    G = checkpoint.load_generator(prefix, args.specgan_genr_upsample)
    mean, std = checkpoint.load_moments(prefix, args.data_moments_fp)

    os.makedirs(out_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".export.") as new:
        log.info("Exporting step %d", checkpoint.step_of(prefix))
        for name, path in FORMATS.items():
            made = os.path.join(new, path)
            os.makedirs(os.path.dirname(made), exist_ok=True)
            if name == "saved_model":
                errors = save_saved_model(G, mean, std, made)
            else:
                errors = save_tflite(G, made)
            said = ", ".join(f"{k} {v:.1g}" for k, v in errors.items())
            log.info(
                "%s: %.2f MB; largest difference from Keras: %s",
                os.path.join(out_dir, path),
                size(made) / 1e6,
                said,
            )
        for path in FORMATS.values():  # all verified: now, and only now, put in place
            target = os.path.join(out_dir, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            put_in_place(os.path.join(new, path), target)


def size(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(path)
        for name in names
    )


def main(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
