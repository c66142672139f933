"""Put models beside the page, and the list of its menu.

    python demo/web/gather.py drums=demo_out/drums/synthesize.f32.tflite ...

Each is a name and a file that makes sound by itself, synthesize.f32.tflite; the page
opens the first one, and loads another when it is chosen. They are copied to
demo/web/model/NAME.tflite, in place of those before.
"""

import argparse
import json
import os
import re
import shutil
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model")


def entry(text):
    name, _, path = text.partition("=")
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII) or not path:
        raise argparse.ArgumentTypeError(
            "must be NAME=FILE, the name of letters, digits and ._-. "
            f"Received: {text!r}"
        )
    if not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"{path} is not there: export.py writes it")
    return name, path


def gather(models, folder):
    """Copy (name, path) pairs into `folder`, and write its models.json."""
    os.makedirs(folder, exist_ok=True)
    listed = []
    for name, path in models:
        file = f"{name}.tflite"
        replace(
            os.path.join(folder, file), lambda new, path=path: shutil.copy(path, new)
        )
        listed.append({"name": name, "file": file})

    def write(new):
        with open(new, "w") as f:
            json.dump(listed, f)

    replace(os.path.join(folder, "models.json"), write)


def replace(path, write):
    """Write a new file beside `path` and rename it: a page may be reading the old."""
    new = path + ".new"
    write(new)
    os.replace(new, path)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("models", nargs="+", type=entry, metavar="NAME=FILE")
    models = p.parse_args(argv).models
    if len({name for name, _ in models}) < len(models):
        p.error("each name can be given once")
    gather(models, FOLDER)


if __name__ == "__main__":
    sys.exit(main())
