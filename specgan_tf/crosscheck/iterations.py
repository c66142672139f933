"""The reference's iterations once more: our `train_step` on what it was given.

Two trainings that differ by roundings drift apart: Adam takes a step of full size where
a gradient is near zero, in either direction. So a record may hold, of each update, the
reference's gradients and what they left behind. Then every update begins from the
reference's own variables and slots; its gradients are judged; and the optimizer goes on
with the reference's gradients, so that what it leaves behind can be judged too.
"""

import types
from unittest import mock

import numpy as np
import tensorflow as tf

from specgan_tf import spectral
from specgan_tf.crosscheck.kinks import recorded, sided
from specgan_tf.weights import checkpoint


def real(r, i, n):
    """The n real batches of iteration i, [n, b, 128, 128, 1].

    As the reference's own t_to_f made them, if the record has these: near silence the
    rounding of its FFT shows (up to 0.03 from float64, ours 0.003), and moves dcgan's
    smallest gradient by 1.4e-2. Goldens have the first batch alone; the others are made
    of the audio.
    """
    x = r.get("x")
    if x is not None and x.ndim == 5:
        return x[i * n : (i + 1) * n]
    batches = from_audio(r, i, n)
    if i == 0 and x is not None:
        batches[0] = x
    return batches


def from_audio(r, i, n):
    """The n real batches of iteration i, by our t_to_f."""
    wav = r["wav"][i * n : (i + 1) * n].astype(np.float32) / 32768
    flat = wav.reshape(-1, spectral.SLICE_LEN, 1)
    x = spectral.t_to_f(flat, r["mean"], r["std"]).numpy()
    return x.reshape(*wav.shape[:2], *x.shape[1:])


def alphas(r, i, n):
    return r["alpha"][i * n : (i + 1) * n].reshape(-1, r["z"].shape[1], 1, 1, 1)


def state(gan):
    """Variables of both networks and slots of both optimizers, by their TF 1 names."""
    named = {v.path: v for v in gan.G.variables + gan.D.variables}
    named |= checkpoint.slots(gan.G_optimizer, gan.G)
    return named | checkpoint.slots(gan.D_optimizer, gan.D)


def replaying(gan, left_by=None):
    """`train_step` on given draws: a function of (x, z, alpha) for each of its updates.

    left_by: names of what an update of "D" and of "G" leaves behind, as in `state`.

    The function also takes, for each update, a dict by name of the reference's: `sides`
    (see `kinks.sided`); `before`, values to set before it; `theirs`, gradients to apply
    instead of ours. Each may be empty.

    It returns a dict of lists, for each update: `losses`, `gradients` by name, `after`,
    values by name; and `met`, what `kinks.sided` met.
    """
    named, left_by = state(gan), left_by or {"D": [], "G": []}

    @tf.function
    def iteration(x, z, alpha, sides=None, before=None, theirs=None):
        zs, alphas = tf.unstack(z), tf.unstack(alpha)
        none = [{}] * len(zs)
        sides, before, theirs = (list(a or none) for a in (sides, before, theirs))
        found = {"losses": [], "gradients": [], "after": [], "met": []}

        def watched(who, update):
            def call(*args):
                for name, value in before.pop(0).items():
                    named[name].assign(value)
                with sided(sides.pop(0), found["met"]):
                    values = update(*args)
                found["losses"].append(values[f"{who}_loss"])
                after = {name: tf.identity(named[name]) for name in left_by[who]}
                found["after"].append(after)
                return values

            return call

        def spy(optimizer):
            def apply(grads, variables, original=optimizer.apply):
                ours = {v.path: g for v, g in zip(variables, grads, strict=True)}
                found["gradients"].append(ours)
                taken = ours | theirs.pop(0)
                return original([taken[v.path] for v in variables], variables)

            return mock.patch.object(optimizer, "apply", apply)

        with (
            mock.patch.multiple(
                gan,
                draw_z=lambda n: zs.pop(0),
                draw_alpha=lambda x: alphas.pop(0),
                update_D=watched("D", gan.update_D),
                update_G=watched("G", gan.update_G),
            ),
            spy(gan.D_optimizer),
            spy(gan.G_optimizer),
        ):
            gan.train_step(x)
        return found

    return iteration


def replay(r, gan, since=0):
    """Every update of a record's iterations, from number `since` on.

    Returns:
      losses [updates], gradients and after (for each update a dict by name, as in
      `replaying`), met [activations, 2]; and turns: for each update who moves, and
      which of its updates it is.
    """
    n, sides = gan.disc_nupdates, {who: recorded(r, who) for who in "DG"}
    left = {who: r.group(f"updates/after/{who}/") for who in "DG"}
    grads = r.group("updates/grad/")
    iteration = replaying(gan, {who: [*left[who]] for who in "DG"})
    found = types.SimpleNamespace(losses=[], gradients=[], after=[], met=[], turns=[])
    before = {}
    for i in range(since, len(r["z"]) // (n + 1)):
        turns = [*(("D", i * n + j) for j in range(n)), ("G", i)]
        given = real(r, i, n), r["z"][i * (n + 1) : (i + 1) * (n + 1)], alphas(r, i, n)
        their_sides = [{k: v[j] for k, v in sides[who].items()} for who, j in turns]
        leave = [{k: v[j] for k, v in left[who].items()} for who, j in turns]
        theirs = [
            {k: v[j] for k, v in grads.items() if k.startswith(f"{who}/")}
            for who, j in turns
        ]
        some = iteration(*given, their_sides, [before, *leave[:-1]], theirs)
        before = leave[-1]
        for name, values in tf.nest.map_structure(lambda t: t.numpy(), some).items():
            getattr(found, name).extend(values)
        found.turns += turns
    found.losses = np.array(found.losses)
    found.met = np.array(found.met).reshape(-1, 2)
    return found
