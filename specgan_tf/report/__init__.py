"""What a training folder says, as one HTML file: curves, sounds, health, settings.

It takes the folder as it is. What is not there (summaries, previews, data, a
checkpoint) is said where it would be.
"""

import logging
import os

from specgan_tf.files import InputError, replacing
from specgan_tf.report import page, sections

GENERATOR = "specgan_tf report"

log = logging.getLogger("specgan_tf")


# What was recorded


# The sounds


# All of it


# The page


def write(fp, training):
    """Write the report of a `Training`; an earlier one at `fp` is replaced.

    Raises:
      InputError: anything else is at `fp`.
    """
    check_replaceable(fp)
    found = [
        sections.header(training),
        page.section("Health", *sections.of_health(training)),
        page.section("Curves", *sections.of_curves(training)),
        page.section("Spectrograms over time", *sections.of_time(training)),
        page.section("Listen", *sections.of_clips(training)),
        page.section("Scores", *sections.of_scores(training)),
        page.section("Data", *sections.of_data(training)),
        page.section("Settings", *sections.of_settings(training)),
        page.section("Versions", page.table(sections.versions())),
    ]
    with replacing(fp) as f:
        title = f"SpecGAN: {sections.name_of(training.folder)}"
        f.write(page.page(title, GENERATOR, *found))


def check_replaceable(fp):
    """Refuse to write over what is not an earlier report, or into no folder."""
    folder = os.path.dirname(os.path.abspath(fp))
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not a folder; choose another --report_fp")
    if os.path.isdir(fp):
        raise InputError(f"{fp} is a folder; name a file with --report_fp")
    if os.path.exists(fp):
        with open(fp, "rb") as f:
            if f'name="generator" content="{GENERATOR}"'.encode() not in f.read(2000):
                raise InputError(f"{fp} is not a report; name another with --report_fp")
