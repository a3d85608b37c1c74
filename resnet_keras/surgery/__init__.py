"""Changes to a model: a model goes in, a model comes out."""
