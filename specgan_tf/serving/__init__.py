"""An HTTP server with TensorFlow Serving's API: python -m specgan_tf.serving.

It imports nothing else of the package: like `export.artefact`, it also runs where the
package is not installed, from a copy of this folder. docs/SERVING.md describes it.

- `protocol`: requests, JSON to tensors; answers, tensors to JSON; the limits of both.
- `connections`: how many connections may be open, and how long each may take.
- `bodies`: receives and unpacks the bodies of requests, within limits.
- `origins`: which web pages may use the server.
- `batching`: the queue of jobs, and the thread that computes them.
- `versions`: loads SavedModels when they appear in the folder, and unloads them.
- `app`: paths, answers, metrics.
- `__main__`: the command.
"""
