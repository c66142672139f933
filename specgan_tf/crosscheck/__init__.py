"""The reference against this package, stage by stage.

    python -m specgan_tf.crosscheck
    python -m specgan_tf.crosscheck --original CHECKOUT --python PYTHON_WITH_TF1

The first replays what chrisdonahue/wavegan 40e85e8 computed, as kept in tests/goldens.
The second makes weights and inputs, has an unmodified checkout of the reference compute
on them under its own TensorFlow (see original.py), and compares that. Either prints one
line per check, and ends with status 1 if one falls short of its bound.

    records     the arrays of one record, networks from it, and what a check is
    stages      checks of the networks, the spectra, the loader, the inference graph
    training    checks of losses, gradients, updates, optimizers, checkpoints
    iterations  replays the reference's updates, each from its own state
    kinks       takes the slope that the reference had where only rounding decides
    derivative  checks of the gradient penalty's derivative through batch norm
    replay      runs every check of every record
    matrix      makes records of inputs, and has the reference compute on them
    original    what the reference computes; runs alone, under TensorFlow 1.12
    table       prints checks, and writes them as JSON

A record is an .npz file: inputs, and what the reference made of them. Beside each bound
stands the largest error measured: over the goldens, over records made with --all, and
for updates over many seeds (`python -m benchmarks.referee`).
"""
