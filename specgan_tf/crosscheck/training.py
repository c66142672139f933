"""Checks of training: losses, gradients, whole iterations, optimizers, checkpoints.

Each function that takes a record yields its checks.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from specgan_tf.crosscheck.derivative import STEPS, agreement, slopes_along
from specgan_tf.crosscheck.iterations import alphas, from_audio, real, replay
from specgan_tf.crosscheck.kinks import farthest
from specgan_tf.crosscheck.records import (
    Check,
    Record,
    build_gan,
    errors,
    judge,
    tally,
)
from specgan_tf.gan import SpecGAN
from specgan_tf.losses import LOSSES
from specgan_tf.weights import checkpoint, folders
from specgan_tf.weights.tensors import Checkpoint


def idle(gan: SpecGAN) -> set[str]:
    """Paths of biases before a batch norm, whose true gradient is zero."""
    normed = {v.path.rpartition("/batch_norm")[0] for v in gan.G.variables}
    normed |= {v.path.rpartition("/batch_norm")[0] for v in gan.D.variables}
    convs = [v.path for v in gan.G.variables + gan.D.variables if "conv2d" in v.path]
    return {p for p in convs if p[-5:] == "/bias" and p.rsplit("/", 2)[0] in normed}


def training(r: Record) -> Iterator[Check]:
    """Checks of losses, gradients, and whole 5:1 iterations, on recorded draws."""
    gan = build_gan(r)
    if "checkpoint" in r:  # one of ours, from which the reference continued
        checkpoint.restore(gan, str(r["checkpoint"]))
    if gan.loss_spec.penalty and gan.D.use_batchnorm:
        yield from deliberately_different(r, gan)
        return
    logits = gan.D(real(r, 0, 1)[0]).numpy()
    replayed = replay(r, gan)
    if r.group("updates/"):
        if "wav" in r:
            yield x_norm(r)
        yield from every_update(r, gan, replayed)
        return
    if "checkpoint" not in r:
        yield from first_updates(r, gan, logits, replayed)
    yield from whole_iterations(r, gan, replayed.losses)


def x_norm(r: Record) -> Check:
    """A check of the real batches: ours from the audio, and the reference's."""
    x = np.concatenate([from_audio(r, i, 1) for i in range(len(r["x"]))])
    # measured 1.7e-8
    off = errors(x, r["x"])
    return judge("t_to_f", "train_specgan.py 31-45", "X_norm", off, 2e-7, "mean")


def every_update(
    r: Record,
    gan: SpecGAN,
    replayed: SimpleNamespace,
    since: int = 0,
    stage: str = "updates",
) -> Iterator[Check]:
    """Checks of each update, from the reference's own state: the loss, the gradients,
    and the values afterwards."""
    yield farthest(stage, replayed.met)
    off = relative_losses(replayed.losses, r["losses"][since:])
    # measured 2.4e-7; 8.3e-6 with wgan, whose losses are small differences of logits;
    # 1.6e-5 with batch norm, whose G(z) has the same error
    bound = 1e-4 if gan.D.use_batchnorm else 3e-5
    yield tally(stage, "train_specgan.py 181-236", "losses", off.max(), bound, "rel")
    for net in (gan.D, gan.G):
        lines, who = "train_specgan.py 273-295", net.name
        gradients, left = [], {}
        grads = r.group(f"updates/grad/{who}/")
        largest = max(np.abs(g).max() for g in grads.values())
        of_net = [i for i, (mover, _) in enumerate(replayed.turns) if mover == who]
        for i in of_net:
            _, j = replayed.turns[i]
            want = {k: v[j] for k, v in grads.items()}
            got = {k[2:]: v for k, v in replayed.gradients[i].items()}
            gradients += relative_gradients(got, want, largest, net.use_batchnorm)
            for name, value in replayed.after[i].items():
                off = errors(value, r[f"updates/after/{who}/{name}"][j])
                kind = SLOTS.get(name.rpartition("/")[2], "variables")
                left.setdefault(kind, []).append(off)
        # measured 4e-5; 1.3e-4 for dcgan's last bias
        yield judge(stage, lines, f"{who}'s gradients", gradients, 1e-3, "rel")
        # measured 4e-7; 1.3e-5 with dcgan, where TF 1.12 computes 1 - 0.999 in float32
        yield judge(stage, lines, f"{who}'s slots", left["slots"], 5e-5, "rel")
        # measured 1.2e-7: gammas near one, rounded differently
        yield judge(stage, lines, f"{who}'s variables", left["variables"], 5e-7)
        if "moving averages" in left:
            what, off = f"moving averages after {who}'s", left["moving averages"]
            # measured 1.2e-7
            yield judge(stage, "specgan.py 57, 105-109", what, off, 1e-6)
    yield counts(r, gan, stage)


# Kinds of values after an update, by the last part of the name; others are variables.
SLOTS = dict.fromkeys(("Adam", "Adam_1", "RMSProp"), "slots")
SLOTS |= dict.fromkeys(("moving_mean", "moving_variance"), "moving averages")


def relative_losses(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Errors [updates] of losses, relative to each loss, or to the mean if that is
    larger: Wasserstein losses pass through zero."""
    return np.abs(got - want) / np.maximum(np.abs(want), np.abs(want).mean())


def relative_gradients(
    got: dict[str, np.ndarray],
    want: dict[str, np.ndarray],
    largest: float,
    normed: bool,
) -> Iterator[dict[str, float]]:
    """Errors of gradients by name; `rel` is relative to the variable's largest value.

    If a hundredth of `largest`, over all variables and updates, is larger, `rel` is
    relative to that: with Wasserstein losses the gradient of a bias may be a difference
    of equal numbers. With batch norm it is relative to the largest of all variables:
    the normalisation removes most of a bias's gradient, and all of it for the bias of
    the convolution before it.
    """
    tops = {name: np.abs(w).max() for name, w in want.items()}
    least = max(largest * 1e-2, max(tops.values()) * normed)
    for name, top in tops.items():
        off = errors(got[name], want[name])
        yield off | {"rel": off["max"] / max(top, least, 1e-12)}


def first_updates(
    r: Record, gan: SpecGAN, logits: np.ndarray, replayed: SimpleNamespace
) -> Iterator[Check]:
    """Checks of D's first loss and gradients, and of G's first gradients."""
    lines = "train_specgan.py 273-276"
    if "x" in r:
        # Wasserstein losses are differences of logits: relative to these, if larger.
        size = max(abs(r["losses"][0]), np.abs(logits).max())
        error = abs(replayed.losses[0] - r["losses"][0]) / size
        # measured 5e-7
        yield tally("losses", "train_specgan.py 181-236", "D_loss", error, 3e-6, "rel")
    # measured 1.3e-5; 9.5e-4 for G, after five updates of D
    for net, bound in ((gan.D, 2e-5), (gan.G, 3e-3)):
        if net is gan.D and "x" not in r:
            continue
        first = [who for who, _ in replayed.turns].index(net.name)
        gradients = replayed.gradients[first]
        want = {v.path: r[f"grad/{v.path}"] for v in net.trainable_variables}
        off = [r.off(f"grad/{path}", gradients[path]) for path in want]
        if net.use_batchnorm:
            # Relative to the largest of all variables, as in `relative_gradients`.
            top = max(np.abs(w).max() for w in want.values())
            off = [o | {"rel": o["max"] / top} for o in off]
        yield judge("gradients", lines, f"{net.name}'s gradients", off, bound, "rel")


def whole_iterations(
    r: Record,
    gan: SpecGAN,
    losses: np.ndarray,
    since: int = 0,
    stage: str = "iterations",
) -> Iterator[Check]:
    """Checks of all losses, and of the variables at the end, from update `since` on.

    For goldens, whose records do not hold the values after each update. None of them
    has a pre-activation within rounding of zero.
    """
    lines, dead = "train_specgan.py 285-295", idle(gan)
    off = relative_losses(losses, r["losses"][since:])
    # measured 1e-4
    yield tally(stage, lines, "losses", off.max(), 4e-4, "rel")
    variables = [v for v in gan.G.variables + gan.D.variables if v.path not in dead]
    off = {v.path: r.off(f"final/{v.path}", v) for v in variables}
    averages = [off.pop(path) for path in [*off] if "/moving_" in path]
    if averages:
        # measured 4e-7; with Adam 4.9e-5: rounding moves idle biases
        bound = 5e-6 if gan.loss_name in ("wgan", "lsgan") else 3e-4
        yield judge(stage, lines, "moving averages", averages, bound)
    if gan.loss_name in ("wgan", "lsgan"):
        # measured 2.3e-10, 1.5e-6
        bound = {"wgan": 1e-9, "lsgan": 2e-6}[gan.loss_name]
        yield judge(stage, lines, f"variables, {gan.loss_name}", off.values(), bound)
        # The error is also small relative to the movement.
        for net in (gan.G, gan.D) if "checkpoint" not in r else ():
            paths = [v.path for v in net.variables if v.path in off]
            moved = max(r.off(f"init/{v.path}", v)["max"] for v in net.variables)
            error = max(off[path]["max"] for path in paths)
            # measured 1.5e-3. In wgan, clipping leaves G no gradient.
            what = f"{net.name}'s variables, of their movement"
            yield tally(stage, lines, what, error / (moved or 1.0), 1e-2, "of movement")
    else:
        # The mean error: where a gradient is near zero, Adam takes steps of full size,
        # in either direction.
        mean = np.mean([o["mean"] for o in off.values()])
        worst = judge(stage, lines, "variables, Adam", off.values(), 1e-5)
        yield dataclasses.replace(worst, by="mean", error=mean)  # measured 3e-6
    yield counts(r, gan, stage)


def counts(r: Record, gan: SpecGAN, stage: str) -> Check:
    """A check of the numbers of updates: of G, which the reference counts, and of D."""
    steps = [gan.global_step, int(gan.D_optimizer.iterations)]
    step = int(r["final/global_step"])
    wrong = steps != [step, step * gan.disc_nupdates]
    return tally(stage, "train_specgan.py 274-275", "global_step", wrong)


def deliberately_different(r: Record, gan: SpecGAN) -> Iterator[Check]:
    """Checks of batch norm with the gradient penalty, where TF 1.12's second derivative
    is wrong: the first loss agrees, updates cannot. Finite differences judge ours."""
    lines = "train_specgan.py 222-236"
    x = real(r, 0, 1)[0]
    z, alpha = r["z"][0], alphas(r, 0, 1)[0]
    with tf.GradientTape() as tape:
        value, _ = gan.D_loss(x, z, alpha)
    off = errors(float(value), r["losses"][0])
    # measured 1.2e-6
    yield judge("losses", lines, "D_loss, batch norm", off, 5e-6, "rel")
    if first := r.group("updates/grad/"):
        D_vars = gan.D.trainable_variables
        grads = tape.gradient(value, D_vars)
        off = [
            errors(g, first[v.path][0])
            for v, g in zip(D_vars, grads, strict=True)
            if v.path not in idle(gan)
        ]
        what = "D's gradients, batch norm"
        yield judge("gradients", lines, what, off, None, "rel")
    rs = np.random.RandomState(0)
    directions = {v.path: rs.randn(*v.shape) for v in gan.D.trainable_variables}
    # At an lrelu's kink there is no derivative to compare.
    r = Record(r | {"smooth": True}, r.path)
    analytic, differences = slopes_along(r, x, z, alpha, directions, STEPS)
    yield agreement(analytic, differences)


def saved(r: Record) -> Iterator[Check]:
    """Checks of a checkpoint that the reference's Saver wrote, restored here."""
    bn = int(r.option("batchnorm", False))
    folder = os.path.dirname(r.path)
    for name in (r.name, f"ckpt_{r['loss']}_bn{bn}"):
        if os.path.isdir(os.path.join(folder, name)):
            break
    else:
        return
    stage, lines = "checkpoints", "train_specgan.py 279-283"
    prefix = folders.latest(os.path.join(folder, name))
    gan = build_gan(r)
    checkpoint.restore(gan, prefix)
    theirs = Checkpoint(prefix)
    with tempfile.TemporaryDirectory() as d:
        ours = Checkpoint(checkpoint.save(gan, d))
        # RMSProp_1 is the momentum's slot. The momentum is 0, so it is never used.
        keys = [k for k in theirs.shapes if "RMSProp_1" not in k]
        off = [errors(ours[k], theirs[k]) for k in keys]
    # measured 6e-8: beta powers, which the reference multiplies step by step
    yield judge(stage, lines, "restored, and saved again", off, 1e-6, "rel")
    step = gan.global_step
    if step == int(r["final/global_step"]):
        off = [r.off(f"final/{v.path}", v) for v in gan.G.variables + gan.D.variables]
        yield judge(stage, lines, "restored, variables", off, 0)
        yield counts(r, gan, stage)
    elif not (gan.loss_spec.penalty and gan.D.use_batchnorm):
        replayed, since = replay(r, gan, step), step * (gan.disc_nupdates + 1)
        if r.group("updates/"):
            yield from every_update(r, gan, replayed, since, stage)
        else:
            yield from whole_iterations(r, gan, replayed.losses, since, stage)


def draws(r: Record) -> Iterator[Check]:
    """Checks of z and alpha in training: the quantiles of a uniform distribution."""
    gan = build_gan(r)
    z, alpha = (
        gan.draw_z(50000 // gan.G.latent_dim),
        gan.draw_alpha(tf.zeros([50000, 1])),
    )
    for what, got, low in (("z", z, -1), ("alpha", alpha, 0)):
        got = np.sort(np.ravel(got))
        off = errors(got, np.linspace(low, 1, got.size))
        # of 50,000 draws, beyond this once in 10,000 times
        yield judge("draws", "train_specgan.py 127, 226", what, off, 0.02)


def optimizer(r: Record) -> Iterator[Check]:
    variable = keras.Variable(r["v"])
    ours = LOSSES[str(r["loss"])].optimizer()
    for step, g in enumerate(r["g"], 1):
        ours.apply([tf.constant(g)], [variable])
        if f"step{step}" in r:
            off, what = r.off(f"step{step}", variable), f"{r['loss']}, {step} steps"
            # measured 0 and 6e-8
            yield judge("optimizers", "train_specgan.py 243-276", what, off, 1e-6)
