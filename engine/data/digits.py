"""The embedded data set: 1,797 real handwritten digits of 8x8 pixels, bundled with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.data.arrays import Arrays, Located, Progress

_TEST_SAMPLES = 360
_TEST_SEED = 20180507


@dataclass(frozen=True, slots=True)
class Digits:
    """Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), its test part.

    It has no official split, so 360 samples, drawn once by a fixed seed, are the test part.
    """

    name: str = "digits"
    label: str = "digits"

    def locate(self, progress: Progress) -> Located:
        """Nothing to look for."""
        return Located()

    def decode(self, progress: Progress) -> Arrays:
        """Read all samples; pixels are 0 to 16."""
        from sklearn.datasets import load_digits

        found = load_digits()
        images = found.images.astype(np.uint8)[:, None]
        labels = found.target.astype(np.int64)
        order = np.random.default_rng(_TEST_SEED).permutation(len(labels))
        test, train = order[:_TEST_SAMPLES], order[_TEST_SAMPLES:]
        return Arrays(
            train_images=images[train],
            train_labels=labels[train],
            test_images=images[test],
            test_labels=labels[test],
            classes=tuple(str(name) for name in found.target_names),
            scale=16,
        )
