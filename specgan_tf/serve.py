"""The former name of `python -m specgan_tf.serving`, which scripts may have."""

import sys

from specgan_tf.serving.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
