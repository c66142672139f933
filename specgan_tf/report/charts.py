"""Line charts as coordinates, which template.html draws as SVG."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

POINTS = 300  # per line; more are averaged, with a band from minimum to maximum
WIDTH, HEIGHT = 460, 216  # of a chart, and its margins
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 34, 40


@dataclasses.dataclass
class Chart:
    """One chart; coordinates are pixels of a WIDTH x HEIGHT picture."""

    title: str
    label: str  # the chart in words, for screen readers
    note: str  # the sentence below it
    x_label: str
    lines: list[tuple[str, str]]  # (name, the SVG path's attribute d)
    bands: list[str]  # an SVG polygon's points, or "", for each line
    x_ticks: list[tuple[float, str]]  # (pixel, text)
    y_ticks: list[tuple[float, str]]


def chart(
    title: str,
    lines: Sequence[tuple],
    note: str = "",
    x_label: str = "step",
    bands: Sequence[tuple] = (),
    x_range: tuple[float, float] | None = None,
    include: Sequence[float] = (),
) -> Chart | None:
    """A `Chart`, or None if there is nothing to draw.

    Args:
      lines: [(name, xs, ys)], at most two; values that are not finite are gaps.
      bands: [(xs, low, high)], one per line; without them the range of averaged points.
      x_range: (first, last) of the x axis, so that charts can share it.
      include: values that the y axis must reach, such as 0 and 1 for a share.
    """
    lines = [(name, *map(np.asarray, xy)) for name, *xy in lines if len(xy[0])]
    finite = [np.asarray(ys[np.isfinite(ys)], float) for _, _, ys in lines]
    finite = [ys for ys in finite if len(ys)]
    if not finite:
        return None
    thin = [_thinned(xs, ys) for _, xs, ys in lines]
    bands = [*bands] or [(xs, low, high) for xs, _, low, high in thin]
    edges = [b[np.isfinite(b)] for _, *low_high in bands for b in low_high]
    low, high = _range(np.concatenate([*finite, *edges]))
    y_ticks = ticks(min(low, *include, high), max(high, *include, low))
    y0, y1 = y_ticks[0], y_ticks[-1]
    x0, x1 = x_range or (
        min(xs[0] for _, xs, _ in lines),
        max(xs[-1] for _, xs, _ in lines),
    )

    def x_of(x):
        return LEFT + (x - x0) / max(x1 - x0, 1e-12) * (WIDTH - LEFT - RIGHT)

    def y_of(y):
        y = np.clip(y, y0, y1)  # spikes are cut off at the edge
        return TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    ends = [f"{name} from {ys[0]:.3g} to {ys[-1]:.3g}" for name, _, ys in lines]
    names = [name for name, _, _ in lines]
    paths = [_path(x_of(xs), ys, y_of) for xs, ys, _, _ in thin]
    return Chart(
        title,
        f"{title}: {', '.join(ends)}",
        note,
        x_label,
        [*zip(names, paths, strict=True)],
        [_polygon(*band, x_of, y_of) for band in bands],
        [(x_of(x), number(x)) for x in ticks(x0, x1) if x0 <= x <= x1],
        [(y_of(y), number(y)) for y in y_ticks],
    )


def _polygon(xs, low, high, x_of, y_of):
    """The points of a band's outline; "" if it is not finite or has no height."""
    if not np.isfinite(np.concatenate([low, high])).all() or not np.any(high > low):
        return ""
    corners = [*zip(xs, high, strict=True), *zip(xs[::-1], low[::-1], strict=True)]
    return " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in corners)


def _path(xs, ys, y_of):
    """A path through the finite points; a single point is a short stroke."""
    strokes = []
    for finite, group in itertools.groupby(
        zip(xs, ys, strict=True), lambda p: np.isfinite(p[1])
    ):
        points = [f"{x:.1f} {y_of(y):.1f}" for x, y in group] if finite else []
        if points:
            strokes.append(f"M{' L'.join(points)}" + "h2" * (len(points) == 1))
    return "".join(strokes)


def _thinned(xs, ys):
    """(xs, means, minima, maxima) of at most POINTS groups of points."""
    xs, ys = np.asarray(xs, float), np.asarray(ys, float)
    parts = np.array_split(np.arange(len(xs)), min(POINTS, len(xs)))
    xs = np.array([xs[p].mean() for p in parts])
    return xs, *(np.array([f(ys[p]) for p in parts]) for f in (np.mean, np.min, np.max))


def _range(values):
    """A y axis' range: all values, without the extreme 2% if they flatten the rest."""
    low, high = values.min(), values.max()
    inner = np.percentile(values, [1, 99])
    if high - low > 4 * (inner[1] - inner[0]) > 0:
        low, high = inner
    if high > low:
        return low, high
    return low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """About `about` round numbers, from at most `low` to at least `high`."""
    if high <= low:
        return [float(low)]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A short form for ticks: 12000 is 12k."""
    value = float(f"{value:.6g}")
    for size, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= size:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"
