"""A training folder as one HTML page: verdict, sounds, curves, settings.

The page shows the folder as it is, and says where something is missing (summaries,
previews, data, a checkpoint). It needs no network and contains no script; its content
security policy forbids everything that it does not contain.
"""

import base64
import datetime
import hashlib
import os

import jinja2
from markupsafe import Markup

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing, require_folder
from specgan_tf.report import charts, gather, sections

GENERATOR = "specgan_tf report"
HERE = os.path.dirname(__file__)

with open(os.path.join(HERE, "style.css"), encoding="utf-8") as f:
    STYLE = f.read()
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals["charts"] = charts


def write(fp: StrPath, training: gather.Training) -> None:
    """Write the report of a training to `fp`; it replaces an earlier report there.

    Raises:
      InputError: `fp` is something other than a report, or its folder does not exist.
    """
    check_replaceable(fp)
    html = TEMPLATES.get_template("template.html").render(
        t=training,
        s=sections,
        generator=GENERATOR,
        name=os.path.basename(os.path.abspath(training.folder)),
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        style=Markup(STYLE),
        digest=base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode(),
        has_args=os.path.isfile(os.path.join(training.folder, "args.txt")),
    )
    with replacing(fp) as f:
        # File names may be any bytes, which Python holds as lone surrogates.
        f.write(html.encode("utf-8", "backslashreplace"))


def check_replaceable(fp: StrPath) -> None:
    """Raise InputError unless `fp` is free, or an earlier report, in a folder."""
    folder = os.path.dirname(os.path.abspath(fp))
    require_folder(folder, hint="; choose another --report_fp")
    if os.path.isdir(fp):
        raise InputError(f"{fp} is a folder; name a file with --report_fp")
    if os.path.exists(fp):
        with open(fp, "rb") as f:
            if f'name="generator" content="{GENERATOR}"'.encode() not in f.read(2000):
                raise InputError(f"{fp} is not a report; name another with --report_fp")
