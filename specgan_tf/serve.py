"""The former name of `python -m specgan_tf.serving`, kept for existing scripts."""

import sys

from specgan_tf.serving.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
