"""What a training folder says, as one HTML file: curves, sounds, health, settings.

It takes the folder as it is. What is not there (summaries, previews, data, a
checkpoint) is said where it would be.
"""

import collections
import dataclasses
import datetime
import json
import logging
import os
import platform
import re
import time
from importlib import metadata

import numpy as np
import tensorflow as tf

import specgan_tf
from specgan_tf import (
    checkpoint,
    generate,
    health,
    loader,
    moments,
    page,
    score,
    spectral,
)
from specgan_tf.files import InputError, replacing
from specgan_tf.page import element

GENERATOR = "specgan_tf report"
CLIPS = 8  # of each kind, if nobody asks for more
STEPS, LATENTS = 8, 4  # of spectrograms over time
PICTURES = 500  # of which that many steps at most are held
POOL = 512  # real slices, among which the nearest are looked for
POOL_SECS = 60  # for decoding them
HEADERS = 20_000  # files whose rate and length are read
NAMED = 10  # skipped files that are named

log = logging.getLogger("specgan_tf")


# What was recorded


def read_events(train_dir):
    """The summaries of a training, of all its runs.

    Where a run went on from a checkpoint, it takes the place of what came after that.
    A file that is cut off or damaged is read as far as it goes.

    Returns:
      (series, images): tag -> (steps, values) of scalars; step -> [PNG file] of G_z,
      of some steps where there are many.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    series, images = {}, {}
    for name in sorted(n for n in os.listdir(train_dir) if "tfevents" in n):
        run, pictures = {}, {}
        try:
            for event in EventFileLoader(os.path.join(train_dir, name)).Load():
                for value in event.summary.value:
                    kind = value.metadata.plugin_data.plugin_name
                    if kind == "scalars":
                        number = float(tf.make_ndarray(value.tensor).reshape(-1)[0])
                        run.setdefault(value.tag, {})[event.step] = number
                    elif kind == "images" and value.tag == "G_z/image":
                        # after its width and height
                        pictures[event.step] = list(value.tensor.string_val[2:])
                if len(pictures) > PICTURES:
                    for step in sorted(pictures)[1::2]:
                        del pictures[step]
        except Exception as e:  # whatever a damaged file makes the reader trip over
            log.warning("%s: read no further (%s)", name, type(e).__name__)
        first = min((step for points in run.values() for step in points), default=None)
        if first is not None:
            for points in (*series.values(), images):
                for step in [s for s in points if s >= first]:
                    del points[step]
        for tag, points in run.items():
            series.setdefault(tag, {}).update(points)
        images |= pictures
    return {tag: _sorted(points) for tag, points in series.items() if points}, images


def _sorted(points):
    steps = sorted(points)
    return np.array(steps, np.int64), np.array([points[s] for s in steps], np.float64)


def read_previews(train_dir):
    """step -> path of the pictures that the preview mode left."""
    folder = os.path.join(train_dir, "preview")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (re.fullmatch(r"(\d{8,})\.png", name) for name in names)
    return {int(f[1]): os.path.join(folder, f[0]) for f in found if f}


def read_scores(train_dir):
    """step -> {"generated": numbers, "real": numbers}, that the score mode left."""
    folder = os.path.join(train_dir, "score")
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not (match := re.fullmatch(r"(\d{8,})\.json", name)):
            continue
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                said = json.load(f)
            found[int(match[1])] = {
                of: {k: _mean_std(v) for k, v in said[of].items() if k != "classes"}
                for of in ("generated", "real")
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            log.warning("%s holds no scores: %r", os.path.join(folder, name), e)
    return found


def _mean_std(value):
    """(mean, None), or with the standard deviation."""
    mean, std = value if isinstance(value, list) else (value, None)
    return float(mean), None if std is None else float(std)


# The sounds


@dataclasses.dataclass
class Sounds:
    """What a training learns from.

    folder: as the user named it; files: how many; headers: [(rate, seconds) or None]
    of the first HEADERS; clips: float32 [n, 16384, 1], some slices; names: [n], where
    each is from; skipped: [(path, why)].
    """

    folder: str
    files: int
    headers: list
    clips: np.ndarray
    names: list
    skipped: list


def read_sounds(folder, fps, decoding, slicing, lengths=None, pool=POOL):
    """`Sounds`, of at most `pool` slices, files by chance but always the same ones.

    Args:
      decoding, slicing: keyword arguments, as of `loader.decode_extract_and_batch`;
        random starts are left out.
      lengths: what a checkpoint knows of the files: 0 samples are unreadable.
    """
    import soundfile

    headers = []
    for fp in fps[:HEADERS]:
        try:
            info = soundfile.info(os.fsencode(fp))  # names may be any bytes
            headers.append((info.samplerate, info.frames / info.samplerate))
        except (RuntimeError, OSError, ZeroDivisionError):
            headers.append(None)
    skipped = {}
    if lengths is not None and len(lengths) == len(fps):
        skipped = {fps[i]: "" for i in np.flatnonzero(lengths == 0)}
    as_trained = {
        name: decoding[f"decode_{name}"]
        for name in ("fs", "num_channels", "normalize", "fast_wav", "resample")
    }
    hop = loader.slice_hop_len(slicing["slice_len"], slicing["slice_overlap_ratio"])
    first_only, pad_end = slicing["slice_first_only"], slicing["slice_pad_end"]
    per_file = max(1, -(-pool // len(fps)))
    clips, names, began = [], [], time.monotonic()
    for i in np.random.RandomState(0).permutation(len(fps)):
        if len(clips) >= pool or (clips and time.monotonic() - began > POOL_SECS):
            break
        try:
            audio = loader.decode_audio(fps[i], **as_trained)
        except loader.UnreadableError as e:
            skipped[fps[i]] = str(e)
            continue
        cut = loader.extract_slices(
            audio, slicing["slice_len"], hop, first_only, pad_end
        )
        for k in range(0, len(cut), max(1, -(-len(cut) // per_file))):
            x = cut[k][:, 0]
            clips.append(np.pad(x, [(0, slicing["slice_len"] - len(x)), (0, 0)]))
            at = f" at {k * hop / decoding['decode_fs']:.1f} s" if k else ""
            names.append(os.path.relpath(fps[i], folder) + at)
    clips = np.stack(clips[:pool]) if clips else np.zeros([0, spectral.SLICE_LEN, 1])
    return Sounds(folder, len(fps), headers, clips, names[:pool], [*skipped.items()])


# All of it


@dataclasses.dataclass
class Training:
    """What the sections are made of.

    Args:
      folder: the training's.
      settings: [(name, value, whether it is the default)].
      sounds: `Sounds`, or in one line why there are none.
      n: clips of each kind.
      griffin_lim: `spectral.GriffinLim` of generated sounds.
      upsample: of a generator whose checkpoint does not tell.
      moments_fp: a moments file, if the folder has none.

    Attributes:
      series, images: see `read_events`.
      prefix, step: the newest checkpoint, or None and the last step of `series`.
      moments: `moments.Moments`, or None.
      made: `generate.render` of `n` latents, or None, and `missing` says why.
      near: `score.nearest` of these among the sounds, or None; apart: the mean distance
        of a real clip to its nearest other.
    """

    folder: str
    settings: list
    sounds: Sounds | str
    n: int = CLIPS
    griffin_lim: spectral.GriffinLim = spectral.GRIFFIN_LIM
    upsample: str | None = None
    moments_fp: str | None = None

    def __post_init__(self):
        said = {name: value for name, value, _ in self.settings}
        self.loss, self.sample_rate = said["specgan_loss"], said["data_sample_rate"]
        self.series, self.images = read_events(self.folder)
        self.prefix = checkpoint.latest(self.folder)
        self.moments = self.made = self.near = None
        self.missing, self.apart = "No checkpoint yet: no sounds.", 0.0
        self.step = max((int(s[-1]) for s, _ in self.series.values()), default=0)
        if self.prefix:
            self.step = checkpoint.step_of(self.prefix)
        try:
            self.moments = self.load_moments(said)
            self.made = self.render() if self.prefix else None
        except InputError as e:
            self.missing = f"No sounds: {e}."
        if self.has_sounds and not len(self.sounds.clips):
            self.sounds = "none of them could be read"
        if self.made and self.has_sounds:
            real = self.sounds.clips
            self.near = score.nearest(self.made["G_z"], real)
            if len(real) > 1:
                self.apart, _ = score.similarity(score.to_int16(real))

    def load_moments(self, said):
        found = checkpoint.load_moments(self.folder, self.moments_fp)
        where = self.moments_fp or checkpoint.moments_fp(self.folder)
        how = {name: said[f"specgan_{name}"] for name in found.analysis}
        moments.require_analysis(found, how, where)
        return found

    def render(self):
        G = checkpoint.load_generator(self.prefix, self.upsample)
        z = latents(self.folder, self.n, G.latent_dim)
        return generate.render(G, self.moments, z, self.griffin_lim)

    @property
    def has_sounds(self):
        return isinstance(self.sounds, Sounds)


def latents(train_dir, n, latent_dim):
    """The previews' latents, and as many more as it takes for `n`."""
    fp = os.path.join(train_dir, "preview", "z.pkl")
    z = np.zeros([0, latent_dim], np.float32)
    if os.path.isfile(fp):
        z = generate.load_z(fp, latent_dim)
    more = generate.sample_z(max(n - len(z), 0), latent_dim, 0).numpy()
    return np.concatenate([z, more])[:n]


# The page


def write(fp, training):
    """Write the report of a `Training`; an earlier one at `fp` is replaced.

    Raises:
      InputError: anything else is at `fp`.
    """
    check_replaceable(fp)
    sections = [
        header(training),
        page.section("Health", *of_health(training)),
        page.section("Curves", *of_curves(training)),
        page.section("Spectrograms over time", *of_time(training)),
        page.section("Listen", *of_clips(training)),
        page.section("Scores", *of_scores(training)),
        page.section("Data", *of_data(training)),
        page.section("Settings", *of_settings(training)),
        page.section("Versions", page.table(versions())),
    ]
    with replacing(fp) as f:
        title = f"SpecGAN: {name_of(training.folder)}"
        f.write(page.page(title, GENERATOR, *sections))


def name_of(folder):
    return os.path.basename(os.path.abspath(folder))


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
    previews = read_previews(t.folder)
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
            z = latents(train_dir, LATENTS, G.latent_dim)
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
    found = read_scores(t.folder)
    names = [
        n for n in score.MEASURES if any(n in s["generated"] for s in found.values())
    ]

    def row(says, numbers):
        values = (numbers.get(name) for name in names)
        return [says, *("" if v is None else shown(*v) for v in values)]

    if found:
        rows = [row(f"step {step}", said["generated"]) for step, said in found.items()]
        rows.append(row("real sounds", [*found.values()][-1]["real"]))
        yield page.table(rows, ["", *(score.MEASURES[name] for name in names)])
    charts = []
    for name in names if len(found) > 1 else []:
        values = {
            s: said["generated"].get(name, (np.nan,)) for s, said in found.items()
        }
        line = (name, [*values], [mean for mean, *_ in values.values()])
        charts.append(page.chart(score.MEASURES[name], [line]))
    for folder, tag in WATCHED.items():
        folder = os.path.join(t.folder, folder)
        series = read_events(folder)[0] if os.path.isdir(folder) else {}
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
