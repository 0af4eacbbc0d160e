"""The data that training reads: crops, domains, the pixel cache, augmentation and batches."""
