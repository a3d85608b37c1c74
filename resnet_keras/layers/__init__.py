"""Layers that the networks are made of, and how to walk through those of a model."""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
