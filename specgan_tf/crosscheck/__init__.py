"""Compare this package with the reference, stage by stage.

    python -m specgan_tf.crosscheck
    python -m specgan_tf.crosscheck --original CHECKOUT --python PYTHON_WITH_TF1

The first command replays results of chrisdonahue/wavegan 40e85e8 from tests/goldens.
The second draws weights and inputs, runs an unmodified checkout of the reference on
them under its own TensorFlow (see original.py), and compares the results. Both print
one line per comparison, and exit with status 1 if an error exceeds its bound.

    records     a record's arrays, the networks that it describes, and checks
    stages      checks of the networks, the spectra, the loader, the inference graph
    training    checks of losses, gradients, updates, optimizers, checkpoints
    iterations  replays the reference's updates, each from its own state
    kinks       uses the reference's slopes where only rounding decides
    derivative  checks of the gradient penalty's derivative through batch norm
    replay      runs every check of every record
    matrix      makes records of inputs, and runs the reference on them
    original    runs the reference; works alone, under TensorFlow 1.12
    table       prints checks, and writes them as JSON

A record is an .npz file: inputs, and the reference's results for them. A comment beside
each bound gives the largest error measured: over the goldens, over records made with
--all, and for updates over many seeds (`python -m benchmarks.referee`).
"""
