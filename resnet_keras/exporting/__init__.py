"""From a classifier to SavedModel and LiteRT, each artifact compared with the classifier before it is published."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
