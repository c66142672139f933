"""The modes of train_specgan.py."""

# Of each mode, the module of specgan_tf.cli whose `run_MODE` it is.
MODES = {
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

ABOUT = {
    "train": "learn from a folder of sounds, or go on where a training stopped",
    "moments": "compute the moments that spectrograms are normalised by",
    "merge": "merge the shards of moments that --shard made",
    "preview": "sounds of fixed latents, at each new checkpoint",
    "generate": "make sounds",
    "report": "one HTML file on a training: curves, sounds, health",
    "infer": "the SavedModel, to TRAIN_DIR/infer",
    "to_tf1": "a folder for the original to go on with",
    "incept": "score each new checkpoint, and keep the best",
    "score": "how generated sounds, or WAV files, compare with real ones",
    "classifier": "learn the classifier that an inception score needs",
    "backup": "copy checkpoints aside, now and then",
}
