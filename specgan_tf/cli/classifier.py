"""The mode classifier: train the inception score's classifier, and test it."""

import json
import logging
import os
import re

import numpy as np

from specgan_tf import loader
from specgan_tf.cli.data import decoding
from specgan_tf.cli.flags import Settings
from specgan_tf.errors import InputError
from specgan_tf.eval import classifier, fit, score
from specgan_tf.files import making_dir, only_training, replacing

log = logging.getLogger("specgan_tf")


def run_classifier(args: Settings) -> None:
    """Train the classifier behind the inception score, on a folder of labelled sounds.

    [train.py:223-260]
    """
    data_dir, out_dir = args.train_dir, args.out_dir
    fps = loader.find_audio(data_dir, args.data_recursive)
    try:
        test = re.compile(args.classifier_test or "(?!)")  # (?!) matches nothing
    except re.error as e:
        raise InputError(
            f"--classifier_test is not a regular expression: {e}"
        ) from None
    test = np.array([bool(test.search(os.path.basename(fp))) for fp in fps])
    if args.classifier_test and not test.any():
        raise InputError(f"--classifier_test {args.classifier_test} matches no file")
    labels = np.array([fit.label_of(fp, data_dir) for fp in fps])
    classes = fit.require_classes(labels[~test], data_dir)
    if unknown := set(labels[test]) - set(classes):
        raise InputError(
            f"--classifier_test leaves no sounds of {min(unknown)} to train on"
        )
    log.info("%d sounds of %d labels: %s", len(fps), len(classes), ", ".join(classes))

    how = decoding(args)
    for name in ("decode_fs", "decode_num_channels"):  # the classifier has its own
        del how[name]
    x, kept = fit.read_clips(fps, **how)
    y, test = np.searchsorted(classes, labels[kept]), test[kept]
    fit.require_classes(labels[kept][~test], data_dir)
    with making_dir(out_dir), only_training(out_dir):
        training = fit.Training(
            x[~test],
            y[~test],
            classes,
            out_dir,
            args.classifier_dim,
            args.classifier_optimizer,
            args.train_batch_size,
            args.seed or 0,
        )
        best = training.run(args.classifier_epochs, args.classifier_patience)
        if not test.any():
            x, y, test = training.x, training.y, training.held
        report_classifier(best, x[test], y[test], training, args)


def report_classifier(
    best: classifier.Classifier,
    x: np.ndarray,
    y: np.ndarray,
    training: fit.Training,
    args: Settings,
) -> None:
    """Log and write how well a classifier does on clips that it was not trained on.

    Args:
      x, y: waveforms float32 [n, 16384], and their labels' indices, int [n].
    """
    order = np.random.default_rng(0).permutation(len(x))  # each group has all classes
    p = best.probabilities(x[order])
    matrix = fit.confusion(y[order], p.argmax(axis=1), len(best.labels))
    report = {
        "labels": best.labels,
        "clips": {"trained": len(training.rest), "held out": len(training.held)},
        "tested": {
            "clips": len(x),
            "held out while training": not args.classifier_test,
            "accuracy": float(np.trace(matrix) / len(x)),
            "confusion": matrix.tolist(),
        },
        "settings": training.settings,
        "epochs": training.epoch,
        "CPU seconds": round(training.seconds),
    }
    log.info("Accuracy on %d clips: %.2f%%", len(x), 100 * np.trace(matrix) / len(x))
    wrong = [
        (matrix[i, j], f"{matrix[i, j]} of {matrix[i].sum()} {a!r} taken for {b!r}")
        for i, a in enumerate(best.labels)
        for j, b in enumerate(best.labels)
        if i != j and matrix[i, j]
    ]
    for _, line in sorted(wrong, reverse=True)[:5]:
        log.info("  %s", line)
    for k in sorted({1, args.incept_k}):
        if len(x) >= k:
            mean, std = score.inception_score(p, k)
            right, _ = score.inception_score(np.eye(len(best.labels))[y[order]], k)
            report["tested"][f"inception score, k {k}"] = [mean, std]
            report["tested"][f"inception score of their labels, k {k}"] = right
            log.info(
                "Inception score of them, k %d: %.2f +- %.2f (of their labels: %.2f)",
                *(k, mean, std, right),
            )
    fp = os.path.join(args.out_dir, "report.json")
    with replacing(fp, "w") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    log.info("Wrote %s and %s", os.path.join(args.out_dir, classifier.BEST), fp)
