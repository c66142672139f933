"""The modes of train_specgan.py."""

# Mode -> the module of specgan_tf.cli that has its `run_MODE`.
MODES: dict[str, str] = {
    "train": "train",
    "moments": "data",
    "merge": "data",
    "preview": "follow",
    "generate": "generate",
    "report": "report",
    "infer": "infer",
    "to_tf1": "infer",
    "incept": "score",
    "score": "score",
    "classifier": "classifier",
    "backup": "follow",
}

ABOUT: dict[str, str] = {
    "train": "learn from a folder of sounds, or continue a training",
    "moments": "compute the moments that normalise spectrograms",
    "merge": "combine the shards that moments --shard made",
    "preview": "render fixed latents at each new checkpoint",
    "generate": "make sounds",
    "report": "write one HTML page about a training: curves, sounds, health",
    "infer": "write a SavedModel to TRAIN_DIR/infer",
    "to_tf1": "write a folder that the original can continue",
    "incept": "score each new checkpoint, and keep the best",
    "score": "compare generated sounds, or WAV files, with real ones",
    "classifier": "train the classifier that an inception score needs",
    "backup": "copy the newest checkpoint to TRAIN_DIR/backup every "
    "--train_backup_mins minutes",
}

_FOLDER = {"TRAIN_DIR": "training folder"}
_MODEL = {
    "[TRAIN_DIR]": "training folder, a checkpoint's prefix, a generator's .npz, or the "
    "name of a bundled model: drums or digits (default: drums)"
}
# Mode -> what it takes besides flags, in order, and the help; [NAME] may be left out.
ARGUMENTS: dict[str, dict[str, str]] = dict.fromkeys(MODES, _FOLDER) | {
    "train": {"TRAIN_DIR": "training folder: a new one, or one to continue"},
    "generate": _MODEL,
    "infer": _MODEL,
    "score": {
        "TRAIN_DIR": "training folder, a checkpoint's prefix, or a folder of WAV files"
    },
    "to_tf1": {
        "TRAIN_DIR": "training folder, or a checkpoint's prefix",
        "OUT_DIR": "a new folder",
    },
    "classifier": {
        "DATA_DIR": "folder of labelled sounds",
        "OUT_DIR": "folder to write the classifier to",
    },
}
