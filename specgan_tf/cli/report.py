"""The mode report: a training folder on one page."""

import logging
import os

from specgan_tf import report
from specgan_tf.cli.data import decoding, find_files, slicing
from specgan_tf.cli.flags import FLAGS, RECORDED, Settings
from specgan_tf.cli.settings import griffin_lim, upsample_of
from specgan_tf.errors import InputError
from specgan_tf.files import require_folder
from specgan_tf.report import gather
from specgan_tf.weights import folders
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")


def run_report(args: Settings) -> None:
    """Write report.html: curves, sounds, health, data and settings on one page."""
    require_folder(args.train_dir, "train_dir ")
    fp = args.report_fp or os.path.join(args.train_dir, "report.html")
    report.check_replaceable(fp)  # before the work
    try:
        fps = find_files(args)
        prefix = folders.latest(args.train_dir)
        lengths = Checkpoint.open(prefix).data.get("lengths") if prefix else None
        folder = os.path.dirname(fps[0]) if args.data_dir is None else args.data_dir
        sounds = gather.read_sounds(folder, fps, decoding(args), slicing(args), lengths)
    except (InputError, OSError) as e:
        log.warning("The report has no real sounds: %s", e)
        sounds = str(e)
    settings = [
        (name, getattr(args, name), getattr(args, name) == FLAGS[name].default)
        for name in sorted(RECORDED)
    ]
    training = gather.Training(
        args.train_dir,
        settings,
        sounds,
        args.report_n,
        griffin_lim(args),
        upsample_of(args),
        args.data_moments_fp,
    )
    report.write(fp, training)
    log.info("Wrote %s (%.1f MB)", fp, os.path.getsize(fp) / 1e6)
