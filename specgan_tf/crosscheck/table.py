"""Checks as a table, and as JSON."""

import json
import math
import platform
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from specgan_tf.crosscheck.records import Check
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing


def rows(checks: Iterable[Check]) -> Iterator[tuple[str, ...]]:
    """Yield a table's head, and a row per comparison with the worst of all records."""
    groups = {}
    for c in checks:
        groups.setdefault((c.stage, c.lines, c.what), []).append(c)
    heads = "stage", "reference", "compared", "of", "max abs", "max rel"
    yield *heads, "judged", "error", "bound", "verdict"
    for (stage, where, what), group in groups.items():
        worst = max(group, key=lambda c: (c.verdict == "FAIL", _share(c)))
        absolute, relative = (
            max(
                (getattr(c, k) for c in group if getattr(c, k) is not None),
                default=None,
            )
            for k in ("absolute", "relative")
        )
        numbers = [_short(n) for n in (absolute, relative)]
        judged = worst.by, _short(worst.error), _short(worst.bound), worst.verdict
        yield stage, where, what, str(len(group)), *numbers, *judged


def table(checks: Iterable[Check]) -> Iterator[str]:
    """`rows` as lines of text."""
    lines = list(rows(checks))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = {3, 4, 5, 7, 8}
    for line in lines:
        cells = (
            text.rjust(w) if i in right else text.ljust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _share(c):
    """The error as a share of its bound."""
    return c.error / c.bound if c.bound else c.error


def _short(number):
    return "-" if number is None or math.isnan(number) else f"{number:.2g}"


def write_json(path: StrPath, checks: Iterable[Check], reference: dict) -> None:
    def plain(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    rows = [
        {k: plain(v) for k, v in (vars(c) | {"verdict": c.verdict}).items()}
        for c in checks
    ]
    ours = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    content = {"versions": ours, "reference": reference, "checks": rows}
    try:
        with replacing(path, "w") as f:
            json.dump(content, f, indent=1)
            f.write("\n")
    except OSError as e:
        raise InputError(f"{path} cannot be written: {e.strerror}") from None
