"""Layers that the networks are made of, and how to walk through those of a model."""
