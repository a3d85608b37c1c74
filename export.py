"""Exports a run: the same as `resnet export`."""

import sys

from resnet_keras.cli.program import main

raise SystemExit(main(["export", *sys.argv[1:]]))
