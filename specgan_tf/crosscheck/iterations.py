"""Replay the reference's iterations with our `train_step`, on the same inputs.

Two trainings that differ by rounding drift apart: where a gradient is near zero, Adam
takes a step of full size, in either direction. So a record may hold, for each update,
the reference's gradients and the variables and slots after it. Then every update starts
from the reference's own variables and slots, and its gradients are judged. The
optimizer applies the reference's gradients, so that its results can be judged too.
"""

import types
from collections.abc import Callable
from unittest import mock

import numpy as np
import tensorflow as tf

from specgan_tf import spectral
from specgan_tf.crosscheck.kinks import recorded, sided
from specgan_tf.crosscheck.records import Record
from specgan_tf.gan import SpecGAN
from specgan_tf.weights import checkpoint


def real(r: Record, i: int, n: int) -> np.ndarray:
    """The n real batches of iteration i, [n, b, 128, 128, 1].

    Those of the reference's own t_to_f, if the record has them: near silence its FFT
    rounds visibly (up to 0.03 from float64, ours 0.003), which moves dcgan's smallest
    gradient by 1.4e-2. Goldens have the first batch alone; the others are computed from
    the audio.
    """
    x = r.get("x")
    if x is not None and x.ndim == 5:
        return x[i * n : (i + 1) * n]
    batches = from_audio(r, i, n)
    if i == 0 and x is not None:
        batches[0] = x
    return batches


def from_audio(r: Record, i: int, n: int) -> np.ndarray:
    """The n real batches of iteration i, by our t_to_f."""
    wav = r["wav"][i * n : (i + 1) * n].astype(np.float32) / 32768
    flat = wav.reshape(-1, spectral.SLICE_LEN, 1)
    x = spectral.t_to_f(flat, r["mean"], r["std"]).numpy()
    return x.reshape(*wav.shape[:2], *x.shape[1:])


def alphas(r: Record, i: int, n: int) -> np.ndarray:
    return r["alpha"][i * n : (i + 1) * n].reshape(-1, r["z"].shape[1], 1, 1, 1)


def state(gan: SpecGAN) -> dict:
    """Variables of both networks and slots of both optimizers, by their TF 1 names."""
    named = {v.path: v for v in gan.G.variables + gan.D.variables}
    named |= checkpoint.slots(gan.G_optimizer, gan.G)
    return named | checkpoint.slots(gan.D_optimizer, gan.D)


def replaying(gan: SpecGAN, left_by: dict[str, list] | None = None) -> Callable:
    """A function that runs `train_step` with given latents and alphas.

    Args:
      left_by: names, as in `state`, of the values to return after an update of "D" and
        of "G".

    Returns:
      A function of x, z and alpha, with one z and alpha per update. Its other arguments
      are lists with a dict by name per update, from the reference: `sides` (see
      `kinks.sided`), `before` (values to set before the update) and `theirs` (gradients
      to apply instead of ours). Each dict may be empty.

      It returns a dict of lists with an element per update: `losses`, `gradients` by
      name, `after` (values by name); and `met`, the list that `kinks.sided` filled.
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


def replay(r: Record, gan: SpecGAN, since: int = 0) -> types.SimpleNamespace:
    """Every update of a record's iterations, from iteration `since` on.

    Returns:
      losses [updates]; gradients and after, for each update a dict by name, as in
      `replaying`; met [activations, 2]; turns, for each update ("D" or "G", the number
      of that network's update).
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
