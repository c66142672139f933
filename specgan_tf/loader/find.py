"""Find the audio files in a folder.

Port of the search in train_specgan.py (chrisdonahue/wavegan 40e85e8, lines 745-754).
"""

import collections
import glob
import logging
import os

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.loader import ffmpeg

SUFFIXES = tuple(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split()
)

log = logging.getLogger("specgan_tf")


def find_audio(data_dir: StrPath, recursive: bool = False) -> list[str]:
    """Return the sorted paths of the audio files in a folder; log what is left out.

    Sub-folders are searched if `recursive`, or if the folder itself holds no audio.
    Links to folders are followed, and each real folder is searched once.

    differs: the original takes an unsorted glob of all names, including folders and
    text files.  [train_specgan.py:745, 752]

    Raises:
      InputError: the folder does not exist, cannot be read, is empty, or holds no
        audio.
    """
    if not os.path.isdir(data_dir):
        if os.path.exists(data_dir):
            what = "is not a folder; name the folder that holds the files"
        elif glob.has_magic(os.fspath(data_dir)):
            what = "is a pattern; name the folder that holds the files"
        else:
            what = "does not exist"
        raise InputError(f"data_dir {data_dir} {what}")
    try:
        inside = _visible(data_dir)
    except OSError as e:
        raise InputError(f"data_dir {data_dir} cannot be read: {e.strerror}") from None
    found = sorted(_walk(data_dir, inside) if recursive else inside)
    program = ffmpeg.find()
    audio, other = [], collections.defaultdict(list)
    for path in found:
        name = path.lower()
        if os.path.islink(path) and not os.path.exists(path):
            other["Broken links, left out"].append(path)
        elif not os.path.isfile(path) or not name.endswith(SUFFIXES + ffmpeg.SUFFIXES):
            other["Not audio, left out"].append(path)
        elif name.endswith(ffmpeg.SUFFIXES) and not program:
            other[f"Left out, ffmpeg is needed ({ffmpeg.HOW})"].append(path)
        else:
            audio.append(path)
    if not audio:
        if not recursive and any(map(os.path.isdir, found)):
            log.info("No audio in %s itself: searching its sub-folders", data_dir)
            return find_audio(data_dir, recursive=True)
        raise InputError(f"data_dir {data_dir} {_why_nothing(inside, other)}")
    for what, paths in other.items():
        names = ", ".join(map(os.path.basename, paths[:3]))
        more = ", ..." if len(paths) > 3 else ""
        log.warning("%s (%d): %s%s", what, len(paths), names, more)
    return audio


def _visible(folder):
    """Return the paths in a folder, without hidden names."""
    names = sorted(n for n in os.listdir(folder) if not n.startswith("."))
    return [os.path.join(folder, name) for name in names]


def _walk(folder, inside):
    """Return the paths of all files in a folder and its sub-folders.

    Linked folders come last, so that a real folder is listed under its own name.
    """
    folders, links = collections.deque([(folder, inside)]), collections.deque()
    seen, files = set(), []
    while folders or links:
        folder, inside = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        if inside is None:
            try:
                inside = _visible(folder)
            except OSError as e:
                log.warning("Cannot read the folder %s: %s", folder, e.strerror)
                continue
        for path in inside:
            if not os.path.isdir(path):
                files.append(path)
            elif os.path.islink(path):
                links.append((path, None))
            else:
                folders.append((path, None))
    return files


def _why_nothing(inside, other):
    if not inside:
        return "is empty"
    for what, paths in other.items():
        if "ffmpeg" in what:
            kinds = sorted({os.path.splitext(path)[1].lower() for path in paths})
            return (
                f"holds no audio but {len(paths)} files ({' '.join(kinds)}) that need "
                f"ffmpeg, which is not installed: {ffmpeg.HOW}"
            )
    suffixes = SUFFIXES + (ffmpeg.SUFFIXES if ffmpeg.find() else ())
    return f"holds no audio ({' '.join(suffixes)})"
