"""Data sets: one source a file behind one interface, decoded once, kept whole on the device."""

from engine.data.arrays import Arrays, Progress
from engine.data.cache import default_data_dir
from engine.data.dataset import (
    Dataset,
    Split,
    digest_of,
    load_dataset,
    prepare,
    training_samples,
)

__all__ = [
    "Arrays",
    "Dataset",
    "Progress",
    "Split",
    "default_data_dir",
    "digest_of",
    "load_dataset",
    "prepare",
    "training_samples",
]
