"""Semantic segmentation: a class for each pixel, by FCN, DeepLabV3 and U-Net over any network of this package."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
