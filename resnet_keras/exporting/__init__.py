"""From a classifier to SavedModel and LiteRT, each artifact compared with the classifier before it is published."""
