"""What is done to descriptors before they are compared or learned from: taking a person's neutral out."""

from __future__ import annotations

import numpy as np

from raf_lite._arrays import descriptor_array


def relative_to(descriptors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Descriptors minus a reference of the *same person*, float32 [N, D]; NaN rows stay NaN.

    descriptors: [N, D]. reference: [D], the descriptor of a neutral frame, or [M, D], whose mean is
    subtracted (a few neutral frames, or the whole video when no frame is known to be neutral). What is left
    is mostly expression: identity's share of the variance fell from about 0.2 to 0.05 on rendered heads
    encoded by MediaPipe.
    Raises ValueError for another dimension and for a reference that is not finite.

    Conventions: docs/conventions.md#descriptors.

    >>> relative_to(np.array([[0.5, 0.25], [0.0, 1.0]]), np.array([0.5, 0.0])).tolist()
    [[0.0, 0.25], [-0.5, 1.0]]
    """
    reference = np.atleast_2d(reference)
    dim = descriptor_array(reference, "the reference").shape[1]
    if not len(reference):
        raise ValueError("the reference has no row; give at least one descriptor of the same person")
    descriptors = descriptor_array(descriptors, dim=dim, whose="the reference's", gaps=True)
    return descriptors - reference.mean(0, dtype=np.float64).astype(np.float32)
