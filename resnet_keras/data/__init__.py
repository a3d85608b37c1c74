"""Data sets, images, preprocessing, augmentation, and batches."""
