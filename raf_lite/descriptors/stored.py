"""Descriptors that a capture ships with, so that a course or a training run needs no face tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from raf_lite.descriptors.encoder import Encoding


class DescriptorSource(Protocol):
    """What StoredEncoder needs of a Capture."""

    @property
    def sequences(self) -> Sequence[str]:
        """Names of the recordings."""

    def descriptors(self, sequence: str, name: str) -> np.ndarray:
        """Stored descriptors [T, D]; NaN rows where no face was found."""


class StoredEncoder:
    """Returns a capture's stored descriptors as an Encoding: MediaPipe's, or a tracker's FLAME or BFM codes.

    It can't encode new frames: it takes the name of a sequence where an Encoder takes frames.
    capture: a Capture. descriptor: the stored field ("blendshapes", "landmarks_pca", ...). name: what made the descriptors,
    to be compared with a bank's `encoder`; "unknown" goes with any.
    """

    def __init__(self, capture: DescriptorSource, descriptor: str, name: str = "unknown") -> None:
        if not capture.sequences:
            raise ValueError("the capture has no sequences, so there are no stored descriptors to return")
        self.capture = capture
        self.descriptor = descriptor
        self.name = name

    @property
    def dim(self) -> int:
        """D, as the capture's first sequence has it."""
        return self.encode_sequence(self.capture.sequences[0]).descriptors.shape[1]

    def encode_sequence(self, sequence: str) -> Encoding:
        """The stored descriptors of all frames of a sequence; frames whose row is NaN count as without a face.

        Raises ValueError for a sequence or field that the capture has not.
        """
        descriptors = np.asarray(self.capture.descriptors(sequence, self.descriptor), np.float32)
        missing = np.isnan(descriptors).all(1)
        return Encoding(descriptors, ~missing)
