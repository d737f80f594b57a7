"""Datasets, augmentation, samplers and loaders of the OSNet engine."""
