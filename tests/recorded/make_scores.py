"""Make scores.npz in this folder: what the reference's eval/ says of our drums.

    python tests/recorded/make_scores.py --original CHECKOUT --python PYTHON_WITH_TF1

CHECKOUT is chrisdonahue/wavegan at 40e85e8. Its scripts run as they are, under Python 3
and TensorFlow 1.12 with scikit-learn; they import cPickle and tqdm, for which RUN puts
others in place. Its classifier's weights could not be had: `random_weights` go to
its own infer.meta.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
DRUMS = os.path.join(HERE, "..", "..", "specgan_tf", "data", "drums")
N, K = 21, 3  # clips and groups of the inception score
RUN = """
import pickle, runpy, sys, types
import sklearn.neighbors  # before there is a cPickle: it would believe in Python 2
sys.modules['cPickle'], sys.modules['tqdm'] = pickle, types.ModuleType('tqdm')
sys.modules['tqdm'].tqdm = lambda x: x
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
CHECKPOINT = """
import sys
import numpy as np, tensorflow as tf
metagraph, weights, prefix, out = sys.argv[1:]
saver = tf.train.import_meta_graph(metagraph)
weights = np.load(weights)
with tf.Session() as sess:
    for v in tf.global_variables():
        v.load(weights[v.op.name] if v.op.name in weights else 5, sess)
    saver.save(sess, prefix)
    np.savez(out, **{
        'W%d' % n: sess.run(tf.contrib.signal.linear_to_mel_weight_matrix(
            128, n // 2 + 1, 16000, 40., 7800.)) for n in (1024, 2048)})
"""


def random_weights(shapes):
    """Weights for the classifier: float32 by name, such that scores differ."""
    weights = {}
    for i, name in enumerate(sorted(shapes)):
        w = np.random.RandomState([20181122, i]).standard_normal(shapes[name])
        if name.endswith("kernel"):
            w *= 1.2 / np.sqrt(np.prod(shapes[name][:-1]))
        elif name.endswith(("gamma", "variance")):
            w = 1.0 + 0.4 * np.tanh(w)
        weights[name] = w.astype(np.float32)
    return weights


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", required=True)
    parser.add_argument("--python", required=True)
    args = parser.parse_args()
    evaluation = os.path.join(os.path.abspath(args.original), "eval")
    from specgan_tf.eval.classifier import Classifier

    shapes = {n: tuple(v.shape) for n, v in Classifier(range(10)).values().items()}
    with tempfile.TemporaryDirectory() as tmp:

        def run(*argv):
            done = subprocess.run(
                [args.python, *argv],
                cwd=tmp,
                check=True,
                capture_output=True,
                text=True,
            )
            return done.stdout

        golden = {}
        drums = {"all": sorted(os.listdir(DRUMS))}
        drums["kicks"] = [name for name in drums["all"] if name.startswith("kick")]
        drums["hihats"] = [name for name in drums["all"] if name.startswith("hihat")]
        for name, files in drums.items():
            os.mkdir(os.path.join(tmp, name))
            for file in files:
                shutil.copy(os.path.join(DRUMS, file), os.path.join(tmp, name))
            feats = os.path.join(evaluation, "similarity", "feats.py")
            run("-c", RUN, feats, "--audio_dir", name, "--out_fp", f"{name}.pkl")
        for a, b in [("all", "all"), ("kicks", "kicks"), ("kicks", "hihats")]:
            sim = os.path.join(evaluation, "similarity", "sim.py")
            said = run(
                "-c", RUN, sim, "--query_set", f"{a}.pkl", "--train_set", f"{b}.pkl"
            )
            found = re.search(r"Similarity: (\S+) \+- (\S+)", said)
            golden[f"similarity/{a}/{b}"] = np.array(found.groups(), np.float64)

        metagraph = os.path.join(evaluation, "inception", "infer.meta")
        np.savez(os.path.join(tmp, "weights.npz"), **random_weights(shapes))
        run("-c", CHECKPOINT, metagraph, "weights.npz", "./classifier", "mel.npz")
        golden |= np.load(os.path.join(tmp, "mel.npz"))
        score = os.path.join(evaluation, "inception", "score.py")
        argv = (
            "--audio_dir all --fix_length --labels_fp labels.txt --ckpt_fp classifier"
        )
        argv = [*argv.split(), "--n", str(N), "--k", str(K)]
        said = run(score, "--metagraph_fp", metagraph, *argv)
        found = re.search(r"Inception score: (\S+) \+- (\S+)", said)
        golden["inception_score"] = np.array(found.groups(), np.float64)
        with open(os.path.join(tmp, "labels.txt")) as f:
            lines = [line.strip().split(",") for line in f]
        golden["files"] = np.array([os.path.basename(fp) for fp, _ in lines])
        golden["labels"] = np.array([int(label) for _, label in lines])
    np.savez_compressed(os.path.join(HERE, "scores.npz"), **golden)
    for name, value in golden.items():
        print(name, value if value.size < 50 else value.shape)


if __name__ == "__main__":
    main()
