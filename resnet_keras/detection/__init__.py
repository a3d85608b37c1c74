"""Object detection: Faster R-CNN over any network of this package, its data, training, and average precision."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
