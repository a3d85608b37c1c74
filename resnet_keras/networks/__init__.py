"""Residual networks as data, and the functional Keras models built from it."""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
