"""Weights of this package and of other libraries: opening, recognition and loading, with a report of every tensor."""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
