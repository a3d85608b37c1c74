"""The program `resnet`, as `python -m resnet_keras.cli`."""

from resnet_keras.cli.program import main

raise SystemExit(main())
