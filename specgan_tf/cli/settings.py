"""The settings of a run: flags given, what the folder records, the flags' defaults.

`settle` makes of them the `args` that every mode takes.
"""

import contextlib
import logging
import os
import random
import types

from specgan_tf import moments, spectral
from specgan_tf.files import InputError, replacing
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import UPSAMPLE_ALIASES
from specgan_tf.weights import bundled, folders, tensors
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")

# What a folder records outranks a default; what is given outranks what is recorded, but
# cannot contradict what the networks are.
STRUCTURE = {
    "specgan_kernel_len": "kernel_len",
    "specgan_dim": "dim",
    "specgan_batchnorm": "use_batchnorm",
    "specgan_latent_dim": "latent_dim",
    "specgan_genr_upsample": "upsample",
}
# How spectrograms are computed: networks have learned those, and moments are of those.
ANALYSIS = {
    "specgan_log_eps": "log_eps",
    "specgan_pad_front": "pad_front",
    "specgan_clip_nstd": "clip_nstd",
}
# As in `spectral.GriffinLim`. Recorded, but a flag may say otherwise.
INVERSION = "specgan_ngl", "specgan_gl_window", "specgan_gl_momentum"
PATHS = "data_dir", "data_moments_fp", "data_cache"


def settle(parser, given):
    """Every setting: flags given, then the folder's args.txt, then defaults.

    differs: the reference's every mode rewrites args.txt; here train does, and a flag
    that contradicts the networks in the folder is refused.  [train_specgan.py:720-722]

    Args:
      parser: of train_specgan.py; it knows its defaults, and reads what is recorded.
      given: flag -> value, and mode.

    Returns:
      A namespace of each flag, mode, what else was given, and
        defaults: flag -> default.
        recorded: the flags that args.txt keeps.
        settle: call it for the settings anew, of a folder that has changed.

    Raises:
      InputError: settings that cannot be, or contradict each other.
    """
    path, mode = given.setdefault("train_dir", None), given["mode"]
    upsample = given.get("specgan_genr_upsample")
    if upsample in UPSAMPLE_ALIASES:
        given["specgan_genr_upsample"] = UPSAMPLE_ALIASES[upsample]
    # Each turns off what is recorded of the other.
    normalize = "data_normalize", "data_no_normalize"
    for one, other in (normalize, normalize[::-1]):
        if given.get(one):
            given[other] = False
    if bundled.find(path):
        return settle_bundled(parser, given)
    folder = folders.folder_of(path)
    if folder != path and mode not in ("generate", "infer", "score", "to_tf1"):
        raise InputError(f"{path} is a checkpoint; {mode} takes its folder, {folder}")
    if mode == "train":
        tensors.check_name(path)
    recorded, source = {}, os.path.join(folder, "args.txt")
    for name, text in folders.read_args(folder).items():
        if name not in parser.recorded or text == "None":
            continue
        try:
            recorded[name] = parser.parse_recorded(name, text)
        except ValueError:
            raise InputError(f"{source}: {name} cannot be {text!r}") from None
    upsample = recorded.get("specgan_genr_upsample")
    if upsample in UPSAMPLE_ALIASES:
        recorded["specgan_genr_upsample"] = UPSAMPLE_ALIASES[upsample]

    prefix, of_checkpoint = None, {}
    if os.path.exists(folder):
        prefix, of_checkpoint = folders.read_latest(path, recorded_in, folders.latest)
    recorded |= of_checkpoint
    if prefix:
        recorded = recorded_analysis(parser, given, source) | recorded
        # 16384 samples at another rate are another sound, and so are their moments.
        fixed = [*STRUCTURE, *ANALYSIS, "data_sample_rate"]
        if mode == "train":
            fixed.append("specgan_loss")
            loss = of_checkpoint.get("specgan_loss")
            if loss and loss not in LOSSES:
                raise InputError(
                    f"{prefix} was trained in Python with a loss of its own, {loss!r}: "
                    "go on there (specgan_tf.weights.checkpoint.restore)"
                )
            require_known(prefix, os.path.isfile(source), {**recorded, **given})
        source = f"{source} and {os.path.basename(prefix)}"
        refuse_contradictions(given, recorded, fixed, source)
    # Not inherited: the moments in the folder come first, and a training's seed is not
    # for what is made with it.
    recorded.pop("data_moments_fp", None)
    if mode not in ("moments", "train"):
        recorded.pop("seed", None)
    kept = {
        name: value
        for name, value in recorded.items()
        if name not in given and value != parser.defaults[name]
    }
    if kept and mode == "train":
        settings = ", ".join(f"{k} {v}" for k, v in sorted(kept.items()))
        log.info("As recorded in %s: %s", folder, settings)
    if prefix and mode == "train" and os.path.isfile(os.path.join(folder, "args.txt")):
        log_changes(parser, given, {**parser.defaults, **recorded})
    again = {"settle": lambda: settle(parser, dict(given))}
    return namespace(parser, recorded, given | again)


def recorded_in(prefix):
    """(prefix, the flags that its tensors tell: name -> value); {} for None."""
    if prefix is None:
        return None, {}
    ckpt = Checkpoint.open(prefix)
    told = {f: ckpt.options[o] for f, o in STRUCTURE.items() if o in ckpt.options}
    return prefix, told | ({"specgan_loss": ckpt.loss} if ckpt.loss else {})


def settle_bundled(parser, given):
    """`settle`, of a model in one file: its card says what args.txt does elsewhere."""
    path, mode = bundled.find(given["train_dir"]), given["mode"]
    if mode not in ("generate", "infer"):
        raise InputError(f"{path} is a model alone; {mode} takes a training folder")
    card = bundled.read_card(path)
    recorded = {flag: card["options"][option] for flag, option in STRUCTURE.items()}
    recorded["data_sample_rate"] = card["sample_rate"]
    analysis = bundled.analysis_of(card)
    recorded |= {flag: analysis[option] for flag, option in ANALYSIS.items()}
    refuse_contradictions(given, recorded, recorded, path)
    recorded |= dict(zip(INVERSION, bundled.griffin_lim_of(card), strict=True))
    return namespace(parser, recorded, given)


def recorded_analysis(parser, given, args_fp):
    """How the spectrograms of a folder with a checkpoint were computed.

    An args.txt without a word on it is the original's or older than these options, so
    they were the original's. Without an args.txt the moments are asked.
    """
    if os.path.isfile(args_fp):
        return {flag: parser.defaults[flag] for flag in ANALYSIS}
    with contextlib.suppress(InputError):  # those who need moments say what is wrong
        fp = given.get("data_moments_fp")
        found = folders.load_moments(given["train_dir"], fp).analysis
        return {flag: found[option] for flag, option in ANALYSIS.items()}
    return {}


def namespace(parser, recorded, given):
    """What is given outranks what is recorded, and that the defaults."""
    known = {"defaults": parser.defaults, "recorded": parser.recorded}
    return types.SimpleNamespace(**{**parser.defaults, **recorded, **given, **known})


def refuse_contradictions(given, recorded, names, source):
    """Refuse a flag given that is not as `source` recorded it, among these."""
    for name in names:
        if name in given and name in recorded and given[name] != recorded[name]:
            raise InputError(
                f"--{name} {given[name]} contradicts {name} {recorded[name]} of "
                f"{source}; leave the flag out, or use another train_dir"
            )


def log_changes(parser, given, before):
    """Log the flags given whose value is not the training's so far."""
    for name in sorted(given.keys() & parser.recorded - {*PATHS}):
        if given[name] != before[name]:
            was = "unset" if before[name] is None else before[name]
            log.info("Changed: %s is %s from now on, was %s", name, given[name], was)


def require_known(prefix, has_args, settings):
    """Refuse to go on with a checkpoint, of defaults that it may not have had."""
    names = ["specgan_loss", "specgan_genr_upsample", *(["data_dir"] * (not has_args))]
    for name in names:
        if settings.get(name) is None:
            raise InputError(
                f"{prefix} does not say its {name}, and no args.txt does: pass --{name}"
            )


def settings(args):
    """The lines of args.txt; paths so that they hold from anywhere."""
    settings = {name: getattr(args, name) for name in args.recorded}
    for name in PATHS:
        keyword = "memory" if name == "data_cache" else None
        if settings[name] not in (None, keyword):
            settings[name] = os.path.abspath(settings[name])
    return [folders.args_line(k, v) for k, v in sorted(settings.items())]


def hparams(args):
    """The settings, but for paths, for TensorBoard's table of trainings."""
    settings = {name: getattr(args, name) for name in args.recorded - {*PATHS}}
    return {k: v for k, v in settings.items() if isinstance(v, (int, float, str))}


def write_args(args):
    """Record the settings in args.txt."""
    lines = settings(args)
    with replacing(os.path.join(args.train_dir, "args.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


def griffin_lim(args):
    return spectral.GriffinLim(*(getattr(args, flag) for flag in INVERSION))


def analysis(args):
    """How spectrograms are computed, as in `Moments.analysis`."""
    return {option: getattr(args, flag) for flag, option in ANALYSIS.items()}


def load_moments(path, args):
    """`folders.load_moments`, refused if they are not of this run's spectrograms."""
    found = folders.load_moments(path, args.data_moments_fp)
    where = args.data_moments_fp or folders.moments_fp(path)
    moments.require_analysis(found, analysis(args), where)
    return found


def upsample_of(args):
    # zeros shows in a checkpoint; the default must not hide that nothing was said.
    upsample = args.specgan_genr_upsample
    return None if upsample == "zeros" else upsample


def draw_seed(args):
    return random.randrange(2**31) if args.seed is None else args.seed


def unasked_dir(args, name, alone):
    """Where to write: in a training's folder, or of a bundled model, here."""
    if args.train_dir is None or bundled.is_name(args.train_dir):
        return alone
    return os.path.join(folders.folder_of(args.train_dir), name)
