"""Training data: sources, resizing and normalisation, splits, augmentation and the loader that feeds the step."""
