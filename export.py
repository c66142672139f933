#!/usr/bin/env python
"""Export a trained SpecGAN's generator as SavedModel, TFLite and ONNX, each verified.

The command `specgan-export` does the same.
"""

import sys

from specgan_tf.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
