"""The settings of a run: flags given, what the folder records, the flags' defaults.

`resolve_settings` makes the `Settings` that every mode takes.
"""

import contextlib
import logging
import os
import random
from collections.abc import Iterable, Mapping
from typing import Any

from specgan_tf import moments, spectral
from specgan_tf.cli.flags import FLAGS, RECORDED, Settings
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import UPSAMPLE_ALIASES
from specgan_tf.weights import bundled, folders, tensors
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")

Values = Mapping[str, Any]  # of flags, by name

# Flag -> option of the networks. What a folder records outranks a default, and a given
# flag outranks what is recorded; but it cannot contradict the networks.
STRUCTURE = {
    "specgan_kernel_len": "kernel_len",
    "specgan_dim": "dim",
    "specgan_batchnorm": "use_batchnorm",
    "specgan_latent_dim": "latent_dim",
    "specgan_genr_upsample": "upsample",
    "data_slice_len": "slice_len",
}
# Flag -> how spectrograms are computed. Networks and moments fit only such ones.
ANALYSIS = {
    "specgan_log_eps": "log_eps",
    "specgan_pad_front": "pad_front",
    "specgan_clip_nstd": "clip_nstd",
}
# The fields of `spectral.GriffinLim`. A given flag may differ from a recorded one.
INVERSION = tuple(folders.GL_FLAGS.values())
PATHS = "data_dir", "data_moments_fp", "data_cache", "train_from"


def resolve_settings(given: Values) -> Settings:
    """Every setting: flags given, then the folder's args.txt, then defaults.

    differs: the reference's every mode rewrites args.txt; here train does, and a flag
    that contradicts the networks in the folder is refused.  [train_specgan.py:720-722]

    Args:
      given: the mode, and what else was given of the fields of `Settings`, by name.

    Raises:
      InputError: settings that cannot be, or contradict each other.
    """
    asked = given
    given = {"train_dir": None, **given}
    path, mode = given["train_dir"], given["mode"]
    use_one_name(given)
    # Each of the two turns off a recorded other one.
    normalize = "data_normalize", "data_no_normalize"
    for one, other in (normalize, normalize[::-1]):
        if given.get(one):
            given[other] = False
    if bundled.find(path):
        return settings_of_bundled(given)
    folder = folders.folder_of(path)
    if folder != path and mode not in ("generate", "infer", "score", "to_tf1"):
        raise InputError(f"{path} is a checkpoint; {mode} takes its folder, {folder}")
    if mode == "train":
        tensors.check_name(path)
    args_fp = os.path.join(folder, "args.txt")
    has_args = os.path.isfile(args_fp)
    recorded, prefix = read_recorded(folder), None
    if os.path.exists(folder):
        prefix, inferred = folders.read_latest(path, recorded_in, folders.latest)
    taken = {}
    if mode == "train" and given.get("train_from"):
        given["train_from"] = absolute("train_from", given["train_from"])
        if prefix and recorded.get("train_from") != given["train_from"]:
            raise InputError(
                f"{folder} holds a training already, and --train_from begins a new "
                "one: use another train_dir"
            )
        if not prefix:
            taken = taken_over(given)
    if prefix:
        recorded = recorded_analysis(given, has_args) | recorded | inferred
        # Another sample rate means other sounds and other moments.
        fixed = [*STRUCTURE, *ANALYSIS, "data_sample_rate"]
        if mode == "train":
            fixed.append("specgan_loss")
            require_known(prefix, has_args, {**recorded, **given}, inferred)
        source = f"{args_fp} and {os.path.basename(prefix)}"
        refuse_contradictions(given, recorded, fixed, source, "another train_dir")
    # Not inherited: the folder's own moments come first, and the seed of a training is
    # not that of what is made with it.
    recorded.pop("data_moments_fp", None)
    if mode not in ("moments", "train"):
        recorded.pop("seed", None)
    if mode == "train":
        log_recorded(given, recorded, folder)
        if prefix and has_args:
            log_changes(given, recorded)
    # What a start without a checkpoint left in args.txt comes second.
    return Settings(**recorded | taken | given, given=asked)


def use_one_name(values: dict[str, Any]) -> None:
    """Replace the other names of an upsampling by its own."""
    if (name := values.get("specgan_genr_upsample")) in UPSAMPLE_ALIASES:
        values["specgan_genr_upsample"] = UPSAMPLE_ALIASES[name]


def read_recorded(folder: StrPath) -> dict[str, Any]:
    """The flags that args.txt in a folder records, name -> value."""
    recorded = {}
    for name, text in folders.read_args(folder).items():
        if name not in RECORDED or text == "None":
            continue
        try:
            recorded[name] = FLAGS[name].parse(text)
        except ValueError:
            raise InputError(
                f"{os.path.join(folder, 'args.txt')}: {name} cannot be {text!r}"
            ) from None
    use_one_name(recorded)
    return recorded


def recorded_in(prefix: str | None) -> tuple[str | None, dict[str, Any]]:
    """(prefix, the flags that a checkpoint's tensors imply); {} for None."""
    if prefix is None:
        return None, {}
    ckpt = Checkpoint.open(prefix)
    inferred = {f: ckpt.options[o] for f, o in STRUCTURE.items() if o in ckpt.options}
    return prefix, inferred | ({"specgan_loss": ckpt.loss} if ckpt.loss else {})


def settings_of_bundled(given: dict[str, Any]) -> Settings:
    """As `resolve_settings`, with a generator's card in the place of args.txt."""
    path, mode = bundled.find(given["train_dir"]), given["mode"]
    if mode not in ("generate", "infer"):
        raise InputError(
            f"{path} is a model alone; {mode} takes a training folder. (For a training "
            "that begins with its weights: --train_from)"
        )
    recorded = recorded_on_card(path)
    fixed = recorded.keys() - {*INVERSION}
    refuse_contradictions(given, recorded, fixed, path, "another model")
    return Settings(**recorded | given, given=given)


def taken_over(given: Values) -> dict[str, Any]:
    """The flags that a training takes over from the one whose weights it begins with.

    The networks' options, how spectrograms are computed and inverted, the sample rate.

    Raises:
      InputError: a given flag contradicts them; slice lengths may differ.
    """
    path = given["train_from"]
    file = bundled.find(path)
    taken = recorded_on_card(file) if file else recorded_by(path)
    fixed = taken.keys() - {"data_slice_len", *INVERSION}
    refuse_contradictions(given, taken, sorted(fixed), path, "another --train_from")
    if "specgan_genr_upsample" not in {**taken, **given}:
        raise InputError(
            f"{path} does not tell its specgan_genr_upsample: pass "
            "--specgan_genr_upsample"
        )
    log_recorded(given, taken, path)
    return taken


def recorded_by(path: StrPath) -> dict[str, Any]:
    """`recorded_on_card` for a training folder or a checkpoint."""
    folder = folders.folder_of(path)
    _, told = folders.read_latest(path, recorded_in)
    recorded = read_recorded(folder)
    has_args = os.path.isfile(os.path.join(folder, "args.txt"))
    known = recorded_analysis({"train_dir": folder}, has_args) | recorded | told
    flags = *STRUCTURE, *ANALYSIS, *INVERSION, "data_sample_rate"
    return {flag: known[flag] for flag in flags if flag in known}


def recorded_on_card(path: StrPath) -> dict[str, Any]:
    """The flags that the card of a generator in one file records."""
    card = bundled.read_card(path)
    recorded = {flag: card["options"][option] for flag, option in STRUCTURE.items()}
    recorded["data_sample_rate"] = card["sample_rate"]
    found = bundled.analysis_of(card)
    recorded |= {flag: found[option] for flag, option in ANALYSIS.items()}
    return recorded | dict(zip(INVERSION, bundled.griffin_lim_of(card), strict=True))


def recorded_analysis(given: Values, has_args: bool) -> dict[str, Any]:
    """How the spectrograms of a folder with a checkpoint were computed.

    An args.txt that does not record it is the original's, or older than these flags,
    so it means the defaults. Without an args.txt the moments tell.
    """
    if has_args:
        return {flag: FLAGS[flag].default for flag in ANALYSIS}
    with contextlib.suppress(InputError):  # raised again where moments are needed
        fp = given.get("data_moments_fp")
        found = folders.load_moments(given["train_dir"], fp).analysis
        return {flag: found[option] for flag, option in ANALYSIS.items()}
    return {}


def refuse_contradictions(
    given: Values, recorded: Values, names: Iterable[str], source: str, instead: str
) -> None:
    """Refuse a given flag, among `names`, whose value `source` recorded differently."""
    for name in names:
        if name in given and name in recorded and given[name] != recorded[name]:
            raise InputError(
                f"--{name} {given[name]} contradicts {name} {recorded[name]} of "
                f"{source}; leave the flag out, or use {instead}"
            )


def log_recorded(given: Values, recorded: Values, folder: str) -> None:
    """Log the recorded values that take the place of defaults."""
    kept = {
        name: value
        for name, value in recorded.items()
        if name not in given and value != FLAGS[name].default
    }
    if kept:
        settings = ", ".join(f"{k} {v}" for k, v in sorted(kept.items()))
        log.info("As recorded in %s: %s", folder, settings)


def log_changes(given: Values, recorded: Values) -> None:
    """Log the given flags that change the training."""
    for name in sorted(given.keys() & RECORDED - {*PATHS}):
        before = recorded.get(name, FLAGS[name].default)
        if given[name] != before:
            was = "unset" if before is None else before
            log.info("Changed: %s is %s from now on, was %s", name, given[name], was)


def require_known(
    prefix: str, has_args: bool, settings: Values, inferred: Values
) -> None:
    """Refuse to continue a checkpoint with a default that it may not have had."""
    loss = inferred.get("specgan_loss")
    if loss and loss not in LOSSES:
        raise InputError(
            f"{prefix} was trained in Python with a loss of its own, {loss!r}: "
            "continue it there (specgan_tf.weights.checkpoint.restore)"
        )
    names = ["specgan_loss", "specgan_genr_upsample", *(["data_dir"] * (not has_args))]
    for name in names:
        if settings.get(name) is None:
            raise InputError(
                f"{prefix} does not tell its {name}, and no args.txt does: pass "
                f"--{name}"
            )


def args_lines(args: Settings) -> list[str]:
    """The lines of args.txt; paths are absolute, so that they hold from anywhere."""
    settings = {name: getattr(args, name) for name in RECORDED}
    for name in PATHS:
        settings[name] = absolute(name, settings[name])
    return [folders.args_line(k, v) for k, v in sorted(settings.items())]


def absolute(name: str, value: str | None) -> str | None:
    """The value of a flag of `PATHS` as an absolute path, unless it is a keyword."""
    if name == "data_cache" and value == "memory":
        return value
    if name == "train_from" and bundled.is_name(value):
        return value
    return value and os.path.abspath(value)


def hparams(args: Settings) -> dict[str, Any]:
    """The settings without paths, for TensorBoard's table of trainings."""
    settings = {name: getattr(args, name) for name in RECORDED - {*PATHS}}
    return {k: v for k, v in settings.items() if isinstance(v, (int, float, str))}


def write_args(args: Settings) -> None:
    """Record the settings in args.txt."""
    with replacing(os.path.join(args.train_dir, "args.txt"), "w") as f:
        f.write("\n".join(args_lines(args)) + "\n")


def griffin_lim(args: Settings) -> spectral.GriffinLim:
    return spectral.GriffinLim(*(getattr(args, flag) for flag in INVERSION))


def analysis(args: Settings) -> dict[str, Any]:
    """How spectrograms are computed, as in `Moments.analysis`."""
    return {option: getattr(args, flag) for flag, option in ANALYSIS.items()}


def load_moments(path: StrPath | None, args: Settings) -> moments.Moments:
    """`folders.load_moments`, refused if spectrograms here are computed otherwise."""
    found = folders.load_moments(path, args.data_moments_fp)
    where = args.data_moments_fp or folders.moments_fp(path)
    moments.require_analysis(found, analysis(args), where)
    return found


def upsample_of(args: Settings) -> str | None:
    """The upsampling that was given or recorded; None leaves it to the checkpoint."""
    # A checkpoint shows zeros; the default must not hide that nothing was recorded.
    upsample = args.specgan_genr_upsample
    return None if upsample == "zeros" else upsample


def draw_seed(args: Settings) -> int:
    return random.randrange(2**31) if args.seed is None else args.seed


def unasked_dir(args: Any, name: str, alone: str) -> str:
    """Where to write unless told: a folder in the training's, or in the current one."""
    if args.train_dir is None or bundled.is_name(args.train_dir):
        return alone
    return os.path.join(folders.folder_of(args.train_dir), name)
