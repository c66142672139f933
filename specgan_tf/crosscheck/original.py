"""Run the original's own, unmodified code on recorded inputs.

    PYTHON specgan_tf/crosscheck/original.py CHECKOUT IN_DIR OUT_DIR

CHECKOUT is chrisdonahue/wavegan at 40e85e8. PYTHON has TensorFlow 1 (tested with Python
3.6 and TensorFlow 1.12), so this script imports nothing of the package, and its syntax
is Python 3.6. Each IN_DIR/*.npz is a record of inputs; OUT_DIR gets the same records
with results added, and versions.json. The script writes nothing in the checkout, and
replaces only the original's inputs: its audio, its random draws, its session; and lrelu
if a record asks for a `smooth` one. The kinds of record:

    model       weights, z, x -> outputs of each layer, of G and of D, and dD/dx
    init        number of draws -> extremes, mean, variance of each variable
    spectral    audio, spectrograms -> t_to_f, f_to_img, f_to_t
    data        WAV files -> slices for each data flag, moments, a resampled file
    train       weights or a checkpoint, audio, z, alpha -> each update's loss,
                gradients, sides of the kinks, and variables after it
    long        weights, spectrograms, a seed -> losses, weights
    optimizer   a variable, gradients -> the variable after one and after all
    derivative  weights, x, z, alpha, directions -> D_loss's slope, in two ways
    infer       weights, z -> every named tensor of the exported inference graph
"""

import contextlib
import glob
import importlib
import io
import json
import os
import pickle
import platform
import re
import sys
import tempfile
import time
import traceback
import types
import warnings
from unittest import mock

try:
    import numpy as np
except ImportError:  # a Python without numpy has no TensorFlow: load() says so
    np = None

tf = loader = specgan = train_specgan = None  # load() imports them

MODULES = "loader", "specgan", "train_specgan"
# The flags say lin and cub, the model linear and cubic.  [train_specgan.py:660]
UPSAMPLES = {"lin": "linear", "cub": "cubic"}
SCOPES = {
    "G": ["z_project", *(f"upconv_{i}" for i in range(5))],
    "D": [f"downconv_{i}" for i in range(5)],
}
# Variables of G and D. Optimizers' slots begin with the same names.
NET = re.compile(r"[GD]/.*/(kernel|bias|gamma|beta|moving_mean|moving_variance)$")
NAMED = (  # tensors of the inference graph  [train_specgan.py:302-311]
    "samp_z_n samp_z z ngl flat_pad "
    "G_z_norm G_z G_z_norm_uint8 G_z_int16 G_z_flat G_z_flat_int16"
).split()
FIRST, PAD = {"slice_first_only": True}, {"slice_pad_end": True}
SLICES = {
    "first_pad": {**FIRST, **PAD},
    "all": {},
    "pad": PAD,
    "overlap75": {"slice_overlap_ratio": 0.75, **PAD},
    "nonorm": {"decode_normalize": False, **FIRST, **PAD},
}
MOMENTS = {
    "first": {"data_first_slice": True},
    "all": {},
    "overlap": {"data_overlap_ratio": 0.5, "data_pad_end": True},
}


# Pre-activations smaller than this share of the layer's largest are recorded.
NEAR = 1e-3


class Enough(Exception):
    """Ends the original's `while True`."""


# The contents of a record


def group(d, prefix):
    """Arrays under `prefix`, by the rest of their names."""
    return {k[len(prefix) :]: v for k, v in d.items() if k.startswith(prefix)}


def flags(d, **more):
    """A record's options as the original's parsed flags."""
    upsample = str(d.get("upsample", "zeros"))
    kwargs = {
        "kernel_len": int(d.get("kernel_len", 5)),
        "dim": int(d.get("dim", 1)),
        "use_batchnorm": bool(d.get("batchnorm", False)),
    }
    known = {
        "data_sample_rate": 16000,
        "data_fast_wav": False,
        "data_first_slice": False,
        "data_overlap_ratio": 0.0,
        "data_pad_end": False,
        "data_prefetch_gpu_num": -1,
        "data_moments_mean": d.get("mean", np.zeros(129, np.float32)),
        "data_moments_std": d.get("std", np.ones(129, np.float32)),
        "specgan_d_kwargs": kwargs,
        "specgan_g_kwargs": {"upsample": UPSAMPLES.get(upsample, upsample), **kwargs},
        "specgan_latent_dim": int(d.get("latent_dim", 100)),
        "specgan_disc_nupdates": int(d.get("disc_nupdates", 5)),
        "specgan_loss": str(d.get("loss", "wgan-gp")),
        "specgan_ngl": 16,
        "train_dir": None,
        "train_save_secs": None,
        "train_summary_secs": None,
    }
    return types.SimpleNamespace(**{**known, **more})


# Watching and feeding the original


@contextlib.contextmanager
def replaced(*patches):
    """Context: each (owner, name, value) sets owner.name to value."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def watched(owner, name, calls):
    """A patch with which `owner.name` does the same, and appends to `calls`."""
    real = getattr(owner, name)

    def call(*args, **kwargs):
        value = real(*args, **kwargs)
        calls.append(types.SimpleNamespace(args=args, value=value))
        return value

    return owner, name, call


def session():
    """One thread: with two, equal runs of wgan-gp differ by 6e-2 in an Adam slot."""
    threads = {"intra_op_parallelism_threads": 1, "inter_op_parallelism_threads": 1}
    return tf.Session(config=tf.ConfigProto(**threads))


def net_variables():
    """All variables of G and D by name, in the original's order."""
    return {v.op.name: v for v in tf.global_variables() if NET.match(v.op.name)}


def set_variables(s, values):
    """Set variables (a dict from each to its value) in one run."""
    feed = {v.initializer.inputs[1]: value for v, value in values.items()}
    s.run([v.initializer for v in values], feed)


def start(s, weights):
    """Initialise all variables, then set those of G and D: `weights` by name."""
    s.run(tf.global_variables_initializer())
    variables = net_variables()
    if weights.keys() != variables.keys():
        odd = sorted(weights.keys() ^ variables.keys())
        raise ValueError(f"variables that only the record or the original has: {odd}")
    set_variables(s, {variables[name]: value for name, value in weights.items()})


def training(d, make_session=None):
    """Let the original's own train() build its graph, and train if it gets a session.

    make_session: net -> a replacement for MonitoredTrainingSession: a context manager
      of an object with run(op), which ends the training by raising Enough. None: stop
      when the graph is built.

    Returns:
      net: the tensors to feed, `wav` [b, 16384, 1, 1] or instead of it `x` [b, 128,
      128, 1], `z` [b, latent_dim], `alpha` [b, 1, 1, 1] (None except with wgan-gp); and
      `updates`: the original's training ops, each with `who` it updates ("D" or "G"),
      loss, gradients by name, optimizer, and the pre-activations on the way of its
      gradients, by layer, a list over the runs of the network.
    """
    size = d["z"].shape[-2] if "z" in d else int(d.get("batch_size", 2))
    net = types.SimpleNamespace(wav=tf.placeholder(tf.float32, [size, 16384, 1, 1]))
    draws, spectrograms, computed, minimized = [], [], [], []
    relus, lrelus = [], []  # in G; in D(x), D(G(z)) and D(interpolates), in this order

    def preactivations(who):
        if who == "D":
            return {f"lrelu_{i}": [c.args[0] for c in lrelus[i::5]] for i in range(5)}
        found = {f"relu_{i}": [c.args[0]] for i, c in enumerate(relus)}
        found.update({f"lrelu_{i}": [c.args[0]] for i, c in enumerate(lrelus[5:10])})
        return found

    def monitored(**kwargs):
        net.x = spectrograms[0].value
        net.z, net.alpha = [*(c.value for c in draws), None][:2]
        net.updates = {}
        for c, m in zip(computed, minimized):
            gradients = {v.op.name: g for g, v in c.value}
            (optimizer, loss), who = m.args[:2], min(gradients)[0]
            net.updates[m.value] = types.SimpleNamespace(
                who=who,
                loss=loss,
                preactivations=preactivations(who),
                gradients=gradients,
                optimizer=optimizer,
            )
        if make_session is None:
            raise Enough
        return make_session(net)

    patches = [
        (loader, "decode_extract_and_batch", lambda *args, **kwargs: net.wav),
        (tf.train, "MonitoredTrainingSession", monitored),
        watched(tf, "random_uniform", draws),
        watched(train_specgan, "t_to_f", spectrograms),
        watched(tf.train.Optimizer, "compute_gradients", computed),
        watched(tf.train.Optimizer, "minimize", minimized),
        watched(tf.nn, "relu", relus),
        watched(specgan, "lrelu", lrelus),
    ]
    with replaced(*patches), contextlib.suppress(Enough):
        train_specgan.train([], flags(d, train_batch_size=size))
    return net


def update_of(net, who):
    return next(u for u in net.updates.values() if u.who == who)


@contextlib.contextmanager
def updating(net, d, folder, draw, results):
    """A session for training that feeds draw(net, who) to each update.

    A separate run reads each update's loss, gradients and pre-activations before the
    update: in the update's own run they could be read after it. Reading runs G in
    training mode, so G's moving averages are restored. For a `long` training only the
    losses are read.
    """
    results.update(order=[], losses=[])
    averages = [v for name, v in net_variables().items() if "/moving_" in name]
    saver = tf.train.Saver(save_relative_paths=True)
    every_update = {}  # by name, a list

    with session() as s:

        def read(tensors, feed):
            kept = s.run(averages)
            values = s.run(tensors, feed)
            set_variables(s, dict(zip(averages, kept)))
            return values

        def keep(values):
            for name, value in values.items():
                every_update.setdefault(name, []).append(value)

        def after(who):
            """Values that an update changes: variables, slots, moving averages."""
            moved = re.compile(rf"{who}/.*(?<!RMSProp_1)$|G/.*/moving_")
            variables = {v.op.name: v for v in tf.global_variables()}
            moved = {n: v for n, v in variables.items() if moved.match(n)}
            return s.run({f"updates/after/{who}/{n}": v for n, v in moved.items()})

        def run(op):
            if op not in net.updates:  # wgan's clipping
                return s.run(op)
            update = net.updates[op]
            if "wav" in d and results["order"]:
                keep(after(results["order"][-1]))
            feed = {t: v for t, v in draw(net, update.who).items() if t is not None}
            results["order"].append(update.who)
            wanted = [update.loss]
            if "wav" in d:
                wanted += [update.gradients, update.preactivations]
            loss, *more = read(wanted, feed)
            results["losses"].append(loss)
            if more:
                gradients, layers = more
                keep({f"updates/grad/{name}": g for name, g in gradients.items()})
                layers = {name: np.concatenate(runs) for name, runs in layers.items()}
                keep({f"kinks/{update.who}/{name}": v for name, v in layers.items()})
            s.run(op, feed)
            if update.who == "G" and results["order"].count("G") == d.get("save_at"):
                os.makedirs(folder, exist_ok=True)
                prefix = os.path.join(folder, "model.ckpt")
                step = tf.train.get_global_step()
                saver.save(s, prefix, global_step=step, write_meta_graph=False)

        if "checkpoint" in d:
            saver.restore(s, str(d["checkpoint"]))
        else:
            start(s, group(d, "init/"))
        if "wav" in d:
            results["x"] = [s.run(net.x, {net.wav: wav}) for wav in waveforms(d)]
        try:
            yield types.SimpleNamespace(run=run)
        except Enough:
            final = {f"final/{v.op.name}": v for v in tf.global_variables()}
            results.update(s.run(final))
            if "wav" in d:
                keep(after(results["order"][-1]))
            for name, values in every_update.items():
                values = np.stack(values)
                kinks = name.startswith("kinks/")
                results.update(sides(name, values) if kinks else {name: values})


def sides(name, values):
    """The side of zero of each pre-activation, and its value if it is near zero.

    values: float32, any shape.

    Returns, under name: `shape`; `above`, bits in C order, set for values greater than
    0; `near`, flat indices of the values near 0; `value`, these values.
    """
    flat = values.ravel()
    near = np.flatnonzero(np.abs(flat) <= NEAR * np.abs(flat).max())
    return {
        f"{name}/shape": values.shape,
        f"{name}/above": np.packbits(flat > 0),
        f"{name}/near": near,
        f"{name}/value": flat[near],
    }


def waveforms(d):
    """The record's int16 clips in the loader's form: [n, b, 16384, 1, 1]."""
    return d["wav"][..., np.newaxis, np.newaxis].astype(np.float32) / 32768.0


# The kinds of record: inputs -> results


def model(d, folder):
    args = flags(d)
    z = tf.placeholder(tf.float32, [None, args.specgan_latent_dim])
    x = tf.placeholder(tf.float32, [None, 128, 128, 1])
    G = specgan.SpecGANGenerator, z, args.specgan_g_kwargs
    infer, _ = forward("G", "G_infer", *G)
    train, _ = forward("G", "G_train", *G, train=True)
    D = specgan.SpecGANDiscriminator, x, args.specgan_d_kwargs
    D, preactivations = forward("D", "D", *D)
    D["D_grad_x"] = tf.gradients(D["D"], x)[0]
    variables = net_variables()
    results = {f"shape/{name}": v.shape.as_list() for name, v in variables.items()}
    with session() as s:
        start(s, group(d, "w/"))
        feed = {z: d["z"], x: d["x"]}
        given, preactivations = s.run([{**infer, **D}, preactivations], feed)
        results.update(given)
        for i, values in enumerate(preactivations):
            results.update(sides(f"kinks/D/lrelu_{i}", values[np.newaxis]))
        if args.specgan_g_kwargs["use_batchnorm"]:
            results.update(s.run(train, {z: d["z"]}))
            moving = [n for n in variables if re.match("G/.*/moving_", n)]
            after = {f"after/{n}": variables[n] for n in moving}
            results.update(s.run(after))
    return results


def forward(scope, name, network, inputs, kwargs, **more):
    """A network's output and layers, by the names of their results; pre-activations.

    A layer is the output of its variable scope's activation. The original calls the
    activations one by one, in the order of the scopes.
    """
    calls = []
    activations = (tf.nn, "relu"), (tf.nn, "tanh"), (specgan, "lrelu")
    patches = [watched(*activation, calls) for activation in activations]
    with replaced(*patches), tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        tensors = {name: network(inputs, **kwargs, **more)}
    for layer, call in zip(SCOPES[scope], calls):
        tensors[f"layer/{name}/{layer}"] = call.value
    return tensors, [call.args[0] for call in calls]


def init(d, folder):
    args = flags(d)
    z = tf.placeholder(tf.float32, [None, args.specgan_latent_dim])
    x = tf.placeholder(tf.float32, [None, 128, 128, 1])
    forward("G", "G", specgan.SpecGANGenerator, z, args.specgan_g_kwargs)
    forward("D", "D", specgan.SpecGANDiscriminator, x, args.specgan_d_kwargs)
    drawn = {f"init/{v.op.name}": v for v in tf.trainable_variables()}
    results = {name: [] for name in drawn}
    with session() as s:
        initialise = tf.global_variables_initializer()
        for _ in range(int(d["draws"])):
            s.run(initialise)
            for name, v in s.run(drawn).items():
                v = v.astype(np.float64)
                results[name].append([np.abs(v).max(), v.mean(), v.var()])
    return results


def spectral(d, folder):
    mean, std = d["mean"], d["std"]
    x = tf.placeholder(tf.float32, [None, 16384, 1])
    X_norm = tf.placeholder(tf.float32, [None, 128, 128, 1])
    ngl = tf.placeholder(tf.int32, [])
    f = train_specgan.t_to_f(x, mean, std)
    img = train_specgan.f_to_img(X_norm)
    audio = train_specgan.f_to_t(X_norm, mean, std, ngl)
    with session() as s:
        results = {"X_norm": s.run(f, {x: d["x"]})}
        results["img"] = s.run(img, {X_norm: results["X_norm"]})
        for n in d["ngl"]:
            feed = {X_norm: results["X_norm"], ngl: n}
            results[f"audio_ngl{n}"] = s.run(audio, feed)
        results["audio_noise_ngl1"] = s.run(audio, {X_norm: d["S"], ngl: 1})
    return results


def data(d, folder):
    from scipy.io import wavfile

    names, results = [str(name) for name in d["names"]], {}
    with tempfile.TemporaryDirectory() as wavs:
        for name in [*names, "rate22050"]:
            rate = 22050 if name == "rate22050" else 16000
            wavfile.write(os.path.join(wavs, name), rate, d[f"file/{name}"])
        fps = [os.path.join(wavs, name) for name in names]
        for flag, kwargs in SLICES.items():
            results[f"slices_{flag}"] = slices(fps, **kwargs)
            results[f"slices_fast_{flag}"] = slices(fps, decode_fast_wav=True, **kwargs)
        for flag, kwargs in MOMENTS.items():
            mean, std = moments(fps, d["random_offset"], **kwargs)
            results.update({f"moments_{flag}_mean": mean, f"moments_{flag}_std": std})
        wav = loader.decode_audio(os.path.join(wavs, "rate22050"), fs=16000)
    return {**results, "decoded_rate22050": wav[:, 0, 0]}


def slices(fps, **kwargs):
    """Everything that the loader yields, in the files' order: [n, 16384, 1, 1]."""
    import audioread

    decode_audio, found = loader.decode_audio, []

    def decode(fp, **kwargs):
        try:
            return decode_audio(fp, **kwargs)
        except audioread.NoBackendError:  # librosa 0.6 needs ffmpeg for float WAV
            return decode_audio(fp, **{**kwargs, "fast_wav": True})

    batch = loader.decode_extract_and_batch(
        fps, 1, 16384, decode_fs=16000, decode_num_channels=1, **kwargs
    )
    ended = contextlib.suppress(tf.errors.OutOfRangeError)
    with session() as s, replaced((loader, "decode_audio", decode)), ended:
        while True:
            found.append(s.run(batch))
    return np.concatenate(found)


def moments(fps, offset, **kwargs):
    """The moments that the original pickles, with its random offset set to `offset`.

    It decodes with data_fast_wav, which needs only scipy: after any error the original
    stops, and pickles the moments of the data so far.
    """
    fp, opened = os.path.join(os.path.dirname(fps[0]), "moments.pkl"), session()
    args = flags({}, data_moments_fp=fp, data_fast_wav=True, **kwargs)
    draw = (tf, "random_uniform", lambda *_, **kw: tf.constant(offset, kw["dtype"]))
    with replaced(draw, (tf, "Session", lambda: opened)):
        train_specgan.moments(fps, args)
    with open(fp, "rb") as f:
        return pickle.load(f)


def train(d, folder):
    z, wav, alpha, results = iter(d["z"]), iter(waveforms(d)), iter(d["alpha"]), {}

    def draw(net, who):
        try:
            if who == "G":
                return {net.z: next(z)}
            return {net.wav: next(wav), net.z: next(z), net.alpha: next(alpha)}
        except StopIteration:
            raise Enough from None

    training(d, lambda net: updating(net, d, folder, draw, results))
    return results


def long(d, folder):
    rs, results = np.random.RandomState(int(d["seed"])), {"losses": []}
    perturb, b = int(d["perturb"]), int(d["batch_size"])
    rounding = np.random.RandomState(perturb)
    args = flags(d)
    updates = int(d["iterations"]) * (args.specgan_disc_nupdates + 1)

    def moved(v):
        """Change each value by one float32 rounding, up or down."""
        signs = rounding.randint(2, size=v.shape)
        return np.nextafter(v, np.where(signs, np.inf, -np.inf).astype(v.dtype))

    def draw(net, who):
        if len(results["losses"]) == updates:
            raise Enough
        feed = {}
        if who == "D":
            feed[net.x] = d["pool"][rs.randint(len(d["pool"]), size=b)]
        feed[net.z] = rs.uniform(-1, 1, (b, args.specgan_latent_dim)).astype("f4")
        if who == "D":
            feed[net.alpha] = rs.uniform(size=(b, 1, 1, 1)).astype("f4")
        return {t: moved(v) for t, v in feed.items()} if perturb else feed

    training(d, lambda net: updating(net, d, folder, draw, results))
    kept = re.compile(f"losses|final/{NET.pattern}")
    return {k: v for k, v in results.items() if kept.match(k)}


def optimizer(d, folder):
    adam_or_rmsprop = update_of(training(d), "D").optimizer
    v = tf.Variable(d["v"])
    g = tf.placeholder(v.dtype.base_dtype, v.shape)
    step, results = adam_or_rmsprop.apply_gradients([(g, v)]), {}
    with session() as s:
        s.run(tf.global_variables_initializer())
        for i, gradient in enumerate(d["g"], 1):
            s.run(step, {g: gradient})
            results[f"step{i}"] = s.run(v)
    return {name: results[name] for name in ("step1", f"step{len(d['g'])}")}


def derivative(d, folder):
    """The slope along each variable's direction, by the graph and by differences.

    `smooth` replaces lrelu by a softplus with its two slopes: in float32 no step is
    both large enough to measure and small enough to cross no kink.
    """
    kinks = [(specgan, "lrelu", lambda x: 0.2 * x + 0.8 * tf.nn.softplus(x))]
    with replaced(*(kinks if d.get("smooth") else [])):
        net = training(d)
    eps, results = float(d["eps"]), {}
    update = update_of(net, "D")
    feed = {net.x: d["x"], net.z: d["z"], net.alpha: d["alpha"]}
    with session() as s:
        start(s, group(d, "init/"))
        gradients = s.run(update.gradients, feed)
        for name, direction in group(d, "dir/").items():
            v, there = net_variables()[name], d[f"init/{name}"]
            losses = []
            for step in (eps, -eps):
                set_variables(s, {v: there + step * direction})
                losses.append(np.float64(s.run(update.loss, feed)))
            set_variables(s, {v: there})
            slope = np.sum(gradients[name].astype(np.float64) * direction)
            results[f"analytic/{name}"] = slope
            results[f"difference/{name}"] = (losses[0] - losses[1]) / (2 * eps)
    return results


def infer(d, folder):
    with tempfile.TemporaryDirectory() as train_dir:
        train_specgan.infer(flags(d, train_dir=train_dir))
        tf.train.import_meta_graph(os.path.join(train_dir, "infer", "infer.meta"))
    graph = tf.get_default_graph()
    ops = {op.name for op in graph.get_operations()}
    t = {name: graph.get_tensor_by_name(f"{name}:0") for name in NAMED if name in ops}
    feed = {t[name]: d[name] for name in ("z", "ngl", "flat_pad")}
    outputs = {name: tensor for name, tensor in t.items() if name.startswith("G_z")}
    with session() as s:
        start(s, group(d, "w/"))
        samp_z = s.run(t["samp_z"], {t["samp_z_n"]: d["samp_z_n"]})
        return {"tensor_names": list(t), "samp_z": samp_z, **s.run(outputs, feed)}


KINDS = {
    "model": model,
    "init": init,
    "spectral": spectral,
    "data": data,
    "train": train,
    "long": long,
    "optimizer": optimizer,
    "derivative": derivative,
    "infer": infer,
}


# The command line


def refuse(message):
    print(f"original.py: {message}", file=sys.stderr)
    sys.exit(2)


def load(checkout):
    """Import TensorFlow and the checkout's modules, as if run from the checkout."""
    global tf, loader, specgan, train_specgan
    missing = [m for m in MODULES if not os.path.isfile(f"{checkout}/{m}.py")]
    if missing:
        refuse(f"{checkout} is not chrisdonahue/wavegan: it lacks {missing[0]}.py")
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    sys.path[0] = checkout  # instead of this script's folder
    try:
        import tensorflow as tf
    except ImportError as e:
        refuse(f"{sys.executable} has no TensorFlow 1 ({e}): use another Python")
    if not tf.__version__.startswith("1."):
        refuse(f"{sys.executable} has TensorFlow {tf.__version__}: it must be 1.12")
    tf.logging.set_verbosity(tf.logging.ERROR)
    try:
        loader, specgan, train_specgan = map(importlib.import_module, MODULES)
    except ImportError as e:
        refuse(f"{sys.executable} cannot import the modules of {checkout}: {e}")


def versions():
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("tensorflow", "numpy", "scipy", "librosa"):
        try:
            found[name] = importlib.import_module(name).__version__
        except ImportError:
            found[name] = None
    return found


def run(path, out_dir):
    """Run one record. Its kind is in it, or else at the beginning of its name."""
    name = os.path.splitext(os.path.basename(path))[0]
    with np.load(path) as f:
        d = dict(f.items())
    tf.reset_default_graph()
    tf.set_random_seed(0)  # initialisers and samp_z; all other draws are fed
    with contextlib.redirect_stdout(io.StringIO()):  # the original prints much
        kind = KINDS[str(d.get("record", name.split("_")[0]))]
        results = kind(d, os.path.join(out_dir, name))
    np.savez(os.path.join(out_dir, f"{name}.npz"), **{**d, **results})


def main(argv):
    if len(argv) != 3:
        refuse("usage: PYTHON original.py CHECKOUT IN_DIR OUT_DIR")
    checkout, in_dir, out_dir = map(os.path.abspath, argv)
    paths = sorted(glob.glob(os.path.join(glob.escape(in_dir), "*.npz")))
    if not paths:
        refuse(f"{in_dir} has no .npz records")
    load(checkout)
    os.makedirs(out_dir, exist_ok=True)
    with open(os.path.join(out_dir, "versions.json"), "w") as f:
        json.dump(versions(), f, indent=1)
    for path in paths:
        name, began = os.path.basename(path), time.time()
        try:
            run(path, out_dir)
        except Exception as e:
            traceback.print_exc()
            why = " ".join(str(e).split())[:200]
            print(f"original.py: {name}: {type(e).__name__}: {why}", file=sys.stderr)
            sys.exit(1)
        print(f"done {name} {time.time() - began:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
