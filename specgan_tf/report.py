"""What a training folder says, as one HTML file: curves, sounds, health, settings.

It takes the folder as it is. What is not there (summaries, previews, data, a
checkpoint) is said where it would be.
"""

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
from specgan_tf import checkpoint, generate, health, loader, page, score, spectral
from specgan_tf.files import InputError, replacing
from specgan_tf.page import element

GENERATOR = "specgan_tf report"
CLIPS = 8  # of each kind, if nobody asks for more
ROWS, COLUMNS = 8, 8  # of spectrograms over time
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
      (series, images): tag -> (steps, values) of scalars; step -> [PNG file] of G_z.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    series, images = {}, {}
    names = sorted(n for n in os.listdir(train_dir) if "tfevents" in n)
    for name in names:
        run, first = [], None
        try:
            for event in EventFileLoader(os.path.join(train_dir, name)).Load():
                for value in event.summary.value:
                    kind = value.metadata.plugin_data.plugin_name
                    if kind == "scalars" or (kind == "images" and value.tag == "G_z"):
                        run.append((value.tag, event.step, value.tensor, kind))
        except Exception as e:  # whatever a damaged file makes the reader trip over
            log.warning("%s: read no further (%s)", name, type(e).__name__)
        if not run:
            continue
        first = min(step for _, step, _, _ in run)
        for points in (*series.values(), images):
            for step in [s for s in points if s >= first]:
                del points[step]
        for tag, step, tensor, kind in run:
            if kind == "images":
                images[step] = list(tensor.string_val[2:])  # after width and height
            else:
                value = float(tf.make_ndarray(tensor).reshape(-1)[0])
                series.setdefault(tag, {})[step] = value
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
    """step -> what `score` wrote of it, oldest first."""
    folder = os.path.join(train_dir, "scores")
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not name.endswith(".json"):
            continue
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                said = json.load(f)
            found[int(said["step"])] = {k: dict(said[k]) for k in ("generated", "real")}
        except (OSError, ValueError, KeyError, TypeError) as e:
            log.warning("Not scores: %s (%s)", os.path.join(folder, name), e)
    return dict(sorted(found.items()))


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
            info = soundfile.info(os.fsdecode(fp))
            headers.append((info.samplerate, info.frames / info.samplerate))
        except (RuntimeError, OSError, ZeroDivisionError):
            headers.append(None)
    skipped = {}
    if lengths is not None and len(lengths) == len(fps):
        skipped = {fps[i]: "" for i in np.flatnonzero(lengths == 0)}
    decode = loader.Cache(
        decoding["decode_cache"] if decoding["decode_cache"] != "memory" else None,
        fs=decoding["decode_fs"],
        num_channels=1,
        normalize=decoding["decode_normalize"],
        fast_wav=decoding["decode_fast_wav"],
        resample=decoding["decode_resample"],
    )
    hop = loader.slice_hop_len(slicing["slice_len"], slicing["slice_overlap_ratio"])
    first_only, pad_end = slicing["slice_first_only"], slicing["slice_pad_end"]
    per_file = max(1, -(-pool // len(fps)))
    clips, names, began = [], [], time.monotonic()
    for i in np.random.RandomState(0).permutation(len(fps)):
        if len(clips) >= pool or (clips and time.monotonic() - began > POOL_SECS):
            break
        try:
            audio = decode(fps[i])
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


# The page


def write(
    fp,
    train_dir,
    settings,
    sounds,
    n=CLIPS,
    griffin_lim=(16,),
    sample_rate=16000,
    upsample=None,
    moments=None,
):
    """Write the report of a training folder.

    Args:
      fp: HTML file; an earlier report there is replaced, anything else is not.
      settings: [(name, value, whether it is the default)].
      sounds: `Sounds`, or why there are none.
      n: clips of each kind.
      griffin_lim: (ngl, window, momentum) of generated sounds.
      sample_rate: Hz.
      upsample: of a generator whose checkpoint does not tell.
      moments: a moments file, if the folder has none.

    Raises:
      InputError: another file at `fp`; no such folder.
    """
    check_replaceable(fp)
    series, images = read_events(train_dir)
    loss = {name: value for name, value, _ in settings}["specgan_loss"]
    prefix = checkpoint.latest(train_dir)
    step = max((int(steps[-1]) for steps, _ in series.values()), default=0)
    made = mean_std = None
    try:
        mean_std = checkpoint.load_moments(train_dir, moments)
        missing = "No checkpoint yet: no sounds."
    except InputError as e:
        missing = f"No sounds: {e}"
    if prefix:
        step = checkpoint.step_of(prefix)
        if mean_std:
            G = checkpoint.load_generator(prefix, upsample)
            made = generate.render(
                G, *mean_std, latents(train_dir, n, G.latent_dim), *griffin_lim
            )
    pool = sounds.clips if isinstance(sounds, Sounds) else []
    if not len(pool) and isinstance(sounds, Sounds):
        sounds = "none of them could be read"
    near = apart = None
    if made and len(pool):
        near = score.nearest(made["G_z"], pool)
        apart = score.similarity(score.to_int16(pool))[0] if len(pool) > 1 else 0.0
    sections = [
        header(train_dir, step, loss, prefix),
        page.section("Health", *of_health(loss, series, step, made, pool, near, apart)),
        page.section("Curves", *of_curves(series)),
        page.section("Spectrograms over time", *of_time(train_dir, images, upsample)),
        page.section(
            "Listen",
            *of_clips(made, missing, sounds, near, apart, n, sample_rate, mean_std),
        ),
        page.section("Scores", *of_scores(read_scores(train_dir))),
        page.section("Data", *of_data(sounds, mean_std, sample_rate)),
        page.section("Settings", *of_settings(settings, train_dir)),
        page.section("Versions", page.table(versions())),
    ]
    title = f"SpecGAN: {os.path.basename(os.path.abspath(train_dir))}"
    with replacing(fp) as f:
        f.write(page.page(title, GENERATOR, *sections))


def check_replaceable(fp):
    """Refuse to write over what is not an earlier report."""
    if os.path.isdir(fp):
        raise InputError(f"{fp} is a folder; name a file with --report_fp")
    if os.path.exists(fp):
        with open(fp, "rb") as f:
            if f'name="generator" content="{GENERATOR}"'.encode() not in f.read(2000):
                raise InputError(f"{fp} is not a report; name another with --report_fp")


def latents(train_dir, n, latent_dim):
    """The previews' latents, and as many more as it takes for `n`."""
    fp = os.path.join(train_dir, "preview", "z.pkl")
    z = np.zeros([0, latent_dim], np.float32)
    if os.path.isfile(fp):
        z = generate.load_z(fp, latent_dim)
    more = generate.sample_z(max(n - len(z), 0), latent_dim, 0).numpy()
    return np.concatenate([z, more])[:n]


def header(train_dir, step, loss, prefix):
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    said = [f"step {step}", loss, f"report of {when}"]
    if prefix:
        said.insert(2, f"newest checkpoint {os.path.basename(prefix)}")
    name = os.path.basename(os.path.abspath(train_dir))
    return element(
        "header",
        element("h1", f"SpecGAN training “{name}”"),
        element("p", " · ".join(said), class_="faint"),
    )


def faint(text):
    return element("p", text, class_="faint")


def of_health(loss, series, step, made, pool, near, apart):
    signs = health.of_training(loss, series)
    judged = [] if health.is_early(series) else ["losses"]
    if made and step >= health.EARLY:
        judged.append("sounds")
        signs += health.of_clips(step, pool, made["G_z"])
        if near:
            signs += filter(None, [health.overfitting(near[1], apart)])
    for sign in signs:
        yield element(
            "p",
            element("strong", sign.name),
            f": {sign.says}. {sign.remedy}",
            class_="sign",
        )
    if not judged and not signs:
        yield faint(
            f"Too early to tell: signs are read from step {health.EARLY} and "
            f"{health.ENOUGH} summaries on."
        )
    elif not signs:
        yield element("p", f"No sign of trouble in the {' or '.join(judged)}.")


CURVES = [
    ("Losses", ["D_loss", "G_loss"]),
    ("What D says", ["D_x", "D_G_z"]),
    ("D_x - D_G_z", ["D_x_minus_D_G_z"]),
    ("Gradient penalty", ["gradient_penalty"]),
    ("Slopes of D", ["slopes"]),
    ("Norms of gradients", ["D_gradient_norm", "G_gradient_norm"]),
    ("Diversity (1: as real clips)", ["G_z_diversity"]),
    ("Loudness, RMS", ["G_z_rms", "x_rms"]),
    ("Steps per second", ["steps_per_second"]),
    ("Share of time waiting for data", ["data_wait"]),
]


def of_curves(series):
    charts = [
        page.chart(title, [(tag, *series[tag]) for tag in tags if tag in series])
        for title, tags in CURVES
    ]
    charts = [c for c in charts if c]
    if charts:
        yield element("div", *charts, class_="grid")
    else:
        yield faint(
            "No summaries in this folder: train writes them (--train_summary_secs)."
        )


def of_time(train_dir, images, upsample):
    """Rows of the same latents: from previews, summaries, or checkpoints that stay."""
    previews = read_previews(train_dir)
    if len(previews) > 1:
        source = "From the previews."
        rows = {step: cut_sheet(previews[step]) for step in spread(previews)}
    elif len(images) > 1:
        source = "From the summaries."
        rows = {step: [*map(decode_png, images[step])] for step in spread(images)}
    else:
        source = "Made by the checkpoints that are here."
        rows = of_checkpoints(train_dir, upsample)
    strips = [
        element(
            "div",
            element("span", step),
            *(page.png(image, f"generated at step {step}") for image in row[:COLUMNS]),
            class_="strip",
        )
        for step, row in sorted(rows.items())
        if row
    ]
    if not strips:
        yield faint(
            "No previews, no pictures in summaries, no checkpoint: none to show."
        )
        return
    yield element("div", *strips, class_="strips")
    yield faint(
        f"{source} A column is one latent, a row one step; in each, time runs to the "
        "right and frequency upwards."
    )


def spread(steps, n=ROWS):
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
        except InputError as e:
            log.warning("%s", e)
            continue
        z = latents(train_dir, COLUMNS, G.latent_dim)
        rows[step] = [*spectral.f_to_img(G(z)).numpy()]
    return rows


def of_clips(made, missing, sounds, near, apart, n, sample_rate, mean_std):
    """Generated clips with the real one nearest to each, then real ones by chance."""

    def clip(x, image, caption):
        # One that is too loud is turned down, as `generate` does.
        samples = spectral.float_to_int16(x / max(1.0, np.abs(x).max()))
        player = page.wav(samples, sample_rate, caption)
        picture = page.png(image, f"spectrogram of {caption}")
        return element(
            "div", picture, player, element("figcaption", caption), class_="clip"
        )

    if made is None:
        yield faint(missing)
        return
    if near:
        images = spectral.f_to_img(spectral.t_to_f(sounds.clips, *mean_std)).numpy()
        index, distance = near
        yield element(
            "p",
            "Each generated clip, and the real one nearest to it among "
            f"{len(sounds.clips)} slices. The distance is that of log-mel spectra; "
            f"real ones are {apart:.0f} from their nearest other.",
        )
    else:
        yield faint(f"No real sounds to hold them against: {sounds}")
    cards = []
    for i in range(min(n, len(made["G_z"]))):
        pair = [clip(made["G_z"][i], made["G_z_norm_uint8"][i], f"generated {i}")]
        if near:
            j = index[i]
            caption = f"{sounds.names[j]}, at {distance[i]:.0f}"
            pair.append(clip(sounds.clips[j], images[j], caption))
        cards.append(element("figure", element("div", *pair, class_="pair")))
    yield element("div", *cards, class_="grid")
    if near:
        yield element("h3", "Real sounds, by chance")
        cards = [
            element("figure", clip(sounds.clips[j], images[j], sounds.names[j]))
            for j in range(min(n, len(sounds.clips)))
        ]
        yield element("div", *cards, class_="grid small")


def of_scores(found):
    if not found:
        yield faint("None: train_specgan.py score computes them.")
        return
    rows, head = [], ["step"]
    names = [
        k for k in score.MEASURES if any(k in s["generated"] for s in found.values())
    ]
    head += [score.MEASURES[name] for name in names]

    def cells(numbers):
        for name in names:
            value = numbers.get(name, "")
            yield (
                f"{value[0]:.4g} ± {value[1]:.2g}" if isinstance(value, list) else value
            )

    rows = [[step, *cells(said["generated"])] for step, said in found.items()]
    rows.append(["real", *cells([*found.values()][-1]["real"])])
    yield page.table(rows, head)
    charts = []
    for name in names:
        values = {
            s: said["generated"][name]
            for s, said in found.items()
            if name in said["generated"]
        }
        line = [v[0] if isinstance(v, list) else v for v in values.values()]
        if len(line) > 1 and name != "clips":
            charts.append(page.chart(score.MEASURES[name], [(name, [*values], line)]))
    if charts:
        yield element("div", *charts, class_="grid")


def of_data(sounds, mean_std, sample_rate):
    if isinstance(sounds, Sounds):
        known = [h for h in sounds.headers if h]
        hours = sum(secs for _, secs in known) / 3600
        rates = sorted({rate for rate, _ in known})
        counts = [f"{rate} Hz: {sum(r == rate for r, _ in known)}" for rate in rates]
        of = (
            f" (of the first {len(sounds.headers)})"
            if len(sounds.headers) < sounds.files
            else ""
        )
        rows = [
            ("folder", sounds.folder),
            ("files", sounds.files),
            (f"length{of}", f"{hours:.3g} h, a file {_span([s for _, s in known])}"),
            (f"sample rates{of}", ", ".join(counts)),
            ("trained at", f"{sample_rate} Hz"),
            ("files skipped", len(sounds.skipped)),
        ]
        yield page.table(rows)
        if sounds.skipped:
            items = [
                element("li", fp, f": {why}" if why else "")
                for fp, why in sounds.skipped[:NAMED]
            ]
            more = len(sounds.skipped) - NAMED
            items += [element("li", f"and {more} more")] if more > 0 else []
            yield element("ul", *items)
    else:
        yield faint(f"The sounds are not here: {sounds}")
    if mean_std is None:
        yield faint("No moments in this folder.")
        return
    mean, std = (m.astype(np.float64) for m in mean_std)
    hertz = np.arange(len(mean)) * sample_rate / spectral.NFFT
    bands = [(hertz, mean - std, mean + std)]
    line = [("mean", hertz, mean)]
    title = "Moments: log magnitude, mean ± standard deviation"
    yield element("div", page.chart(title, line, "Hz", bands), class_="grid")


def _span(seconds):
    if not seconds:
        return "of unknown length"
    middle = np.median(seconds)
    return f"{min(seconds):.2g} to {max(seconds):.3g} s, {middle:.2g} in the middle"


def of_settings(settings, train_dir):
    if not os.path.isfile(os.path.join(train_dir, "args.txt")):
        yield faint("No args.txt: what the checkpoint tells, and defaults.")
    rows = [
        [
            name if default else element("strong", name),
            "" if value is None else str(value),
        ]
        for name, value, default in settings
    ]
    yield element("div", page.table(rows))
    yield faint("In bold what is not the default.")


def versions():
    rows = [
        ["specgan_tf", specgan_tf.__version__],
        ["Python", platform.python_version()],
    ]
    for name in ("tensorflow", "keras", "numpy", "librosa", "tensorboard"):
        rows.append([name, metadata.version(name)])
    return [*rows, ["system", platform.platform()]]
