"""The modes of train_specgan.py, and the flags that each takes."""

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
SPECTROGRAMS = "specgan_log_eps specgan_pad_front specgan_clip_nstd data_moments_fp"
SOUNDS = f"specgan_ngl specgan_gl_ specgan_genr_upsample seed {SPECTROGRAMS}"
# Of each mode, the flags that it takes, or how their names begin. Others may be given,
# as in the reference, and change nothing.
TAKES = {
    "train": "data_ specgan_ train_ mixed_precision jit_compile seed",
    "moments": f"data_ {SPECTROGRAMS} specgan_moments shard seed overwrite",
    "merge": f"{SPECTROGRAMS} specgan_moments overwrite",
    "preview": f"preview_ once train_batch_size {SOUNDS}",
    "generate": "generate_ z_fp interpolate walk grid truncation normalize overwrite "
    f"data_sample_rate {SOUNDS}",
    "report": f"report_ data_ overwrite {SOUNDS}",
    "infer": f"overwrite data_sample_rate {SOUNDS}",
    "to_tf1": SPECTROGRAMS,
    "incept": f"incept_ once data_ score_real_n {SOUNDS}",
    "score": f"score_ fix_length incept_ data_ {SOUNDS}",
    "classifier": "classifier_ data_ train_batch_size incept_k seed overwrite",
    "backup": "train_backup_mins once",
}


def takes(mode, name):
    """Whether a mode takes the flag of this name."""
    return any(
        name == taken or (taken.endswith("_") and name.startswith(taken))
        for taken in TAKES[mode].split()
    )
