"""From a classifier to SavedModel and LiteRT, each artifact compared with the classifier before it is published."""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
