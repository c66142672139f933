"""The sections of a report, from what `gather` found."""

import collections
import datetime
import logging
import os
import platform
import re
from importlib import metadata

import numpy as np
import tensorflow as tf

import specgan_tf
from specgan_tf import spectral
from specgan_tf.eval import comparison, health
from specgan_tf.files import InputError
from specgan_tf.report import gather, page
from specgan_tf.report.page import element
from specgan_tf.weights import checkpoint

STEPS, LATENTS = 8, 4  # of spectrograms over time
NAMED = 10  # skipped files that are named

log = logging.getLogger("specgan_tf")


def name_of(folder):
    return os.path.basename(os.path.abspath(folder))


def header(t):
    said = [f"step {t.step}", t.loss]
    if t.prefix:
        said.append(f"newest checkpoint {os.path.basename(t.prefix)}")
    said.append(datetime.datetime.now().strftime("report of %Y-%m-%d %H:%M"))
    title = element("h1", f"SpecGAN training “{name_of(t.folder)}”")
    return element("header", title, faint(" · ".join(said)))


def faint(text):
    return element("p", text, class_="faint")


def of_health(t):
    signs = health.of_training(t.loss, t.series)
    judged = [] if health.is_early(t.series) else ["losses"]
    if t.made and t.step >= health.LATE:
        judged.append("sounds")
        real = t.sounds.clips if t.has_sounds else []
        signs += health.of_clips(t.step, real, t.made["G_z"])
        if t.near:
            signs += filter(None, [health.overfitting(t.near[1], t.apart)])
    for sign in signs:
        yield element(
            "p",
            element("strong", sign.name),
            f": {sign.says}. {sign.remedy}",
            class_="sign",
        )
    if not judged and not signs:
        yield faint(
            f"Too early to tell: losses are judged by {health.ENOUGH} summaries from "
            f"step {health.EARLY} on, sounds from step {health.LATE} on."
        )
    elif not signs:
        yield element("p", f"No sign of trouble in the {' or '.join(judged)}.")


CURVES = [  # title, line -> tag
    ("Losses", {"D_loss": "D_loss", "G_loss": "G_loss"}),
    ("D(real) and D(generated)", {"D_x": "D_x", "D_G_z": "D_G_z"}),
    ("Their difference", {"D_x - D_G_z": "D_x_minus_D_G_z"}),
    ("Slopes of D", {"slopes": "slopes", "penalty": "gradient_penalty"}),
    ("Norms of gradients", {"D": "D_gradient_norm", "G": "G_gradient_norm"}),
    ("Diversity (1: as real clips)", {"diversity": "G_z_diversity"}),
    ("Loudness, RMS", {"generated": "G_z_rms", "real": "x_rms"}),
    ("Steps per second", {"steps/s": "steps_per_second"}),
    ("Share of time waiting for data", {"share": "data_wait"}),
]


def of_curves(t):
    charts = []
    for title, tags in CURVES:
        tags = {name: tag for name, tag in tags.items() if tag in t.series}
        lines = [(name, *t.series[tag]) for name, tag in tags.items()]
        charts.append(page.chart(title, lines))
    charts = [c for c in charts if c]
    if charts:
        yield element("div", *charts, class_="grid")
    else:
        yield faint(
            "No summaries in this folder: train writes them (--train_summary_secs)."
        )


def of_time(t):
    """The same latents step by step: from previews, summaries, or checkpoints kept."""
    previews = gather.read_previews(t.folder)
    if len(previews) > 1:
        source = "From the previews."
        found = {step: cut_sheet(previews[step]) for step in spread(previews)}
    elif len(t.images) > 1:
        source = "From the summaries."
        found = {step: [*map(decode_png, t.images[step])] for step in spread(t.images)}
    else:
        source = "Made by the checkpoints that are here."
        found = of_checkpoints(t.folder, t.upsample)
    columns = [
        element(
            "div",
            element("span", step),
            *(page.png(image, f"generated at step {step}") for image in made[:LATENTS]),
            class_="step",
        )
        for step, made in sorted(found.items())
        if made
    ]
    if not columns:
        yield faint(
            "No previews, no pictures in summaries, no checkpoint: none to show."
        )
        return
    yield element("div", *columns, class_="steps")
    yield faint(
        f"{source} A row is one latent, a column the step above it; within a picture, "
        "time runs to the right and frequency upwards."
    )


def spread(steps, n=STEPS):
    """At most `n` of them, evenly, with the first and the last."""
    steps = sorted(steps)
    picked = np.linspace(0, len(steps) - 1, min(n, len(steps))).round().astype(int)
    return [steps[i] for i in picked]


def cut_sheet(fp):
    """The first row of a `generate.contact_sheet`: uint8 [128, 128, 1] each."""
    with open(fp, "rb") as f:
        sheet = decode_png(f.read())
    side = spectral.NFRAMES
    if sheet is None or sheet.shape[0] < side + 8:
        return []
    lefts = range(4, sheet.shape[1] - side, side + 4)
    return [sheet[4 : 4 + side, left : left + side] for left in lefts]


def decode_png(data):
    """uint8 [h, w, 1], or None of what is none."""
    try:
        return tf.io.decode_png(data, channels=1).numpy()
    except tf.errors.OpError:
        return None


def of_checkpoints(train_dir, upsample):
    """step -> pictures of the same latents, by those that are kept or backed up."""
    found = {}
    for folder in (os.path.join(train_dir, "backup"), train_dir):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if match := re.fullmatch(r"(model\.ckpt-(\d+))\.index", name):
                found[int(match[2])] = os.path.join(folder, match[1])
    rows = {}
    for step in spread(found) if found else []:
        try:
            G = checkpoint.load_generator(found[step], upsample)
            z = gather.latents(train_dir, LATENTS, G.latent_dim)
        except InputError as e:
            log.warning("%s", e)
            continue
        rows[step] = [*spectral.f_to_img(G(z)).numpy()]
    return rows


def of_clips(t):
    """Generated clips with the real one nearest to each, then real ones by chance."""

    def clip(x, image, caption):
        # One that is too loud is turned down, as `generate` does.
        samples = spectral.float_to_int16(spectral.turn_down(x[np.newaxis])[0])
        player = page.wav(samples, t.sample_rate, caption)
        picture = page.png(image, f"spectrogram of {caption}")
        caption = element("figcaption", caption)
        return element("div", picture, player, caption, class_="clip")

    if t.made is None:
        yield faint(t.missing)
        return
    if t.near:
        real = t.sounds.clips
        images = spectral.f_to_img(t.moments.t_to_f(real)).numpy()
        yield element(
            "p",
            "Each generated clip, and the real one that is nearest to it among "
            f"{len(real)} slices, by the distance of their log-mel spectra. A real one "
            f"is {t.apart:.0f} from its nearest other.",
        )
    else:
        yield faint(f"No real sounds to hold them against: {t.sounds}.")
    cards = []
    for i, G_z in enumerate(t.made["G_z"]):
        pair = [clip(G_z, t.made["G_z_norm_uint8"][i], f"generated {i}")]
        if t.near:
            j, distance = t.near[0][i], t.near[1][i]
            pair.append(
                clip(
                    real[j], images[j], f"{t.sounds.names[j]}, distance {distance:.0f}"
                )
            )
        cards.append(element("figure", element("div", *pair, class_="pair")))
    yield element("div", *cards, class_="grid")
    if t.near:
        yield element("h3", "Real sounds, by chance")
        cards = [
            element("figure", clip(real[j], images[j], t.sounds.names[j]))
            for j in range(min(t.n, len(real)))
        ]
        yield element("div", *cards, class_="grid small")


WATCHED = {"incept": "incept_mean", "frechet": "frechet_log_mel"}  # folder -> tag


def of_scores(t):
    """What the modes score and incept left in the folder."""
    found = gather.read_scores(t.folder)
    names = [
        n
        for n in comparison.MEASURES
        if any(n in s["generated"] for s in found.values())
    ]

    def row(says, numbers):
        values = (numbers.get(name) for name in names)
        return [says, *("" if v is None else shown(*v) for v in values)]

    if found:
        rows = [row(f"step {step}", said["generated"]) for step, said in found.items()]
        rows.append(row("real sounds", [*found.values()][-1]["real"]))
        yield page.table(rows, ["", *(comparison.MEASURES[name] for name in names)])
    charts = []
    for name in names if len(found) > 1 else []:
        values = {
            s: said["generated"].get(name, (np.nan,)) for s, said in found.items()
        }
        line = (name, [*values], [mean for mean, *_ in values.values()])
        charts.append(page.chart(comparison.MEASURES[name], [line]))
    for folder, tag in WATCHED.items():
        folder = os.path.join(t.folder, folder)
        series = gather.read_events(folder)[0] if os.path.isdir(folder) else {}
        if tag in series:
            title = f"{tag} of each checkpoint"
            charts.append(page.chart(title, [(tag, *series[tag])]))
    charts = [c for c in charts if c]
    if charts:
        yield element("div", *charts, class_="grid")
    if not found and not charts:
        yield faint("None: the modes score and incept of train_specgan.py make them.")


def shown(mean, std):
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def of_data(t):
    if t.has_sounds:
        yield page.table(facts(t.sounds, t.sample_rate))
        skipped = [f"{fp}: {why}" if why else fp for fp, why in t.sounds.skipped]
        if len(skipped) > NAMED:
            skipped[NAMED:] = [f"and {len(skipped) - NAMED} more"]
        if skipped:
            yield element("ul", *(element("li", line) for line in skipped))
    else:
        yield faint(f"The sounds cannot be had: {t.sounds}.")
    if t.moments is None:
        yield faint("No moments in this folder.")
        return
    mean, std = (m.astype(np.float64) for m in t.moments[:2])
    hertz = np.arange(len(mean)) * t.sample_rate / spectral.NFFT
    bands = [(hertz, mean - std, mean + std)]
    title = "Moments: mean log magnitude, ± standard deviation"
    chart = page.chart(title, [("mean", hertz, mean)], "Hz", bands)
    yield element("div", chart, class_="grid")


def facts(sounds, sample_rate):
    """Rows on the data."""
    known = [h for h in sounds.headers if h]
    seconds = [secs for _, secs in known]
    rates = collections.Counter(rate for rate, _ in known)
    rows = [["folder", sounds.folder], ["files", f"{sounds.files}"]]
    if seconds:
        span = f"{min(seconds):.2g} to {max(seconds):.3g} s"
        rows += [
            ["all together", duration(sum(seconds))],
            ["each", f"{span}, half of them above {np.median(seconds):.2g} s"],
        ]
    counts = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(rates.items()))
    rows += [["sample rates", counts], ["trained at", f"{sample_rate} Hz"]]
    if len(sounds.headers) < sounds.files:
        rows.append(["these are of the first", f"{len(sounds.headers)} files"])
    return [*rows, ["skipped", f"{len(sounds.skipped)}"]]


def duration(seconds):
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def of_settings(t):
    if not os.path.isfile(os.path.join(t.folder, "args.txt")):
        yield faint("No args.txt: what the checkpoint tells, and defaults.")
    rows = [[name, page.text(value)] for name, value, _ in t.settings]
    other = [
        row
        for row, (_, _, default) in zip(rows, t.settings, strict=True)
        if not default
    ]
    yield page.table(other, ["not the default", ""])
    summary = element("summary", "All settings")
    yield element("details", summary, page.table(rows))


def versions():
    rows = [
        ["specgan_tf", specgan_tf.__version__],
        ["Python", platform.python_version()],
    ]
    for name in ("tensorflow", "keras", "numpy", "librosa", "tensorboard"):
        rows.append([name, metadata.version(name)])
    return [*rows, ["system", platform.platform()]]
