"""The mode train: data, networks and callbacks of one training, until it ends."""

import contextlib
import logging
import os
import random
import zlib
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import distribute, kernels, loader, spectral
from specgan_tf.cli import callbacks
from specgan_tf.cli.data import (
    data_errors,
    decode,
    find_files,
    making_dirs,
    slicing,
    training_moments,
)
from specgan_tf.cli.flags import Settings
from specgan_tf.cli.settings import (
    PATHS,
    analysis,
    args_lines,
    draw_seed,
    griffin_lim,
    hparams,
    write_args,
)
from specgan_tf.errors import InputError
from specgan_tf.files import only_training, replacing
from specgan_tf.gan import SpecGAN
from specgan_tf.moments import Moments
from specgan_tf.specgan import SpecGANDiscriminator, SpecGANGenerator
from specgan_tf.weights import checkpoint, folders
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")

BUFFER = 4096  # slices that are shuffled together; fewer of longer ones
HEARD = 16  # real clips that summaries compare generated ones with


def run_train(args: Settings) -> None:
    """[train_specgan.py:101-295]

    differs: the original runs until it is killed, and loses the steps after its last
    checkpoint; here --train_max_steps, Ctrl-C and SIGTERM save and end.
    [train_specgan.py:279-295]
    """
    if args.specgan_kernel_len == 1 and os.environ["TF_ENABLE_ONEDNN_OPTS"] != "0":
        raise InputError(
            "with --specgan_kernel_len 1 TensorFlow 2.21's oneDNN kernels crash; set "
            "TF_ENABLE_ONEDNN_OPTS=0 in the environment"
        )
    require_replicas(args.strategy.num_replicas_in_sync, args)
    chief = distribute.is_chief(args.strategy)
    if not chief:
        log.info("The chief worker reports on the training and saves it")
        log.setLevel(logging.WARNING)
    fps = find_files(args)
    with contextlib.ExitStack() as stack:
        stack.enter_context(distribute.reporting_lost_workers(args.strategy))
        if chief:
            stack.enter_context(making_dirs(args))
            stack.enter_context(only_training(args.train_dir))
        train_on(fps, args)


def require_replicas(n: int, args: Settings) -> None:
    """Refuse settings by which `n` replicas would train differently from one."""
    if args.train_batch_size % n:
        raise InputError(
            f"--train_batch_size must be a multiple of the {n} replicas, which share "
            f"each batch. Received: {args.train_batch_size}"
        )
    if args.specgan_batchnorm and n > 1:
        raise InputError(
            "--specgan_batchnorm needs the statistics of whole batches, but each of "
            f"{n} replicas has a part of each batch: use --train_distribute none"
        )


def train_on(fps: list[str], args: Settings) -> None:
    """Train on these files."""
    strategy, chief = args.strategy, distribute.is_chief(args.strategy)
    prefix = folders.latest(args.train_dir) if os.path.isdir(args.train_dir) else None
    # Before the chief writes anything there.
    same = [prefix and os.path.basename(prefix), *map(os.path.basename, fps)]
    same += [s for s in args_lines(args) if s.partition(",")[0] not in PATHS]
    same = zlib.crc32(repr(same).encode(errors="surrogateescape"))
    distribute.require_same(strategy, same, "flags, files or checkpoint")

    lengths = np.full(len(fps), -1, np.int64)
    mean_std = np.zeros([2, spectral.NBINS], np.float32)
    if chief:
        mean_std = np.stack(training_moments(fps, args, lengths)[:2])
    mean_std = distribute.from_chief(strategy, mean_std)
    moments = Moments(*mean_std, **analysis(args))
    with strategy.scope():
        gan = build(args)
    if chief:
        folders.remove_unfinished(args.train_dir)
        write_args(args)  # only now: such networks could be built
    if prefix:
        checkpoint.restore(gan, prefix)
        log.info("Resuming from %s", prefix)
    elif args.train_from:
        anew = folders.read_latest(
            args.train_from, lambda source: checkpoint.begin(gan, source)
        )
        begun = zlib.crc32(b"".join(v.numpy().tobytes() for v in gan.G.variables))
        distribute.require_same(strategy, begun, "weights to begin with")
        log.info("Beginning with the weights of %s", args.train_from)
        if anew:
            log.info("  but for %s, which start anew", ", ".join(anew))
    start = gan.global_step
    if args.train_max_steps and start >= args.train_max_steps:
        log.info("Step %d of %d has been reached already", start, args.train_max_steps)
        return

    data = data_state(prefix, fps, args, lengths)
    data = {k: distribute.from_chief(strategy, data[k]) for k in sorted(data)}
    seed, skip = int(data["seed"]), int(data["slices"])

    def batches(i, n):
        """The dataset of worker i of n: [disc_nupdates, b / n, 128, 128, 1] each."""
        x_wav = decode(
            fps,
            args,
            batch_size=args.train_batch_size,
            repeat=True,
            shuffle=True,
            shuffle_buffer_size=window_size(args),
            seed=seed,
            skip=skip,
            lengths=data["lengths"],
            worker=(i, n),
        )
        # differs: the original prefetches 4 * batch_size batches.  [loader.py:188]
        x = x_wav.map(moments.t_to_f, num_parallel_calls=2)
        return x.batch(args.specgan_disc_nupdates, drop_remainder=True).prefetch(2)

    per_step = args.specgan_disc_nupdates * args.train_batch_size

    def data_now():
        return data | {"slices": skip + (gan.global_step - start) * per_step}

    any_worker = distribute.any_worker_of(strategy)
    stop = callbacks.Stop(args.train_max_steps, any_worker)
    save = callbacks.Save(
        args.train_dir,
        args.train_save_secs,
        data_now,
        args.train_backup_mins,
        args.train_keep,
    )
    watch = [callbacks.Divergence(), stop]
    if chief:
        some = random.Random(seed).sample(fps, len(fps))
        with data_errors():
            some = decode(some, args, batch_size=HEARD, repeat=True, seed=seed)
            heard = next(iter(some))
        summaries = callbacks.Summaries(
            args.train_dir,
            heard,
            moments,
            args.data_sample_rate,
            griffin_lim(args),
            args.train_summary_secs,
            hparams(args),
        )
        health = callbacks.Health(summaries)
        progress = callbacks.Progress(args.train_max_steps)
        watch = [callbacks.Divergence(), progress, summaries, health, save, stop]
        if advice := advice_without_gpu(args):
            # First: then a step's time excludes what the other callbacks do after it.
            watch.insert(0, callbacks.SlowSteps(advice))
        log.info("-" * 80)
        log.info("Training has started. Ctrl-C saves and ends. To monitor it:")
        log.info("  tensorboard --logdir=%s", args.train_dir)
        log.info(
            "The first step takes long: a window of %d slices fills first",
            window_size(args),
        )
    try:
        x = distribute.feed(strategy, batches)
        if not distribute.is_distributed(strategy):  # which prefetches once more
            x = loader.timed(x, summaries.add_wait)
        with distribute.reporting_lost_workers(strategy), data_errors():
            gan.fit(x, shuffle=False, verbose=0, callbacks=watch)
    except FloatingPointError as e:
        if not chief:
            raise FloatingPointError(f"{e}: the training has diverged") from None
        # The loss is that of the last batches, or of the update before them.
        n = min(2, gan.global_step - start) * per_step
        first = data_now()["slices"] - n
        sounds = loader.origins(
            first, n, data["lengths"], seed, window_size(args), **slicing(args)
        )
        sounds = [(fps[file], sample) for file, sample in sounds]
        raise diverged(e, gan.global_step, sounds, args) from None
    except distribute.LostWorker:  # in the middle of a step: could not resume exactly
        raise
    except BaseException:
        if chief and gan.global_step > start:
            try:
                save.save()
            except (OSError, FloatingPointError) as e:  # raise the first error below
                log.warning("%s", e)
        raise
    finally:
        stop.restore_handlers()
    any_worker(False)  # wait: workers that still save need the others
    log.info("Saved step %d in %s", gan.global_step, args.train_dir)


def window_size(args: Settings) -> int:
    """Slices that are shuffled together: 256 MiB of sound, whatever their length."""
    return max(1, BUFFER * spectral.SLICE_LEN // args.data_slice_len)


def build(args: Settings) -> SpecGAN:
    """Build and compile the networks that the flags ask for; log their variables."""
    if args.seed is not None:
        keras.utils.set_random_seed(args.seed)
    common = {
        "kernel_len": args.specgan_kernel_len,
        "dim": args.specgan_dim,
        "use_batchnorm": args.specgan_batchnorm,
        "slice_len": args.data_slice_len,
    }
    try:
        G = SpecGANGenerator(
            **common,
            upsample=args.specgan_genr_upsample,
            latent_dim=args.specgan_latent_dim,
        )
        D = SpecGANDiscriminator(**common)
    except ValueError as e:  # the networks would be too large
        raise InputError(str(e)) from None
    gan = SpecGAN(G, D, args.specgan_disc_nupdates, seed=args.seed)
    gan.compile(
        loss=args.specgan_loss,
        mixed_precision=half_precision(args.mixed_precision),
        jit_compile=args.jit_compile,
        ema_momentum=args.train_ema,
    )
    for optimizer, rate in (
        (gan.G_optimizer, args.train_lr_G),
        (gan.D_optimizer, args.train_lr_D),
    ):
        if rate is not None:
            optimizer.learning_rate = rate
    print_vars("Generator", G)
    print_vars("Discriminator", D)
    return gan


def half_precision(asked: bool) -> bool:
    """Whether to compute in half precision; log the precision, and the reason."""
    fast, reason = kernels.fast_bfloat16()
    if asked:
        log.info("Precision: %s (%s)", "bfloat16" if fast else "float32", reason)
    elif fast:
        log.info("Precision: float32; --mixed_precision is faster (%s)", reason)
    else:
        log.info("Precision: float32")
    return asked and fast


def advice_without_gpu(args: Settings) -> str | None:
    """Advice on faster steps without a GPU; None with one, or for small networks."""
    dim = Settings.specgan_dim
    if args.specgan_dim < dim or tf.config.list_physical_devices("GPU"):
        return None
    advice = (
        f"On a CPU, train smaller networks: --specgan_dim {dim // 4}, in a new "
        "train_dir. A smaller --train_batch_size also makes steps faster"
    )
    if kernels.fast_bfloat16()[0] and not args.mixed_precision:
        advice += ", and so does --mixed_precision"
    return advice


def print_vars(name: str, net: keras.Model) -> None:
    """Log the reference's table of variables.  [train_specgan.py:134-143, 165-175]"""
    log.info("-" * 80)
    log.info("%s vars", name)
    total = 0
    for v in net.trainable_variables:
        shape = list(v.shape)
        n = v.value.shape.num_elements()
        total += n
        log.info("%s (%d): %s", shape, n, v.path)
    log.info("Total params: %d (%.2f MB)", total, total * 4 / (1024 * 1024))


def data_state(
    prefix: str | None, fps: list[str], args: Settings, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """The data position of a training: the checkpoint's, or the beginning.

    Args:
      lengths: int64 [len(fps)], the files' samples as far as they are known; else -1.

    original: unseeded, and shuffled anew after every interruption.  [loader.py:119]
    """
    data = [sorted(slicing(args).items()), args.data_sample_rate, window_size(args)]
    data += [args.data_no_normalize, args.data_resample]
    data += [(os.path.basename(fp), os.path.getsize(fp)) for fp in map(os.fspath, fps)]
    new = {
        "files": np.int64(zlib.crc32(repr(data).encode(errors="surrogateescape"))),
        "seed": np.int64(draw_seed(args)),
        "slices": np.int64(0),
        "lengths": lengths,
    }
    old = Checkpoint.open(prefix).data if prefix else {}
    if not old:
        return new
    other_seed = args.seed is not None and args.seed != old["seed"]
    if other_seed or old["files"] != new["files"]:
        log.info("Other files, data flags or seed than before: shuffling anew")
        return new
    return old


def diverged(
    error: FloatingPointError,
    step: int,
    sounds: Iterable[tuple[str, int]],
    args: Settings,
) -> FloatingPointError:
    """The error to end a training with; write a report of the last sounds.

    Args:
      sounds: (file, first sample) of each slice in the last batches.
    """
    report = os.path.join(args.train_dir, f"diverged-{step}.txt")
    prefix = folders.latest(args.train_dir)
    kept = f"{prefix} is the last checkpoint before"
    named = f"{report} names the last sounds"
    try:
        with replacing(report, "w") as f:
            f.write(f"{error} at step {step}; {kept}.\n\n")
            f.write("Sounds of the last two steps, first samples and files:\n")
            f.writelines(f"{sample:12d}  {fp}\n" for fp, sample in sounds)
    except OSError as e:
        named = f"{report} could not be written ({e.strerror})"
    return FloatingPointError(
        f"{error} at step {step}: the training has diverged. {kept}; {named}. The same "
        "command would diverge again: change --seed or the data, or begin another "
        "training"
    )
