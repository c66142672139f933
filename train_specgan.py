#!/usr/bin/env python
"""Train a SpecGAN, hear it, make sound with it: the modes and flags of the reference.

The command `specgan` does the same. Flags are declared in specgan_tf/cli/flags.py.
"""

import sys

from specgan_tf.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
