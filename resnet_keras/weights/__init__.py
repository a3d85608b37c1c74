"""Weights of this package and of other libraries: opening, recognition and loading, with a report of every tensor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
