"""The command `python train_specgan.py`, and what every command does around its work.

TensorFlow starts without its greetings, and a user's mistake is one line."""

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from specgan_tf.cli.flags import FLAGS, Settings, make_parser
from specgan_tf.cli.help import help_of, overview
from specgan_tf.cli.modes import ARGUMENTS, MODES
from specgan_tf.cli.parser import Parser

START = """SpecGAN learns to make one-second sounds from a folder of sounds:

  python train_specgan.py generate
      makes drum sounds with a small bundled model; "digits" makes spoken digits
  python train_specgan.py train ./train --specgan_dim 16 --train_batch_size 16
      learns from the embedded drum sounds, or your own: --data_dir FOLDER;
      Ctrl-C saves and ends, the same command continues
  python train_specgan.py generate ./train
      makes new sounds: WAV files and a picture of their spectrograms
  python export.py ./train
      writes a SavedModel and .tflite files, to make sound elsewhere

The flags of a mode: python train_specgan.py generate --help
The modes:           python train_specgan.py --help"""

log = logging.getLogger("specgan_tf")


def import_tensorflow() -> None:
    """Import TensorFlow with fast kernels and without its greetings on stderr.

    Keras is set up as the scripts need it, whatever the environment or a keras.json
    says.
    """
    # Off by default on CPUs without AVX-512, where they halve the time of a step.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(KERAS_BACKEND="tensorflow", TF_USE_LEGACY_KERAS="0")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as greetings:
        os.dup2(greetings.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            tf.config.list_physical_devices()
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy("float32")
            keras.config.set_image_data_format("channels_last")
        except Exception:
            os.dup2(stderr, 2)
            greetings.seek(0)
            os.write(2, greetings.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run(prog: str, job: Callable[[], None]) -> int:
    """Call `job`, and print a user's mistake as one line. Returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # file names may be any bytes
        stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    logging.raiseExceptions = False  # stdout may be closed early, as by | head
    log.setLevel(logging.INFO)
    try:
        import_tensorflow()
        job()
    except KeyboardInterrupt:
        print("\nInterrupted", file=sys.stderr)
        return 130
    except FloatingPointError as e:
        print(f"{prog}: error: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        print(f"{prog}: error: {e.strerror or e}{where}", file=sys.stderr)
        return 2
    except ValueError as e:
        from specgan_tf.errors import InputError

        if not isinstance(e, InputError):
            raise
        print(f"{prog}: error: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        import tensorflow as tf

        if not isinstance(e, tf.errors.ResourceExhaustedError):
            raise
        small = "a smaller --specgan_dim or --train_batch_size"
        print(f"{prog}: error: out of memory: try {small}", file=sys.stderr)
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(START)
        return 0
    parser = make_parser()
    if {"-h", "--help"} & {*argv}:
        mode = next((word for word in argv if word in MODES), None)
        print(help_of(mode) if mode else overview(parser.prog), end="")
        return 0
    given = vars(parser.parse_args(argv))
    folders = [name.strip("[]") for name in ARGUMENTS[given["mode"]]]
    if (len(folders) == 2) != ("out_dir" in given):
        takes = " and ".join(folders) if len(folders) == 2 else "TRAIN_DIR alone"
        if os.path.isfile(file := given.get("out_dir", "")):
            takes += f", not {file} too. --data_dir takes a folder, not files"
        parser.error(f"{given['mode']} takes {takes}")
    if "train_dir" not in given and "[TRAIN_DIR]" not in ARGUMENTS[given["mode"]]:
        parser.error("the following arguments are required: train_dir")
    if "shard" in given and given["mode"] != "moments":
        parser.error("--shard belongs to the mode moments")
    check_generate(parser, given)
    for name in ("out_dir", "generate_dir", "data_cache"):  # before TensorFlow
        if name in given and given[name] != "memory":
            parser.require_no_file(given[name])
    return run(parser.prog, lambda: start(given))


def check_generate(parser: Parser, given: dict[str, Any]) -> None:
    """Refuse flags of generate in other modes, and those that contradict each other."""
    names = "interpolate", "walk", "grid", "truncation", "generate_format", "normalize"
    for name in names:
        if name in given and given["mode"] != "generate":
            parser.error(f"--{name} belongs to the mode generate")
    if "grid" in given and "generate_n" in given:
        parser.error("--grid sets the number of clips: leave --generate_n out")
    if "interpolate" in given and given.get("generate_n") == 1:
        parser.error("--interpolate needs a --generate_n of at least 2")


def start(given: dict[str, Any]) -> None:
    """Run the mode with its settings.

    TensorFlow has to know its workers before a checkpoint is read for the settings.
    """
    from specgan_tf.cli.settings import STRUCTURE, resolve_settings

    if given["mode"] == "train":
        from specgan_tf import distribute

        given["strategy"] = distribute.create(given.get("train_distribute", "none"))
    args = resolve_settings(given)
    # The reference takes every flag in every mode. The flags in STRUCTURE are used in
    # every mode: they were compared with the checkpoint.
    unused = [
        f"--{name}"
        for name in given
        if name in FLAGS.keys() - STRUCTURE and given["mode"] not in FLAGS[name].modes
    ]
    if unused:
        log.info("%s does not use %s", given["mode"], ", ".join(unused))
    function_of(given["mode"])(args)


def function_of(mode: str) -> Callable[[Settings], None]:
    """The function of a mode; its module is imported after TensorFlow is set up."""
    module = importlib.import_module(f"specgan_tf.cli.{MODES[mode]}")
    return getattr(module, f"run_{mode}")


if __name__ == "__main__":
    sys.exit(main())
