"""Deep residual networks for Keras 3 and TensorFlow, from the paper (arXiv:1512.03385) to a served, verified model.

`__init__.pyi` lists the public names, here and in each folder. Modules, and with them Keras and TensorFlow, are loaded
when a name of theirs is first used.
"""

from resnet_keras.checks.public_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
