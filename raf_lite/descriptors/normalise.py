"""What is done to descriptors before they are compared or learned from: taking a person's neutral out."""

from __future__ import annotations

import numpy as np

from raf_lite.descriptors.encoder import frame_list


def relative_to(descriptors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Descriptors minus a reference of the *same person*, float32 [N, D]; NaN rows stay NaN.

    descriptors: [N, D]. reference: [D], the descriptor of a neutral frame, or [M, D], whose mean is subtracted (a few neutral
    frames, or the whole video when no frame is known to be neutral). What is left is mostly expression: identity's share of
    the variance fell from about 0.2 to 0.05 on rendered heads encoded by MediaPipe.
    Raises ValueError for another dimension and for a reference that is not finite.
    """
    descriptors = np.asarray(descriptors, np.float32)
    reference = _check(np.atleast_2d(np.asarray(reference)), "reference")
    if descriptors.ndim != 2 or descriptors.shape[1] != reference.shape[1]:
        raise ValueError(f"descriptors {list(descriptors.shape)} and reference {list(reference.shape)} differ in dimension; "
                         "take both from the same encoder")
    return descriptors - reference.mean(0, dtype=np.float64).astype(np.float32)


def _check(rows: np.ndarray, what: str) -> np.ndarray:
    """`rows` as a finite, non-empty [N, D] array, or a ValueError that names the rows at fault."""
    rows = np.asarray(rows)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{what} must be [N, D], not {list(rows.shape)}")
    wrong = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(wrong):
        raise ValueError(f"{what} of frames {frame_list(wrong)} are not finite; leave frames without a face out")
    return rows
