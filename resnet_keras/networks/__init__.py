"""Residual networks as data, and the functional Keras models built from it."""
