"""One HTML page that needs nothing else: elements, charts, sounds and pictures in it.

Text is escaped by construction: what is not `Markup`, which `element` makes, cannot
become any. There is no script, and a policy that forbids everything the page does not
hold itself.
"""

import base64
import hashlib
import html
import io
import itertools
import math

import numpy as np

POINTS = 300  # of a line; more are averaged, with a band from the least to the largest
WIDTH, HEIGHT = 460, 230  # of a chart, and its margins
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 34, 40
EMPTY = {"meta", "link", "img"}  # of those used here

STYLE = """
:root { color-scheme: light dark; --ground: #fbfbf9; --text: #1d1d1b; --faint: #6b6b66;
  --rule: #dcdcd6; --card: #ffffff; --a: #0b6bcb; --b: #c2410c; --warn: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --ground: #16171a; --text: #e8e8e4;
  --faint: #9c9c96; --rule: #34353a; --card: #1e1f23; --a: #6cb2ff; --b: #ff9d66;
  --warn: #ffb38a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(0.8rem, 3vw, 2rem) 3rem; max-width: 78rem;
  background: var(--ground); color: var(--text); line-height: 1.5;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 0.2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; padding-top: 0.6rem;
  border-top: 1px solid var(--rule); }
p, ul { margin: 0.3rem 0 0.8rem; max-width: 46rem; }
ul { padding-left: 1.2rem; }
.faint, figcaption { color: var(--faint); font-size: 0.875rem; }
.sign strong { color: var(--warn); }
.grid { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; padding: 0.6rem; background: var(--card); min-width: 0;
  border: 1px solid var(--rule); border-radius: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--text); font: 14px system-ui, sans-serif; }
svg .title { font-weight: 600; font-size: 15px; }
svg .tick { fill: var(--faint); font-size: 13px; }
svg .rule { stroke: var(--rule); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .a { stroke: var(--a); } svg .b { stroke: var(--b); }
svg text.a { fill: var(--a); stroke: none; }
svg text.b { fill: var(--b); stroke: none; }
svg .band { opacity: 0.2; stroke: none; }
svg .band.a { fill: var(--a); } svg .band.b { fill: var(--b); }
.steps { display: flex; gap: 4px; }
.step { flex: 1 1 0; min-width: 0; max-width: 9rem; display: grid; gap: 4px; }
.step span { color: var(--faint); font-size: 0.8rem; text-align: center; }
img { display: block; width: 100%; height: auto; aspect-ratio: 1; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.6rem; }
.clip { min-width: 0; } .clip img { max-width: 16rem; }
audio { display: block; width: 100%; height: 2.2rem; margin: 0.3rem 0; }
@media (max-width: 34rem) {
  .pair, .grid.small { grid-template-columns: 1fr; }
  .clip { display: grid; grid-template-columns: 6rem 1fr; column-gap: 0.6rem; }
  .clip img { grid-row: 1 / 3; }
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { text-align: left; padding: 0.15rem 1rem 0.15rem 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
td:first-child, th { white-space: nowrap; }
th { font-weight: 600; }
.scroll + .grid, .scroll + details { margin-top: 0.8rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: var(--faint); }
"""


class Markup(str):
    """Text that is HTML already."""


def element(name, /, *children, **attributes):
    """<name attributes>children</name>; children and values are escaped.

    Args:
      children: text, `Markup`, or None.
      attributes: None leaves one out; `class_` is class, `http_equiv` http-equiv.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in EMPTY:
        return Markup(f"<{name}{said}>")
    inside = (c if isinstance(c, Markup) else html.escape(text(c)) for c in children)
    return Markup(f"<{name}{said}>{''.join(inside)}</{name}>")


def join(parts):
    """`Markup` of many."""
    return Markup("\n".join(parts))


def text(value):
    """As text that any UTF-8 file can hold: file names may be any bytes."""
    if value is None:
        return ""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def page(title, generator, *sections):
    """The whole document, as bytes."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="generator", content=generator),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element("body", *sections)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n".encode()


def section(title, *children):
    return element("section", element("h2", title), *children)


def table(rows, head=None):
    """Rows of cells; numbers are set as numbers."""

    def cell(value):
        if isinstance(value, float):
            value, kind = f"{value:.4g}", "number"
        else:
            kind = "number" if isinstance(value, int) else None
        return element("td", value, class_=kind)

    lines = (
        [element("tr", *(element("th", c, scope="col") for c in head))] if head else []
    )
    lines += [element("tr", *map(cell, row)) for row in rows]
    return element("div", element("table", *lines), class_="scroll")


def png(image, alt):
    """uint8 [h, w, 1] as a picture."""
    import tensorflow as tf

    return _embedded("img", "image/png", tf.io.encode_png(image).numpy(), alt=alt)


def wav(samples, sample_rate, label):
    """int16 [n, 1] as a player."""
    from scipy.io import wavfile

    encoded = io.BytesIO()
    wavfile.write(encoded, sample_rate, np.asarray(samples))
    attributes = {"controls": "", "preload": "metadata", "aria_label": label}
    return _embedded("audio", "audio/wav", encoded.getvalue(), **attributes)


def _embedded(name, /, kind, data, **attributes):
    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return element(name, src=uri, **attributes)


# Charts


def chart(title, lines, x_label="step", bands=()):
    """A line chart as SVG; None if there is nothing to draw.

    Args:
      lines: [(name, xs, ys)], two at most; what is not finite is a gap.
      bands: [(xs, low, high)], as many as lines or none.
    """
    lines = [(name, *map(np.asarray, xy)) for name, *xy in lines if len(xy[0])]
    finite = [ys[np.isfinite(ys)] for _, _, ys in lines]
    finite = [np.asarray(ys, float) for ys in finite if len(ys)]
    if not finite:
        return None
    thin = [_thinned(xs, ys) for _, xs, ys in lines]
    bands = [*bands] or [(xs, low, high) for xs, _, low, high in thin]
    every = np.concatenate(
        [*finite, *(b[np.isfinite(b)] for _, *lh in bands for b in lh)]
    )
    x_ticks, y_ticks = (
        ticks(min(xs[0] for _, xs, _ in lines), max(xs[-1] for _, xs, _ in lines)),
        ticks(*_range(every)),
    )
    x0, x1 = (f(xs[i] for _, xs, _ in lines) for f, i in ((min, 0), (max, -1)))
    y0, y1 = y_ticks[0], y_ticks[-1]

    def x_of(x):
        return LEFT + (x - x0) / max(x1 - x0, 1e-12) * (WIDTH - LEFT - RIGHT)

    def y_of(y):
        y = np.clip(y, y0, y1)  # a spike is cut at the edge
        return TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [element("text", title, x=4, y=15, class_="title")]
    for i, (name, _, _) in enumerate(lines if len(lines) > 1 else []):
        at = WIDTH - RIGHT - 92 * (len(lines) - 1 - i)
        where = {"x": at, "y": 15, "text_anchor": "end"}
        parts.append(element("text", name, class_="ab"[i], **where))
    for y in y_ticks:
        at = f"{y_of(y):.1f}"
        rule = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}
        parts.append(element("line", class_="rule", **rule))
        where = {"x": LEFT - 6, "y": f"{y_of(y) + 4:.1f}", "text_anchor": "end"}
        parts.append(element("text", number(y), class_="tick", **where))
    for x in x_ticks:
        if x0 <= x <= x1:
            where = {"x": f"{x_of(x):.1f}", "y": HEIGHT - 22, "text_anchor": "middle"}
            parts.append(element("text", number(x), class_="tick", **where))
    where = {"x": WIDTH - RIGHT, "y": HEIGHT - 5, "text_anchor": "end"}
    parts.append(element("text", x_label, class_="tick", **where))
    for kind, (xs, low, high) in zip("ab", bands, strict=False):
        corners = [*zip(xs, high, strict=True), *zip(xs[::-1], low[::-1], strict=True)]
        if np.isfinite(np.concatenate([low, high])).all() and np.any(high > low):
            points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in corners)
            parts.append(element("polygon", points=points, class_=f"band {kind}"))
    for kind, (xs, ys, _, _) in zip("ab", thin, strict=False):
        parts.append(
            element("path", d=_path(x_of(xs), ys, y_of), class_=f"curve {kind}")
        )
    label = f"{title}: " + ", ".join(
        f"{name} from {ys[0]:.3g} to {ys[-1]:.3g}" for name, _, ys in lines
    )
    box = f"0 0 {WIDTH} {HEIGHT}"
    return element(
        "figure", element("svg", *parts, viewBox=box, role="img", aria_label=label)
    )


def _path(xs, ys, y_of):
    """Through all that is finite; a single point is a short stroke."""
    said = []
    for finite, group in itertools.groupby(
        zip(xs, ys, strict=True), lambda p: np.isfinite(p[1])
    ):
        points = [f"{x:.1f} {y_of(y):.1f}" for x, y in group] if finite else []
        if points:
            said.append(f"M{' L'.join(points)}" + "h2" * (len(points) == 1))
    return "".join(said)


def _thinned(xs, ys):
    """(xs, means, least, largest) of at most POINTS buckets."""
    xs, ys = np.asarray(xs, float), np.asarray(ys, float)
    parts = np.array_split(np.arange(len(xs)), min(POINTS, len(xs)))
    xs = np.array([xs[p].mean() for p in parts])
    return xs, *(np.array([f(ys[p]) for p in parts]) for f in (np.mean, np.min, np.max))


def _range(values):
    """Of a y axis: all values, or all but a hundredth that would flatten the rest."""
    low, high = values.min(), values.max()
    inner = np.percentile(values, [1, 99])
    if high - low > 4 * (inner[1] - inner[0]) > 0:
        low, high = inner
    return (
        (low, high)
        if high > low
        else (low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5)
    )


def ticks(low, high, about=4):
    """Round numbers from at most `low` to at least `high`."""
    if high <= low:
        return [float(low)]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value):
    """Short, as at a tick: 12000 is 12k."""
    value = float(f"{value:.6g}")
    for size, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= size:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"
