"""What an array of descriptors must be, asked by everyone who is handed one: bank, avatar, exporters,
normalisation."""

from __future__ import annotations

import contextlib
import numbers

import numpy as np
from numpy.typing import ArrayLike


def as_numpy(values: ArrayLike) -> np.ndarray:
    """`values` as an array, whatever holds them: lists, pandas (numbers and names in object columns too), or
    torch tensors on any device, with gradients, in bfloat16."""
    detach = getattr(values, "detach", None)
    if detach is not None:
        tensor = detach().cpu()
        values = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor  # NumPy has no bfloat16
    array = np.asarray(values)
    if array.dtype.kind == "T":
        return array.astype(str)
    if array.dtype == object and array.size:
        for kind, dtype in (
            (str, str),
            (bool, bool),
            (numbers.Integral, np.int64),
            (numbers.Real, np.float64),
        ):
            if all(isinstance(value, kind) for value in array.flat):
                with contextlib.suppress(OverflowError):  # an integer of more than 64 bits
                    return array.astype(dtype)
    return array


def descriptor_array(
    descriptors: ArrayLike,  # [N, D]
    what: str = "descriptors",
    *,
    dim: int | None = None,
    whose: str = "",
    gaps: bool = False,
) -> np.ndarray:
    """`descriptors` as float32 `[N, D]`, C-contiguous, with at least one column; not copied where they are
    that already.

    what: names them in an error. dim: the D that they must have, as `whose` have ("the bank's
    'blendshapes'"). gaps: rows of NaN are let pass, as stand for frames without a face; otherwise all must be
    finite, in float32.

    Raises ValueError: another shape, no numbers, another D, or NaN or infinity, naming the first bad row.
    """
    array = as_numpy(descriptors)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{what} must have shape [N, D], not {list(array.shape)}; pass one row per frame")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{what} must be numbers, not {array.dtype}; pass float32")
    if dim is not None and array.shape[1] != dim:
        raise ValueError(
            f"{what} have {array.shape[1]} dimensions and {whose} have {dim}; take both from the same encoder"
        )
    with np.errstate(
        over="ignore"
    ):  # a float64 too large for float32 becomes infinite and is reported as such
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any() and not gaps:
        raise ValueError(
            f"row {int(bad.argmax())} of {what} holds NaN or infinite values ({int(bad.sum())} such rows in"
            " all); leave out the frames that the encoder could not read"
        )
    return array
