"""The command `python export.py`: a generator as SavedModel and TFLite."""

import argparse
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from specgan_tf.cli.flags import Settings
from specgan_tf.cli.parser import Parser, positive
from specgan_tf.cli.run import run

if TYPE_CHECKING:  # they import TensorFlow, which takes seconds
    from specgan_tf.moments import Moments
    from specgan_tf.specgan import SpecGANGenerator

log = logging.getLogger("specgan_tf")

FORMATS = "saved_model", "tflite", "onnx"
UNASKED = FORMATS[:2]  # onnx needs packages of its own
WEIGHTS = "f32", "f16", "dr8", "int8"  # as tflite.VARIANTS, without TensorFlow


def some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of some of these names, separated by commas."""

    def parse(text):
        given = text.split(",")
        if not set(given) <= set(names):
            raise argparse.ArgumentTypeError(
                f"must be of {','.join(names)}. Received: {text!r}"
            )
        return [name for name in names if name in given]

    return parse


def make_parser() -> Parser:
    p = Parser(
        description="Export a trained SpecGAN's generator as SavedModel, TFLite and "
        "ONNX, each verified."
    )
    p.add_argument(
        "train_dir",
        nargs="?",
        help="training folder, a checkpoint's prefix, a model in an .npz, drums or "
        "digits; without it, drums, the bundled model",
    )
    p.add_argument(
        "--out_dir", help="default TRAIN_DIR/export, without TRAIN_DIR ./exported"
    )
    p.add_argument(
        "--checkpoint",
        help="one in TRAIN_DIR, such as model.ckpt-100; default: the newest",
    )
    p.add_argument(
        "--formats",
        type=some_of(FORMATS),
        default=UNASKED,
        help=f"some of {','.join(FORMATS)} (default: {','.join(UNASKED)}); onnx wants "
        "the extra of that name: pip install '.[onnx]'",
    )
    p.add_argument(
        "--tflite",
        type=some_of(WEIGHTS),
        default=WEIGHTS,
        help="how generator.*.tflite store weights: some of "
        f"{','.join(WEIGHTS)} (default: all)",
    )
    p.add_argument(
        "--version",
        type=positive,
        default=1,
        help="version of the SavedModel, the name of its folder (default: 1)",
    )
    p.add_argument("--data_moments_fp", help="default TRAIN_DIR/moments.pkl")
    p.add_argument(
        "--specgan_genr_upsample",
        choices=["nn", "lin", "cub"],
        help="upsampling, if neither the checkpoint nor args.txt records it",
    )
    p.add_argument("--overwrite", action="store_true", help="replace existing files")
    return p


def export(args: argparse.Namespace) -> None:
    """Write and verify all artefacts beside OUT_DIR, then move them into it."""
    from specgan_tf.cli.settings import unasked_dir
    from specgan_tf.errors import InputError
    from specgan_tf.files import making_dir, put_in_place
    from specgan_tf.weights import folders

    path = args.train_dir
    if args.checkpoint:
        if path is None:
            raise InputError("--checkpoint names one in TRAIN_DIR: pass TRAIN_DIR too")
        path = os.path.join(path, os.path.basename(args.checkpoint))
    folders.require(path)  # before the work
    if "onnx" in args.formats:
        from specgan_tf.export import onnx_graph

        onnx_graph.require()
    unasked = unasked_dir(args, "export", "exported")
    out_dir = os.path.abspath(args.out_dir or unasked)
    paths = artefacts(args)
    everything = [*paths, "report.json", "report.md", "spectrograms.png"]
    there = [p for p in everything if os.path.exists(os.path.join(out_dir, p))]
    if there and not args.overwrite:
        raise InputError(
            f"{os.path.join(out_dir, there[0])} exists; choose another --out_dir, or "
            "--overwrite"
        )
    with (
        making_dir(out_dir),
        tempfile.TemporaryDirectory(dir=out_dir, prefix=".export.") as new,
    ):
        trained = folders.read_latest(path, lambda prefix: read(prefix, args))
        make(trained, new, paths, out_dir)
        for path in everything:  # all of it is verified
            target = os.path.join(out_dir, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            put_in_place(os.path.join(new, path), target)
    log.info("Comparison with Keras: %s", os.path.join(out_dir, "report.md"))


def artefacts(args: argparse.Namespace) -> dict[str, tuple[list[str] | None, str]]:
    """Path -> (signatures, weights); signatures None: a SavedModel, which has all."""
    paths = {}
    if "saved_model" in args.formats:
        paths[os.path.join("specgan", str(args.version))] = None, "f32"
    if "tflite" in args.formats:
        for weights in args.tflite:
            paths[f"generator.{weights}.tflite"] = ["generate"], weights
        paths["synthesize.f32.tflite"] = ["synthesize", "generate"], "f32"
        paths["invert.f32.tflite"] = ["invert"], "f32"
    if "onnx" in args.formats:
        paths["generator.onnx"] = ["generate"], "f32"
        paths["synthesize.onnx"] = ["synthesize"], "f32"
    return paths


def read(
    prefix: str, args: argparse.Namespace
) -> "tuple[Settings, SpecGANGenerator, Moments, dict[str, Any]]":
    """(settings, G, moments, about) of a checkpoint."""
    from specgan_tf.cli.settings import load_moments, resolve_settings
    from specgan_tf.weights import checkpoint

    log.info("Exporting %s", prefix)
    given = {"mode": "infer", "train_dir": prefix}
    if args.data_moments_fp:
        given["data_moments_fp"] = args.data_moments_fp
    settings = resolve_settings(given)
    G = checkpoint.load_generator(prefix, args.specgan_genr_upsample)
    moments = load_moments(prefix, settings)
    return settings, G, moments, describe(prefix, G, moments, settings)


def make(
    trained: tuple,
    new: str,
    paths: dict[str, tuple[list[str] | None, str]],
    out_dir: str,
) -> None:
    """Write and verify artefacts and the report.

    Args:
      trained: as `read` returns it.
      new: the folder to write to.
      paths: as `artefacts` returns them.
      out_dir: the folder to name in the log.
    """
    from specgan_tf.cli.settings import griffin_lim
    from specgan_tf.export import tflite, verify
    from specgan_tf.export.onnx_graph import save_onnx
    from specgan_tf.export.saved_model import save_saved_model

    settings, G, moments, about = trained
    inversion = griffin_lim(settings)
    reference = verify.Reference(G, moments, inversion)
    rows, pictures = [], [("Keras", reference.G_z_norm)]
    with tflite.converting(G, moments, inversion, about) as convert:
        for path, (signatures, weights) in paths.items():
            made = os.path.join(new, path)
            if signatures is None:
                os.makedirs(os.path.dirname(made))
                rate = settings.data_sample_rate
                save_saved_model(G, moments, made, inversion, rate, about)
            elif path.endswith(".onnx"):
                (signature,) = signatures
                save_onnx(G, moments, made, signature, inversion, about)
            else:
                convert(made, signatures, weights)
            try:
                numbers, spectrograms = reference.compare(made, weights)
            except verify.ExportError as e:
                raise verify.ExportError(f"{path}: {e}. Nothing was written") from None
            rows += [(path, signature, row) for signature, row in numbers.items()]
            if spectrograms is not None:
                pictures.append((path, spectrograms))
            worst = min(row.get("spectrogram, SNR dB", 999) for row in numbers.values())
            worst = f", spectrogram SNR against Keras: {worst:.0f} dB" * (worst < 999)
            log.info(
                "%s: %.2f MB%s",
                os.path.join(out_dir, path),
                verify.size(made) / 1e6,
                worst,
            )
    verify.write_report(new, about, inversion.ngl, rows, pictures)


def describe(
    prefix: str, G: "SpecGANGenerator", moments: "Moments", settings: Settings
) -> dict[str, Any]:
    """What users of an artefact may want to know about it, as JSON can hold it."""
    import keras
    import tensorflow as tf

    import specgan_tf
    from specgan_tf.weights import checkpoint

    arrays = moments.mean.tobytes() + moments.std.tobytes()
    return {
        "name": "specgan",
        "step": checkpoint.step_of(prefix),
        "sample_rate": settings.data_sample_rate,
        "ngl": settings.specgan_ngl,
        "gl_window": settings.specgan_gl_window,
        "gl_momentum": settings.specgan_gl_momentum,
        **moments.analysis,
        "latent_dim": G.latent_dim,
        "slice_len": G.slice_len,
        "kernel_len": G.kernel_len,
        "dim": G.dim,
        "use_batchnorm": G.use_batchnorm,
        "upsample": G.upsample,
        "parameters": G.count_params(),
        "moments_sha256": hashlib.sha256(arrays).hexdigest(),
        "specgan_tf": specgan_tf.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.out_dir:
        parser.require_no_file(args.out_dir)
    return run(parser.prog, lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
