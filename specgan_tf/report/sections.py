"""The sections of a report: from a `Training` to plain values for template.html."""

import base64
import collections
import io
import os
import platform
from collections.abc import Iterable
from importlib import metadata

import numpy as np

import specgan_tf
from specgan_tf import sheet, spectral
from specgan_tf.eval import comparison, health
from specgan_tf.report import gather
from specgan_tf.report.charts import Chart, chart
from specgan_tf.report.gather import Training

STEPS, LATENTS = 8, 4  # in spectrograms over time
NAMED = 10  # skipped files to name


# Health


def verdict(t: Training) -> dict:
    """{kind: "good", "bad" or "early"; headline; signs; note}"""
    signs = health.of_training(t.loss, t.series)
    judged = [] if health.is_early(t.series) else ["losses"]
    if t.made and t.step >= health.LATE:
        judged.append("sounds")
        real = t.sounds.clips if t.has_sounds else []
        signs += health.of_clips(t.step, real, t.made["G_z"])
        if t.near:
            signs += filter(None, [health.overfitting(t.near[1], t.apart)])
    note, kind = "", "bad"
    if signs:
        headline = f"Trouble: {', '.join(sign.name for sign in signs)}"
    elif judged:
        kind, headline = "good", f"No sign of trouble in the {' or '.join(judged)}"
    else:
        kind, headline = "early", "Too early to tell"
        note = (
            f"Losses are judged by {health.ENOUGH} summaries from step {health.EARLY} "
            f"on, sounds from step {health.LATE} on."
        )
    return {"kind": kind, "headline": headline, "signs": signs, "note": note}


# Sounds


def listen(t: Training) -> dict:
    """{missing, near, pairs, real}: generated clips, nearest real ones, more real ones.

    A clip is {image, audio, caption}; image and audio are data URIs.
    """
    found = {"missing": t.missing, "near": "", "pairs": [], "real": []}
    if t.made is None:
        return found
    images = None
    if t.near:
        real, names = t.sounds.clips, t.sounds.names
        images = spectral.f_to_img(t.moments.t_to_f(real)).numpy()
        found["near"] = (
            "Each generated clip, and the nearest real one among "
            f"{len(real)} slices, by the distance between their log-mel spectra. The "
            f"mean distance from a real clip to the nearest other is {t.apart:.0f}."
        )
        found["real"] = [
            clip(real[j], images[j], names[j], t.sample_rate)
            for j in range(min(t.n, len(real)))
        ]
    else:
        found["near"] = f"No real sounds to compare with: {t.sounds}."
    for i, (G_z, image) in enumerate(
        zip(t.made["G_z"], t.made["G_z_norm_uint8"], strict=True)
    ):
        pair = [clip(G_z, image, f"generated {i}", t.sample_rate)]
        if t.near:
            j, distance = t.near[0][i], t.near[1][i]
            caption = f"{names[j]}, distance {distance:.0f}"
            pair.append(clip(real[j], images[j], caption, t.sample_rate))
        found["pairs"].append(pair)
    return found


def clip(x: np.ndarray, image: np.ndarray, caption: str, sample_rate: int) -> dict:
    from scipy.io import wavfile

    # A clip that is too loud is turned down, as in `generate`.
    samples = spectral.float_to_int16(spectral.turn_down(x[np.newaxis])[0])
    encoded = io.BytesIO()
    wavfile.write(encoded, sample_rate, np.asarray(samples))
    audio = data_uri("audio/wav", encoded.getvalue())
    return {"image": png(image), "audio": audio, "caption": caption}


def png(image: np.ndarray) -> str:
    return data_uri("image/png", sheet.encode_png(image))


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# Curves


CURVES = [  # title, line -> tag, values on the y axis, what the chart shows
    (
        "Losses",
        {"D_loss": "D_loss", "G_loss": "G_loss"},
        (),
        "What each network minimises. The two work against each other, so neither has "
        "to fall.",
    ),
    (
        "D(real) and D(generated)",
        {"D_x": "D_x", "D_G_z": "D_G_z"},
        (),
        "The discriminator's mean output: the closer the lines, the harder it is to "
        "tell generated sounds from real ones.",
    ),
    (
        "Their difference",
        {"D_x - D_G_z": "D_x_minus_D_G_z"},
        (0,),
        "It shrinks while the generator improves. Below 0, D rates generated sounds "
        "above real ones.",
    ),
    (
        "Diversity",
        {"diversity": "G_z_diversity"},
        (0, 1),
        "How much generated clips differ from each other: 1 is as much as real clips, "
        "0 is the same sound every time.",
    ),
    (
        "Loudness, RMS",
        {"generated": "G_z_rms", "real": "x_rms"},
        (0,),
        "Generated sounds should become as loud as real ones.",
    ),
    (
        "Slopes of D",
        {"slopes": "slopes", "penalty": "gradient_penalty"},
        (0, 1),
        "The gradient penalty keeps the slopes near 1. The penalty itself stays small.",
    ),
    (
        "Norms of gradients",
        {"D": "D_gradient_norm", "G": "G_gradient_norm"},
        (0,),
        "The size of each update's gradient. A sudden or endless climb comes before "
        "divergence.",
    ),
    (
        "Steps per second",
        {"steps/s": "steps_per_second"},
        (0,),
        "Updates of the generator, with the discriminator's updates in between.",
    ),
    (
        "Share of time waiting for data",
        {"share": "data_wait"},
        (0, 1),
        "Near 0, sounds are decoded fast enough; near 1, decoding limits training.",
    ),
]


def curves(t: Training) -> list[Chart]:
    """Charts of the summaries; all x axes go from step 0 to the last step."""
    last = max((int(steps[-1]) for steps, _ in t.series.values()), default=0)
    charts = []
    for title, tags, include, note in CURVES:
        lines = [(n, *t.series[tag]) for n, tag in tags.items() if tag in t.series]
        x_range = (0, max(last, 1))
        charts.append(chart(title, lines, note, x_range=x_range, include=include))
    return [c for c in charts if c]


# Spectrograms over time


def over_time(t: Training) -> tuple[str, list[tuple[int, list[str]]]]:
    """(source, [(step, pictures as data URIs)]): the same latents, step by step.

    The source is the previews, else the summaries, else the checkpoints.
    """
    previews = gather.read_previews(t.folder)
    if len(previews) > 1:
        source = "From the previews."
        found = {
            step: sheet.first_row(previews[step], t.frames) for step in spread(previews)
        }
    elif len(t.images) > 1:
        source = "From the summaries."
        found = {
            step: [
                im for im in map(gather.decode_png, t.images[step]) if im is not None
            ]
            for step in spread(t.images)
        }
    else:
        source = "Made with the checkpoints in the folder."
        kept = gather.find_checkpoints(t.folder)
        kept = {step: kept[step] for step in spread(kept)} if kept else {}
        found = gather.checkpoint_pictures(t.folder, kept, LATENTS, t.upsample)
    columns = [
        (step, [png(image) for image in made[:LATENTS]])
        for step, made in sorted(found.items())
        if made
    ]
    return source, columns


def spread(steps: Iterable[int], n: int = STEPS) -> list[int]:
    """At most `n` of the steps, evenly spaced, with the first and the last."""
    steps = sorted(steps)
    picked = np.linspace(0, len(steps) - 1, min(n, len(steps))).round().astype(int)
    return [steps[i] for i in picked]


# Scores


WATCHED = {"incept": "incept_mean", "frechet": "frechet_log_mel"}  # folder -> tag


def scores(t: Training) -> tuple[list, list, list[Chart]]:
    """(header, rows, charts): the scores that `score` and `incept` wrote."""
    found = gather.read_scores(t.folder)
    names = [
        n
        for n in comparison.MEASURES
        if any(n in s["generated"] for s in found.values())
    ]

    def row(title, numbers):
        values = (numbers.get(name) for name in names)
        return [title, *("" if v is None else shown(*v) for v in values)]

    rows = [
        row(f"step {step}", numbers["generated"]) for step, numbers in found.items()
    ]
    if found:
        rows.append(row("real sounds", [*found.values()][-1]["real"]))
    charts = []
    for name in names if len(found) > 1 else []:
        values = [s["generated"].get(name, (np.nan,))[0] for s in found.values()]
        charts.append(chart(comparison.MEASURES[name], [(name, [*found], values)]))
    for folder, tag in WATCHED.items():
        folder = os.path.join(t.folder, folder)
        series = gather.read_events(folder)[0] if os.path.isdir(folder) else {}
        if tag in series:
            charts.append(chart(f"{tag}, by checkpoint", [(tag, *series[tag])]))
    header = ["", *(comparison.MEASURES[name] for name in names)]
    return header, rows, [c for c in charts if c]


def shown(mean: float, std: float | None) -> str:
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


# Data


def facts(sounds: gather.Sounds, sample_rate: int) -> list[list[str]]:
    """Rows of a table about the data."""
    known = [h for h in sounds.headers if h]
    seconds = [secs for _, secs in known]
    rates = collections.Counter(rate for rate, _ in known)
    rows = [["folder", sounds.folder], ["files", f"{sounds.files}"]]
    if seconds:
        span = f"{min(seconds):.2g} to {max(seconds):.3g} s"
        rows += [
            ["total length", duration(sum(seconds))],
            ["length of a file", f"{span}, median {np.median(seconds):.2g} s"],
        ]
    counts = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(rates.items()))
    rows += [["sample rates", counts], ["trained at", f"{sample_rate} Hz"]]
    if len(sounds.headers) < sounds.files:
        rows.append(["lengths and rates: the first", f"{len(sounds.headers)} files"])
    return [*rows, ["skipped", f"{len(sounds.skipped)}"]]


def skipped(sounds: gather.Sounds) -> list[str]:
    """Lines that name unreadable files, at most NAMED of them."""
    lines = [f"{fp}: {why}" if why else fp for fp, why in sounds.skipped]
    if len(lines) > NAMED:
        lines[NAMED:] = [f"and {len(lines) - NAMED} more"]
    return lines


def duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def moments_chart(t: Training) -> Chart | None:
    if t.moments is None:
        return None
    mean, std = (m.astype(np.float64) for m in t.moments[:2])
    hertz = np.arange(len(mean)) * t.sample_rate / spectral.NFFT
    return chart(
        "Moments: mean log magnitude, ± standard deviation",
        [("mean", hertz, mean)],
        "They normalise spectrograms. A dip or a spike comes from the sounds.",
        "Hz",
        [(hertz, mean - std, mean + std)],
    )


# Settings and versions


def settings(t: Training, which: str) -> list[tuple]:
    """(name, value) of "all" settings, or of those "changed" from the default."""
    return [row[:2] for row in t.settings if which == "all" or not row[2]]


def versions() -> list[list[str]]:
    rows = [
        ["specgan_tf", specgan_tf.__version__],
        ["Python", platform.python_version()],
    ]
    for name in ("tensorflow", "keras", "numpy", "librosa", "tensorboard"):
        rows.append([name, metadata.version(name)])
    return [*rows, ["system", platform.platform()]]
