"""Finding audio files in a folder.

Port of how train_specgan.py finds files (chrisdonahue/wavegan 40e85e8, lines 745-754).
"""

import logging
import os

from specgan_tf.files import InputError

SUFFIXES = tuple(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split()
)

log = logging.getLogger("specgan_tf")


def find_audio(data_dir, recursive=False):
    """Paths of the audio files in a folder, sorted; what is not audio is named once.

    Sub-folders are looked into if `recursive`, or if there is no audio beside them.

    differs: the original takes an unsorted glob of everything, folders and text files
    too.  [train_specgan.py:745, 752]

    Raises:
      InputError: no such folder, nothing in it, or no audio in it.
    """
    if not os.path.isdir(data_dir):
        what = "is not a folder" if os.path.exists(data_dir) else "does not exist"
        raise InputError(f"data_dir {data_dir} {what}")
    found = [os.path.join(data_dir, name) for name in os.listdir(data_dir)]
    if recursive:
        found = []
        for root, folders, names in os.walk(data_dir):
            folders[:] = [f for f in folders if not f.startswith(".")]
            found += [os.path.join(root, name) for name in names]
    found = sorted(p for p in found if not os.path.basename(p).startswith("."))
    audio = [p for p in found if p.lower().endswith(SUFFIXES) and os.path.isfile(p)]
    if not audio:
        if not recursive and any(map(os.path.isdir, found)):
            log.info("No audio in %s itself: looking into its sub-folders", data_dir)
            return find_audio(data_dir, recursive=True)
        what = f"holds no audio ({' '.join(SUFFIXES)})" if found else "is empty"
        raise InputError(f"data_dir {data_dir} {what}")
    known = set(audio)
    other = [os.path.basename(p) for p in found if p not in known]
    if other:
        names = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        log.warning("Not audio, left out (%d): %s", len(other), names)
    return audio
