"""Trains a network by a recipe: the same program as `resnet-train`."""

from resnet_keras.cli.train import main

raise SystemExit(main())
