"""Trains a network by a recipe: the same as `resnet train`."""

import sys

from resnet_keras.cli.program import main

raise SystemExit(main(["train", *sys.argv[1:]]))
