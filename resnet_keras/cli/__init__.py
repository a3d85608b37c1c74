"""Command lines: each reads its arguments, calls one function of the library and prints the result."""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
