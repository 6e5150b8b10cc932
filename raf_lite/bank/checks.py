"""What the arrays of a bank must be. Each function returns the array in the bank's own form or says what is
wrong with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from raf_lite._arrays import as_numpy
from raf_lite._names import clean_name


def donor_array(donors: ArrayLike, rows: int) -> np.ndarray:
    """Return `donors` as a 1-D array of integers or fixed-width strings, one for each of `rows`
    descriptors."""
    array = as_numpy(donors)
    if array.shape != (rows,):
        raise ValueError(
            f"donors has shape {list(array.shape)} but there are {rows} descriptors; give one donor per"
            " descriptor"
        )
    if array.dtype.kind not in "iuU":
        raise ValueError(
            f"donors must be integers or strings, not {array.dtype}; give each recording an id of one of"
            " these"
        )
    if array.dtype.kind == "U" and rows:
        distinct, which = np.unique(array, return_inverse=True)
        array = np.array([clean_name(str(donor), "a donor") for donor in distinct])[which]
    return array


def neutral_array(neutral: ArrayLike | None, rows: int) -> np.ndarray:
    """Return bool `[N]`: the row is its donor's neutral frame. None means that no row is marked."""
    if neutral is None:
        return np.zeros(rows, dtype=bool)
    array = as_numpy(neutral)
    if array.shape != (rows,) or array.dtype != bool:
        raise ValueError(
            f"neutral must be bool with shape [{rows}], not {array.dtype} {list(array.shape)}; mark every row"
        )
    return array


def pose_array(encoder_pose: ArrayLike | None, rows: int) -> np.ndarray | None:
    """Return float32 `[N, 4, 4]`, heads as the encoder saw them, or None."""
    if encoder_pose is None:
        return None
    array = as_numpy(encoder_pose).astype(np.float32, copy=False)
    if array.shape != (rows, 4, 4):
        raise ValueError(
            f"encoder_pose has shape {list(array.shape)}, not [{rows}, 4, 4]; give one matrix per descriptor"
        )
    return array


def thumbnail_dict(thumbnails: Mapping[int, bytes] | None, rows: int) -> dict[int, bytes]:
    """Return `{row: WebP bytes}` in order of rows."""
    checked = {int(row): bytes(data) for row, data in (thumbnails or {}).items()}
    for row, data in checked.items():
        if not 0 <= row < rows:
            raise ValueError(
                f"a thumbnail is for row {row}, but the bank has rows 0 to {rows - 1}; correct the row"
            )
        if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise ValueError(
                f"the thumbnail of row {row} is not WebP; encode it with raf_lite.bank.encode_thumbnail"
            )
    return dict(sorted(checked.items()))
