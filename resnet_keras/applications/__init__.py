"""Ready-made networks, classifiers made of them, and their use on images."""
