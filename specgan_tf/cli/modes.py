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
    "backup": "copy the newest checkpoint to TRAIN_DIR/backup, again and again",
}
