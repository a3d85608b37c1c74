"""From a classifier to SavedModel and LiteRT, each artefact compared with the classifier before it is published."""
