"""What a training folder holds, for its report."""

import dataclasses
import json
import logging
import os
import re
import time

import numpy as np
import tensorflow as tf

from specgan_tf import generate, loader, moments, spectral
from specgan_tf.eval import score
from specgan_tf.files import InputError
from specgan_tf.weights import checkpoint, folders

PICTURES = 500  # of which that many steps at most are held

CLIPS = 8  # of each kind, if nobody asks for more
POOL = 512  # real slices, among which the nearest are looked for
POOL_SECS = 60  # for decoding them
HEADERS = 20_000  # files whose rate and length are read

log = logging.getLogger("specgan_tf")


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
        self.prefix = folders.latest(self.folder)
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
        found = folders.load_moments(self.folder, self.moments_fp)
        where = self.moments_fp or folders.moments_fp(self.folder)
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
