"""Read what a report shows: summaries, previews, scores, sounds, the newest checkpoint.

Readers accept any training folder; they return empty results for what is missing.
"""

import dataclasses
import json
import logging
import os
import re
import time

import numpy as np
import tensorflow as tf

from specgan_tf import generate, loader, moments, spectral
from specgan_tf.errors import InputError
from specgan_tf.eval import score
from specgan_tf.files import StrPath
from specgan_tf.weights import checkpoint, folders

CLIPS = 8  # default for --report_n: clips of each kind
PICTURES = 500  # steps whose pictures are kept while reading summaries
POOL = 512  # real slices to search for the nearest ones
POOL_SECS = 60  # time limit for decoding them
HEADERS = 20_000  # files whose rate and length are read

log = logging.getLogger("specgan_tf")

Series = dict[str, tuple[np.ndarray, np.ndarray]]  # tag -> (steps, values)


# Recorded files


def read_events(train_dir: StrPath) -> tuple[Series, dict[int, list[bytes]]]:
    """The summaries of a training, from all its runs.

    A run that resumed from a checkpoint replaces the summaries after that checkpoint.
    A truncated or damaged file is read as far as possible.

    Returns:
      (series, images): tag -> (steps, values) of scalars; step -> PNG files of G_z. If
      there are many steps with images, only some of them.
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
                        # the first two strings are width and height
                        pictures[event.step] = list(value.tensor.string_val[2:])
                if len(pictures) > PICTURES:
                    for step in sorted(pictures)[1::2]:
                        del pictures[step]
        except Exception as e:  # a damaged file can cause any error
            log.warning(
                "%s is damaged, and is read in part (%s)", name, type(e).__name__
            )
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


def read_previews(train_dir: StrPath) -> dict[int, str]:
    """step -> path of the sheet of pictures that `preview` wrote."""
    folder = os.path.join(train_dir, "preview")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (re.fullmatch(r"(\d{8,})\.png", name) for name in names)
    return {int(f[1]): os.path.join(folder, f[0]) for f in found if f}


def read_scores(train_dir: StrPath) -> dict[int, dict[str, dict]]:
    """step -> {"generated": numbers, "real": numbers}, as `score` wrote them."""
    folder = os.path.join(train_dir, "score")
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not (match := re.fullmatch(r"(\d{8,})\.json", name)):
            continue
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                content = json.load(f)
            found[int(match[1])] = {
                kind: {
                    k: _mean_std(v) for k, v in content[kind].items() if k != "classes"
                }
                for kind in ("generated", "real")
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            log.warning("%s holds no scores: %r", os.path.join(folder, name), e)
    return found


def _mean_std(value):
    """(mean, standard deviation), or (number, None)."""
    mean, std = value if isinstance(value, list) else (value, None)
    return float(mean), None if std is None else float(std)


# Sounds


@dataclasses.dataclass
class Sounds:
    """The sounds that a training learns from."""

    folder: str  # as the user named it
    files: int  # the number of files
    headers: list[
        tuple[int, float] | None
    ]  # (rate, seconds) of the first HEADERS files
    clips: np.ndarray  # float32 [n, 16384, 1], a sample of the slices
    names: list[str]  # the file and time of each of these slices
    skipped: list[tuple[str, str]]  # (path, reason) of unreadable files


def read_sounds(
    folder: StrPath,
    fps: list[str],
    decoding: dict,
    slicing: dict,
    lengths: np.ndarray | None = None,
    pool: int = POOL,
) -> Sounds:
    """`Sounds` with at most `pool` slices, from files drawn with a fixed seed.

    Args:
      folder: the folder of sounds.
      fps: the paths of its files.
      decoding, slicing: keyword arguments, as for `loader.decode_extract_and_batch`;
        random offsets are not applied.
      lengths: the number of samples in each file, as a checkpoint records it; 0 is an
        unreadable file.
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
            skipped[fps[i]] = e.reason
            continue
        cut = loader.extract_slices(
            audio, slicing["slice_len"], hop, first_only, pad_end
        )
        for k in range(0, len(cut), max(1, -(-len(cut) // per_file))):
            x = cut[k][:, 0]
            clips.append(np.pad(x, [(0, slicing["slice_len"] - len(x)), (0, 0)]))
            at = f" at {k * hop / decoding['decode_fs']:.1f} s" if k else ""
            names.append(os.path.relpath(fps[i], folder) + at)
    clips = np.stack(clips[:pool]) if clips else np.zeros([0, slicing["slice_len"], 1])
    return Sounds(folder, len(fps), headers, clips, names[:pool], [*skipped.items()])


# The training


@dataclasses.dataclass
class Training:
    """All the data that the sections show.

    Args:
      folder: the training folder.
      settings: [(name, value, whether it is the default)].
      sounds: `Sounds`, or one line that says why there are none.
      n: number of clips of each kind.
      griffin_lim: `spectral.GriffinLim` for generated sounds.
      upsample: the generator's upsampling, where its checkpoint does not record it.
      moments_fp: a moments file, if the folder has none.

    Attributes:
      series, images: see `read_events`.
      prefix: the newest checkpoint, or None; step: its step, or the last of `series`.
      moments: `moments.Moments`, or None.
      made: the result of `generate.render` for `n` latents, or None; then `missing` is
        the reason.
      near: `score.nearest`, for each generated clip the nearest real one, or None;
        apart: the mean distance from a real clip to the nearest other real one.
    """

    folder: str
    settings: list
    sounds: Sounds | str
    n: int = CLIPS
    griffin_lim: spectral.GriffinLim = spectral.GRIFFIN_LIM
    upsample: str | None = None
    moments_fp: str | None = None

    def __post_init__(self):
        chosen = {name: value for name, value, _ in self.settings}
        self.loss, self.sample_rate = chosen["specgan_loss"], chosen["data_sample_rate"]
        self.frames = chosen["data_slice_len"] // spectral.NHOP
        self.series, self.images = read_events(self.folder)
        self.prefix = folders.latest(self.folder)
        self.moments = self.made = self.near = None
        self.missing, self.apart = "No checkpoint yet: no sounds.", 0.0
        self.step = max((int(s[-1]) for s, _ in self.series.values()), default=0)
        if self.prefix:
            self.step = checkpoint.step_of(self.prefix)
        try:
            self.moments = self.load_moments(chosen)
            if self.prefix and self.step:
                self.made = self.render()
            elif self.prefix:
                self.missing = (
                    "Nothing saved since step 0, and an untrained generator is nearly "
                    "silent. Training saves every --train_save_secs and when it ends."
                )
        except InputError as e:
            self.missing = f"No sounds: {e}."
        if self.has_sounds and not len(self.sounds.clips):
            self.sounds = "none of them could be read"
        if self.made and self.has_sounds:
            real = self.sounds.clips
            self.near = score.nearest(self.made["G_z"], real)
            if len(real) > 1:
                self.apart, _ = score.similarity(score.to_int16(real))

    def load_moments(self, chosen: dict) -> moments.Moments:
        found = folders.load_moments(self.folder, self.moments_fp)
        where = self.moments_fp or folders.moments_fp(self.folder)
        how = {name: chosen[f"specgan_{name}"] for name in found.analysis}
        moments.require_analysis(found, how, where)
        return found

    def render(self) -> dict[str, np.ndarray]:
        G = checkpoint.load_generator(self.prefix, self.upsample)
        z = latents(self.folder, self.n, G.latent_dim)
        return generate.render(G, self.moments, z, self.griffin_lim)

    @property
    def has_sounds(self) -> bool:
        return isinstance(self.sounds, Sounds)


def latents(train_dir: StrPath, n: int, latent_dim: int) -> np.ndarray:
    """`n` latents [n, latent_dim]: those of the previews, then further ones."""
    fp = os.path.join(train_dir, "preview", "z.pkl")
    z = np.zeros([0, latent_dim], np.float32)
    if os.path.isfile(fp):
        z = generate.load_z(fp, latent_dim)
    more = generate.sample_z(max(n - len(z), 0), latent_dim, 0).numpy()
    return np.concatenate([z, more])[:n]


def checkpoint_pictures(
    train_dir: StrPath, prefixes: dict[int, str], n: int, upsample: str | None
) -> dict[int, list[np.ndarray]]:
    """step -> `n` pictures uint8 [128, 128, 1], of the same latents.

    prefixes: step -> checkpoint. Unreadable checkpoints are reported and left out.
    """
    rows = {}
    for step, prefix in prefixes.items():
        try:
            G = checkpoint.load_generator(prefix, upsample)
            z = latents(train_dir, n, G.latent_dim)
        except InputError as e:
            log.warning("%s", e)
            continue
        rows[step] = [*spectral.f_to_img(G(z)).numpy()]
    return rows


def find_checkpoints(train_dir: StrPath) -> dict[int, str]:
    """step -> every checkpoint in the folder and in its backup."""
    found = {}
    for folder in (os.path.join(train_dir, "backup"), train_dir):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if match := re.fullmatch(r"(model\.ckpt-(\d+))\.index", name):
                found[int(match[2])] = os.path.join(folder, match[1])
    return found


def decode_png(data: bytes) -> np.ndarray | None:
    """uint8 [h, w, 1], or None if `data` is not a PNG file."""
    try:
        return tf.io.decode_png(data, channels=1).numpy()
    except tf.errors.OpError:
        return None
