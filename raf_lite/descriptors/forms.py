"""Descriptors by the name of their form, out of what an encoder saw and out of captures.

Landmarks become 64 numbers by the basis that ships with the bank (`landmark_basis`); where a capture stores
these numbers (`landmarks_pca`), they are taken as they are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from raf_lite._forms import NAMED_FORMS, column, in_form, likely_neutral, own_reference, parts, relative_to
from raf_lite.captures import Capture
from raf_lite.captures.formats.plain import IBUG68
from raf_lite.descriptors.detections import Detections
from raf_lite.descriptors.landmarks import LandmarkPCA
from raf_lite.manifest import find_data

__all__ = [
    "NAMED_FORMS",
    "capture_descriptors",
    "capture_encoder",
    "capture_reference",
    "column",
    "detected_descriptors",
    "in_form",
    "landmark_basis",
    "landmark_displacements",
    "likely_neutral",
    "own_reference",
    "parts",
    "raw_descriptors",
    "relative_to",
]


def landmark_basis() -> LandmarkPCA:
    """The shipped basis, of which `landmarks` are the coefficients. FileNotFoundError where there are no
    data."""
    return _basis(find_data() / "bank" / "landmark_pca.npz")


@cache
def _basis(path: Path) -> LandmarkPCA:
    return LandmarkPCA.load(path)


def detected_descriptors(seen: Detections, descriptor: str, giver: str = "a video") -> np.ndarray:
    """What was seen, as the raw numbers that a form is made of: float32 [N, D], NaN where no face was found.

    descriptor: a form's name, such as "landmarks-mean". giver: what a message calls where they come from.
    Raises ValueError for what MediaPipe does not give.

    >>> seen = Detections(
    ...     np.zeros((1, 52), np.float32),
    ...     landmark_basis().template[None],
    ...     np.eye(4)[None],
    ...     face_found=np.array([True]),
    ... )
    >>> detected_descriptors(seen, "landmarks-mean").shape, detected_descriptors(seen, "blendshapes").shape
    ((1, 64), (1, 52))
    """
    encoded, _ = parts(descriptor)
    if encoded == "blendshapes":
        return seen.blendshapes
    if encoded != "landmarks":
        raise ValueError(
            f"this avatar is driven by '{descriptor}', and {giver} gives blendshapes and landmarks; train it"
            " on those"
        )
    return landmark_basis().encode_landmarks(seen.landmarks)


def raw_descriptors(capture: Capture, sequence: str, descriptor: str) -> np.ndarray:
    """The raw numbers of a sequence that a form is made of: float32 [T, D], NaN where no face was found.

    An array that is stored under the very name is that. Landmarks of an encoding get the shipped basis.
    Raises ValueError as `Capture.descriptors`, and for landmarks of another encoder than the basis's.

    >>> from raf_lite import open_capture
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> raw_descriptors(capture, "FREE", "landmarks-mean").shape
    (105, 64)
    """
    encoded, made_of = parts(descriptor)[0], column(descriptor)
    if made_of != descriptor or encoded == "landmarks":
        stored = capture.annotations(sequence)
        if descriptor in stored and stored[descriptor].ndim == 2:
            made_of = descriptor
        elif encoded == "landmarks" and made_of not in stored and "landmarks" in stored:
            return _from_landmarks(capture, sequence, stored["landmarks"])
    return capture.descriptors(sequence, made_of)


def _from_landmarks(capture: Capture, sequence: str, landmarks: np.ndarray) -> np.ndarray:
    basis, found = landmark_basis(), capture.face_found(sequence)
    encoder = capture.encoder_of(sequence, "landmarks") or "unknown"
    if encoder not in ("unknown", basis.encoder):
        raise ValueError(
            f"{capture.root}: the landmarks of {sequence} come from encoder '{encoder}' and their basis from"
            f" '{basis.encoder}'; encode the capture again"
        )
    wrong = np.flatnonzero(found & ~np.isfinite(landmarks.reshape(len(landmarks), -1)).all(1))
    if landmarks.shape[1:] != (478, 3) or len(wrong) or not found.any():
        frame = f" frame {wrong[0]}" if len(wrong) else ""
        raise ValueError(
            f"{capture.root}: 'landmarks' of {sequence}{frame} are not [478, 3] finite numbers of a face that"
            " was found; encode the capture again"
        )
    rows = np.full((len(landmarks), basis.dim), np.nan, np.float32)
    rows[found] = basis.encode_landmarks(landmarks[found])
    return rows


def landmark_displacements(landmarks: np.ndarray, descriptor: str) -> np.ndarray | None:
    """How far one unit of each dimension of a form of landmarks moves landmarks in head space: [D, L, 3], in
    the capture's unit.

    landmarks: [L, 3] of a face there, MediaPipe's 478 or iBUG's 68. None for a descriptor that says nothing
    of where points go.

    >>> landmark_displacements(landmark_basis().mean, "landmarks-mean").shape
    (64, 478, 3)
    >>> landmark_displacements(landmark_basis().mean, "blendshapes") is None
    True
    """
    points = {478: np.arange(478), 68: IBUG68}.get(len(landmarks))
    if parts(descriptor)[0] != "landmarks" or points is None:
        return None
    return landmark_basis().displacements_at(landmarks, points)


def capture_encoder(capture: Capture, sequence: str, descriptor: str) -> str | None:
    """What made the numbers that a form of this capture is made of, as it says; None where it does not."""
    names = [descriptor, column(descriptor), "landmarks"]
    stored = [n for n in names if n in capture.annotations(sequence)]
    return capture.encoder_of(sequence, stored[0] if stored else descriptor)


def capture_descriptors(
    capture: Capture, sequence: str, descriptor: str, reference: np.ndarray | None = None
) -> np.ndarray:
    """A sequence's descriptors in a form: float32 [T, D], NaN where no face was found.

    reference: [D], what is taken out for a relative form (default: `capture_reference`). Raises ValueError as
    that and `raw_descriptors`.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite import open_capture
    >>> capture = open_capture(find_data() / "mini_nersemble" / "101")
    >>> capture.neutral, bool((capture_descriptors(capture, "FREE", "landmarks-neutral")[0] == 0).all())
    (('FREE', 0), True)
    """
    values = raw_descriptors(capture, sequence, descriptor)
    if reference is None:
        reference = capture_reference(capture, descriptor)
    return values if reference is None else relative_to(values, reference)


def capture_reference(capture: Capture, descriptor: str) -> np.ndarray | None:
    """What a form takes out of the person of a capture, float32 [D]; None for a raw one.

    The mean is that of the training frames with a face; of all sequences where none is trained on, as of a
    driver. The neutral frame is the capture's; where it names none, that of these frames which is nearest to
    their mean, which is said.

    >>> from raf_lite import open_capture
    >>> capture = open_capture(find_data() / "mini_nersemble" / "101")
    >>> frames = np.concatenate([raw_descriptors(capture, s, "blendshapes") for s in capture.sequences])
    >>> bool(np.allclose(capture_reference(capture, "blendshapes-mean"), np.nanmean(frames, 0), atol=1e-6))
    True
    """
    _, form = parts(descriptor)
    if form == "raw":
        return None
    if form == "neutral" and capture.neutral is not None:
        sequence, frame = capture.neutral
        neutral = raw_descriptors(capture, sequence, descriptor)[frame]
        if not np.isfinite(neutral).all():
            raise ValueError(
                f"{capture.root}: no face was found in its neutral frame {capture.neutral}; name another one"
                " under 'neutral' in capture.json"
            )
        return neutral
    named = [s for s in capture.split("default").train_sequences if capture.cameras_of(s)]
    rows, frames = [], []
    for sequence in named or [s for s in capture.sequences if capture.cameras_of(s)]:
        values = raw_descriptors(capture, sequence, descriptor)
        found = np.flatnonzero(np.isfinite(values).all(1))
        rows.append(values[found])
        frames += [(sequence, int(frame)) for frame in found]
    video = np.concatenate(rows)
    row = likely_neutral(video)
    if form == "neutral":
        print(
            f"{capture.root} names no neutral frame: frame {frames[row][1]} of {frames[row][0]}, the nearest"
            " to its mean expression, is taken"
        )
    return own_reference(form, video[row], video)
