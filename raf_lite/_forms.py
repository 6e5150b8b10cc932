"""The forms of descriptors: as the encoder gives them, minus the person's own mean, or minus their own
neutral frame.

A form's name is the descriptor's with `-mean` or `-neutral` behind it; without an ending it is raw. Any
descriptor has the three, also one under a name of somebody's own (`flame_expr-mean`).
"""

from __future__ import annotations

import numpy as np

from raf_lite._arrays import descriptor_array

FORMS = ("raw", "neutral", "mean")
NAMED_FORMS = tuple(
    f"{encoded}{ending}" for encoded in ("blendshapes", "landmarks") for ending in ("", "-neutral", "-mean")
)
"""The forms of what MediaPipe gives."""
_COLUMNS = {"landmarks": "landmarks_pca"}  # where what is encoded is stored under another name


def parts(descriptor: str) -> tuple[str, str]:
    """What is encoded, and in which of FORMS.

    >>> parts("landmarks-mean"), parts("landmarks_pca"), parts("flame_expr")
    (('landmarks', 'mean'), ('landmarks', 'raw'), ('flame_expr', 'raw'))
    """
    encoded, dash, form = descriptor.rpartition("-")
    if not dash or form not in FORMS[1:]:
        encoded, form = descriptor, "raw"
    return next((name for name, column in _COLUMNS.items() if column == encoded), encoded), form


def column(descriptor: str) -> str:
    """The stored array that a form is made of, in banks and in captures.

    >>> column("landmarks-neutral"), column("blendshapes")
    ('landmarks_pca', 'blendshapes')
    """
    encoded, _ = parts(descriptor)
    return _COLUMNS.get(encoded, encoded)


def named(encoded: str, form: str) -> str:
    """The name of a form of what is encoded."""
    return encoded if form == "raw" else f"{encoded}-{form}"


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
    return descriptors - _mean(reference)


def own_reference(form: str, neutral: np.ndarray, video: np.ndarray) -> np.ndarray | None:
    """What a form takes out of a person's descriptors, float32 [D]: the mean of their neutral frames [D] or
    [M, D], or of their video [F, D]; None for "raw"."""
    return None if form == "raw" else _mean(np.atleast_2d(neutral if form == "neutral" else video))


def in_form(descriptors: np.ndarray, form: str, neutral: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Descriptors [N, D] of one person in one of FORMS. neutral: [D] or [M, D]. video: [F, D], of which the
    mean is taken.

    >>> video = np.array([[1.0, 2.0], [3.0, 6.0]])
    >>> in_form(video, "mean", video[0], video).tolist(), in_form(video, "neutral", video[0], video).tolist()
    ([[-1.0, -2.0], [1.0, 2.0]], [[0.0, 0.0], [2.0, 4.0]])
    """
    reference = own_reference(form, neutral, video)
    return descriptors if reference is None else relative_to(descriptors, reference)


def likely_neutral(descriptors: np.ndarray) -> int:
    """The row of descriptors [N, D] that is nearest to their mean: what stands for a neutral frame where
    nobody named one.

    >>> likely_neutral(np.array([[0.0], [1.0], [5.0]]))
    1
    """
    return int(np.linalg.norm(descriptors - descriptors.mean(0), axis=1).argmin())


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(0, dtype=np.float64).astype(np.float32)
