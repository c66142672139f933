"""A SpecGAN over HTTP, as TensorFlow Serving has it: python -m specgan_tf.serving.

Imports nothing else of the package: like `artefact`, it runs where that is not. A copy
of this folder is enough. docs/SERVING.md describes it.

- `protocol`: JSON to tensors and back, in TensorFlow Serving's forms; what is refused.
- `connections`: how many there may be, and how long each may take.
- `bodies`: receives and unpacks the bodies of requests, within bounds.
- `origins`: which pages in a browser may use the server.
- `batching`: the queue of jobs, and the thread that computes them.
- `versions`: SavedModels, which are loaded as they come and go.
- `app`: paths, answers, metrics.
- `__main__`: the command.
"""
