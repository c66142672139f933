"""The part of a document that a benchmark writes: what lies between its two marks."""

import os

from specgan_tf.errors import InputError
from specgan_tf.files import replacing


def marks(name):
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def around(document, name):
    """The text before and after the section `name`; a new one goes to the end.

    Raises:
      InputError: a mark is missing, or occurs twice.
    """
    begin, end = marks(name)
    if not os.path.exists(document):
        return "# Sounds\n\n", ""
    with open(document, encoding="utf-8") as f:
        old = f.read()
    if begin not in old and end not in old:
        return f"{old.rstrip()}\n\n", ""
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    if old.count(begin) != 1 or rest.count(end) != 1 or old.count(end) != 1:
        raise InputError(f"{document} must hold {begin} and then {end}, once each")
    return before, after.removeprefix("\n")


def write(document, name, text):
    """Replace the section `name` by `text`."""
    before, after = around(document, name)
    begin, end = marks(name)
    with replacing(document, "w") as f:
        f.write(f"{before}{begin}\n{text.rstrip()}\n{end}\n{after}")
