"""The command; the package's docstring describes it."""

import argparse
import dataclasses
import json
import os
import sys
import tempfile

# As losses.LOSSES and specgan.UPSAMPLES, without TensorFlow: --help is quick.
LOSSES = "dcgan", "lsgan", "wgan", "wgan-gp"
UPSAMPLES = "zeros", "nn", "lin", "cub"


def share(text: str) -> tuple[int, int]:
    """An argparse type: I/N -> (i, n)."""
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"must be I/N, as 1/2. Received: {text!r}")
    return i, n


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog="python -m specgan_tf.crosscheck",
        description="Compare this package with the reference, stage by stage.",
    )
    p.add_argument(
        "--goldens", help="folder of records to replay (default: tests/goldens)"
    )
    p.add_argument("--json", help="write every check, and versions, to this file")
    live = p.add_argument_group("to run the reference itself")
    live.add_argument("--original", help="a checkout of chrisdonahue/wavegan 40e85e8")
    live.add_argument(
        "--python", help="a Python with TensorFlow 1.12 and librosa 0.6.2"
    )
    live.add_argument(
        "--all",
        action="store_true",
        help="compare all losses, with and without batch norm, every upsampling, and "
        "kernels of 3 to 7",
    )
    live.add_argument(
        "--share",
        type=share,
        default=(1, 1),
        help="the I-th of N parts of --all, for several processes at once, as 1/2",
    )
    live.add_argument("--seed", type=int, default=0, help="seed for weights and inputs")
    live.add_argument("--dim", type=int, default=2)
    live.add_argument("--kernel_len", type=int, default=5)
    live.add_argument("--latent_dim", type=int, default=100)
    live.add_argument(
        "--batchnorm", action=argparse.BooleanOptionalAction, default=False
    )
    live.add_argument("--upsample", choices=UPSAMPLES, default="zeros")
    live.add_argument("--loss", choices=LOSSES, default="wgan-gp")
    args = p.parse_args(argv)
    if bool(args.original) != bool(args.python):
        p.error("--original and --python need each other")
    if args.all and not args.original:
        p.error("--all needs --original and --python")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the checks that the flags select, and print them. Returns the exit status."""
    args = parse(argv)
    import tensorflow as tf

    from specgan_tf.errors import InputError

    # TensorFlow would warn that each record has its own tf.function.
    tf.get_logger().setLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory(prefix="crosscheck-") as folder:
            return check_all(args, folder)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


def check_all(args: argparse.Namespace, folder: str) -> int:
    """`main`, with a temporary folder for the reference's records."""
    from specgan_tf.crosscheck.matrix import (
        COMMIT,
        Cell,
        check_commit,
        compute,
        every_cell,
        inputs,
    )
    from specgan_tf.crosscheck.records import GOLDENS
    from specgan_tf.crosscheck.replay import load, run
    from specgan_tf.crosscheck.table import table, write_json

    records, reference = args.goldens or GOLDENS, {"commit": COMMIT}
    if args.original:
        check_commit(args.original)
        fields = [field.name for field in dataclasses.fields(Cell)]
        cell = Cell(**{name: getattr(args, name) for name in fields})
        cells = every_cell(cell) if args.all else [cell]
        share, shares = args.share
        cells = cells[len(cells) * (share - 1) // shares : len(cells) * share // shares]
        records = inputs(cells, args.seed, os.path.join(folder, "in"))
        records = compute(args.original, args.python, records, folder)
        with open(os.path.join(records, "versions.json")) as f:
            reference |= json.load(f)
    checks = []
    for check in run(load(records)):
        checks.append(check)
        if check.verdict == "FAIL":
            where = f"{check.record}: {check.stage}, {check.what}"
            print(f"exceeds its bound: {where}", file=sys.stderr)
    print("\n".join(table(checks)))
    if args.json:
        write_json(args.json, checks, reference)
    failed = sum(c.verdict == "FAIL" for c in checks)
    count = len({c.record for c in checks})
    print(f"{len(checks)} checks of {count} records, {failed} exceed their bound")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
