"""Exports a run: the same program as `resnet-export`."""

from resnet_keras.cli.export import main

raise SystemExit(main())
