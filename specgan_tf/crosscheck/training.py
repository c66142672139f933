"""Checks of training: losses, gradients, whole iterations, optimizers, checkpoints.

Each function that takes a record yields its checks.
"""

import dataclasses
import os
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import checkpoint, spectral
from specgan_tf.crosscheck.derivative import STEPS, agreement, slopes_along
from specgan_tf.crosscheck.records import Record, build_gan, errors, judge, tally
from specgan_tf.losses import LOSSES


def real(r, i, n):
    """The n real batches of iteration i, [n, b, 128, 128, 1], from the audio."""
    wav = r["wav"][i * n : (i + 1) * n].astype(np.float32) / 32768
    flat = wav.reshape(-1, spectral.SLICE_LEN, 1)
    x = spectral.t_to_f(flat, r["mean"], r["std"]).numpy()
    return x.reshape(*wav.shape[:2], *x.shape[1:])


def alphas(r, i, n):
    return r["alpha"][i * n : (i + 1) * n].reshape(-1, r["z"].shape[1], 1, 1, 1)


def replaying(gan):
    """`train_step` on given draws: a function of (x, z, alpha) for each of its updates.

    It returns the loss of each update, and the gradients of D's first and of G's.
    """

    @tf.function
    def iteration(x, z, alpha):
        zs, alphas, losses, gradients = tf.unstack(z), tf.unstack(alpha), [], {}

        def keep(name, update):
            def kept(*args):
                values = update(*args)
                losses.append(values[name])
                return values

            return kept

        def spy(optimizer):
            def apply(grads, variables, original=optimizer.apply):
                for v, g in zip(variables, grads, strict=True):
                    gradients.setdefault(v.path, g)
                return original(grads, variables)

            return mock.patch.object(optimizer, "apply", apply)

        with (
            mock.patch.multiple(
                gan,
                draw_z=lambda n: zs.pop(0),
                draw_alpha=lambda x: alphas.pop(0),
                update_D=keep("D_loss", gan.update_D),
                update_G=keep("G_loss", gan.update_G),
            ),
            spy(gan.D_optimizer),
            spy(gan.G_optimizer),
        ):
            gan.train_step(x)
        return tf.stack(losses), gradients

    return iteration


def idle(gan):
    """Biases in front of a batch norm, by path: their true gradient is zero."""
    normed = {v.path.rpartition("/batch_norm")[0] for v in gan.G.variables}
    normed |= {v.path.rpartition("/batch_norm")[0] for v in gan.D.variables}
    convs = [v.path for v in gan.G.variables + gan.D.variables if "conv2d" in v.path]
    return {p for p in convs if p[-5:] == "/bias" and p.rsplit("/", 2)[0] in normed}


def training(r):
    """Losses, gradients by name, and whole 5:1 iterations on recorded draws."""
    gan, n = build_gan(r), r.option("disc_nupdates", 5)
    if "checkpoint" in r:  # one of ours, which the reference went on from
        checkpoint.restore(gan, str(r["checkpoint"]))
    if gan.loss_spec.penalty and gan.D.use_batchnorm:
        yield from deliberately_different(r, gan)
        return
    x = r.get("x")
    iteration, losses, gradients = replaying(gan), [], None
    for i in range(len(r["z"]) // (n + 1)):
        batches = real(r, i, n)
        if i == 0 and x is not None:
            # The first from the reference's own spectrogram: from the audio, the
            # rounding of its FFT (up to 0.03 from float64 near silence, ours 0.003)
            # moves dcgan's smallest gradient by 1.4e-2 and lsgan's loss by 3e-5.
            batches[0] = x
        z = r["z"][i * (n + 1) : (i + 1) * (n + 1)]
        some, first = iteration(batches, z, alphas(r, i, n))
        losses, gradients = [*losses, *some.numpy()], gradients or first
    if "checkpoint" not in r:
        yield from first_updates(r, gan, losses[0], gradients)
    yield from whole_iterations(r, gan, np.array(losses))


def first_updates(r, gan, loss, gradients):
    """D's loss before any update, its gradients, and those of G's first update."""
    lines = "train_specgan.py 273-276"
    if "x" in r:
        # Wasserstein losses are differences: relative to what is subtracted, if larger.
        logits = np.abs(build_gan(r).D(r["x"])).max()
        error = abs(loss - r["losses"][0]) / max(abs(r["losses"][0]), logits)
        # measured 5e-7; 1.1e-5 of networks of dim 2, whose G(z) with batch statistics
        # is as far off
        yield tally("losses", "train_specgan.py 181-236", "D_loss", error, 3e-5, "rel")
    for net, bound in ((gan.D, 2e-5), (gan.G, 3e-3)):
        if net is gan.D and "x" not in r:
            continue
        want = {v.path: r[f"grad/{v.path}"] for v in net.trainable_variables}
        off = [r.off(f"grad/{path}", gradients[path]) for path in want]
        if net.use_batchnorm:
            # Of the largest of all variables: the normalisation takes away most of a
            # bias's gradient, and all of it from the conv's in front of it.
            top = max(np.abs(w).max() for w in want.values())
            off = [o | {"rel": o["max"] / top} for o in off]
        # Where a pre-activation is within rounding of zero, the lrelu's slope is a toss
        # of a coin, there or here, and all gradients before it follow. The median knows
        # nothing of it.
        what = f"{net.name}'s gradients"
        median = float(np.median([o["rel"] for o in off]))
        # measured 4e-6 of D; 1.6e-3 (wgan-gp) of G, after five updates of D
        yield tally("gradients", lines, f"{what}, median", median, bound, "rel")
        # measured 1.3e-5 of D, 1.9e-3 after such a toss; 1.6e-3 of G
        yield judge("gradients", lines, f"{what}, worst", off, 2e-2, "rel")


def whole_iterations(r, gan, losses, since=0, stage="iterations"):
    """Losses on the way and the variables in the end, from update `since` on."""
    lines, dead = "train_specgan.py 285-295", idle(gan)
    want = r["losses"][since:]
    # Of the mean if that is larger: Wasserstein losses pass through zero.
    off = np.abs(losses - want) / np.maximum(np.abs(want), np.abs(want).mean())
    for who in "DG":
        median = np.median(off[r["order"][since:] == who])
        # measured 1e-4
        yield tally(stage, lines, f"{who}'s losses, median", median, 4e-4, "rel")
    # measured 3.3e-4, 8.4e-4 after a toss (see first_updates)
    yield tally(stage, lines, "losses, worst", off.max(), 4e-3, "rel")
    variables = [v for v in gan.G.variables + gan.D.variables if v.path not in dead]
    off = {v.path: r.off(f"final/{v.path}", v) for v in variables}
    averages = [off.pop(path) for path in [*off] if "/moving_" in path]
    if averages:
        # measured 4e-7; with Adam 4.9e-5: idle biases move on, by rounding's direction
        bound = 5e-6 if gan.loss_name in ("wgan", "lsgan") else 3e-4
        yield judge(stage, lines, "moving averages", averages, bound)
    if gan.loss_name in ("wgan", "lsgan"):
        # measured 9.3e-10; 1.5e-6, 5.7e-5 after a toss
        bound = {"wgan": 5e-9, "lsgan": 3e-4}[gan.loss_name]
        yield judge(stage, lines, f"variables, {gan.loss_name}", off.values(), bound)
        # and that is small beside how far they have moved
        for net in (gan.G, gan.D) if "checkpoint" not in r else ():
            paths = [v.path for v in net.variables if v.path in off]
            moved = max(r.off(f"init/{v.path}", v)["max"] for v in net.variables)
            error = max(off[path]["max"] for path in paths)
            # measured 2.6e-3, of D in lsgan, 2.6e-2 after a toss. In wgan, clipping
            # leaves G no gradient.
            what = f"{net.name}'s variables, of their movement"
            yield tally(stage, lines, what, error / (moved or 1.0), 0.1, "of movement")
    else:
        # The mean: with Adam an entry whose gradient is near zero takes steps of full
        # size, in either direction.
        mean = np.mean([o["mean"] for o in off.values()])
        worst = judge(stage, lines, "variables, Adam", off.values(), 1e-5)
        yield dataclasses.replace(worst, by="mean", error=mean)  # measured 3e-6
    yield counts(r, gan, stage)


def counts(r, gan, stage):
    """Updates so far: of G, which the reference counts, and of D."""
    steps = [gan.global_step, int(gan.D_optimizer.iterations)]
    step = int(r["final/global_step"])
    wrong = steps != [step, step * gan.disc_nupdates]
    return tally(stage, "train_specgan.py 274-275", "global_step", wrong)


def deliberately_different(r, gan):
    """Batch norm under the gradient penalty, where TF 1.12's second derivative is wrong
    and ours is not: the first loss agrees, updates cannot. Finite differences judge."""
    lines = "train_specgan.py 222-236"
    x = r["x"] if "x" in r else real(r, 0, 1)[0]
    z, alpha = r["z"][0], alphas(r, 0, 1)[0]
    with tf.GradientTape() as tape:
        value, _ = gan.D_loss(x, z, alpha)
    off = errors(float(value), r["losses"][0])
    # measured 1.2e-6
    yield judge("losses", lines, "D_loss, batch norm", off, 5e-6, "rel")
    if r.group("grad/"):
        D_vars = gan.D.trainable_variables
        grads = tape.gradient(value, D_vars)
        off = [
            r.off(f"grad/{v.path}", g)
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


def saved(r):
    """A checkpoint that the reference's Saver wrote, restored here."""
    bn = int(r.option("batchnorm", False))
    folder = os.path.dirname(r.path)
    for name in (r.name, f"ckpt_{r['loss']}_bn{bn}"):
        if os.path.isdir(os.path.join(folder, name)):
            break
    else:
        return
    stage, lines = "checkpoints", "train_specgan.py 279-283"
    prefix = checkpoint.latest(os.path.join(folder, name))
    gan, n = build_gan(r), r.option("disc_nupdates", 5)
    checkpoint.restore(gan, prefix)
    theirs = checkpoint.reader(prefix)
    with tempfile.TemporaryDirectory() as d:
        ours = checkpoint.reader(checkpoint.save(gan, d))
        # Its momentum is 0: the slot is never used.
        keys = [k for k in theirs.get_variable_to_shape_map() if "RMSProp_1" not in k]
        off = [errors(ours.get_tensor(k), theirs.get_tensor(k)) for k in keys]
    # measured 6e-8: beta powers, which we compute and the reference multiplies up
    yield judge(stage, lines, "restored, and saved again", off, 1e-6, "rel")
    step = gan.global_step
    if step == int(r["final/global_step"]):
        off = [r.off(f"final/{v.path}", v) for v in gan.G.variables + gan.D.variables]
        yield judge(stage, lines, "restored, variables", off, 0)
        yield counts(r, gan, stage)
    elif not (gan.loss_spec.penalty and gan.D.use_batchnorm):
        iteration, losses = replaying(gan), []
        for i in range(step, len(r["z"]) // (n + 1)):
            z = r["z"][i * (n + 1) : (i + 1) * (n + 1)]
            losses += [*iteration(real(r, i, n), z, alphas(r, i, n))[0].numpy()]
        since = step * (n + 1)
        yield from whole_iterations(r, gan, np.array(losses), since, stage)


def draws(r):
    """z and alpha of training: uniform, by their quantiles."""
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


def optimizer(r):
    variable = keras.Variable(r["v"])
    ours = LOSSES[str(r["loss"])].optimizer()
    for step, g in enumerate(r["g"], 1):
        ours.apply([tf.constant(g)], [variable])
        if f"step{step}" in r:
            off, what = r.off(f"step{step}", variable), f"{r['loss']}, {step} steps"
            # measured 0 and 6e-8
            yield judge("optimizers", "train_specgan.py 243-276", what, off, 1e-6)
