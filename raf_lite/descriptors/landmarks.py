"""Face landmarks as descriptors: head pose and size taken out by Procrustes alignment, the rest compressed by
PCA."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from raf_lite._files import read_npz, write_npz

# Points of MediaPipe's 478-point mesh that the skull moves and the expression hardly does. Left and right are
# the subject's.
EYE_CORNERS = (33, 133, 362, 263)  # right outer, right inner, left inner, left outer
NOSE_BRIDGE = (168, 6, 197, 195)  # from between the eyes down to the end of the bone
FOREHEAD = (
    10,
    109,
    67,
    103,
    338,
    297,
    332,
)  # top row: centre, three to the right, three to the left (above what brows move)
RIGID = np.array(EYE_CORNERS + NOSE_BRIDGE + FOREHEAD)
RIGHT_EYE, LEFT_EYE, FOREHEAD_CENTRE, NOSE_END = 33, 263, 10, 195

FILE_VERSION = 1


def align_landmarks(landmarks: np.ndarray, template: np.ndarray | None = None) -> np.ndarray:
    """Bring every shape to a template's position, orientation and size.

    landmarks: [N, 478, 3], any units. template: [478, 3], of which only the points RIGID are used; None makes
    one of the landmarks themselves (`mean_template`). Returns float32 [N, 478, 3] in the template's units.
    Each shape gets the similarity (rotation without reflection, scale, translation) that brings its rigid
    points nearest to the template's in the least-squares sense (Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", PAMI 1991). Rows that are NaN (no face) stay NaN.
    Raises ValueError for other shapes and for a frame whose rigid points all coincide.

    >>> rng = np.random.default_rng(0)
    >>> face = rng.normal(size=(478, 3))
    >>> aligned = align_landmarks(np.stack([face, 3 * face + 7]))
    >>> bool(np.allclose(aligned[0], aligned[1], atol=1e-4))
    True
    """
    landmarks = _check(landmarks)
    if template is None:
        template = mean_template(landmarks)
    elif np.shape(template) != landmarks.shape[1:]:
        raise ValueError(f"the template must be [478, 3], not {list(np.shape(template))}")
    aligned = np.full(landmarks.shape, np.nan, np.float32)
    rows = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    scale, rotation, translation = _umeyama(
        landmarks[rows][:, RIGID], np.asarray(template, np.float64)[RIGID], rows
    )
    aligned[rows] = (
        scale[:, None, None] * landmarks[rows] @ rotation.transpose(0, 2, 1) + translation[:, None]
    )
    return aligned


def mean_template(landmarks: np.ndarray, iterations: int = 10) -> np.ndarray:
    """The mean shape by generalised Procrustes analysis (Gower 1975), float32 [478, 3].

    Alternately aligns the rigid points of all shapes [N, 478, 3] to their mean and takes the mean again
    (`iterations` times; two or three suffice). The result stands in a frame of its own, so that it does not
    depend on where the
    heads were: origin at the middle of the rigid points, x from the right to the left outer eye corner, y
    down the face,
    z away from the camera, the distance between the outer eye corners 1. NaN rows are left out.

    >>> rng = np.random.default_rng(0)
    >>> template = mean_template(rng.normal(size=(478, 3)) + 0.1 * rng.normal(size=(5, 478, 3)))
    >>> bool(np.isclose(np.linalg.norm(template[33] - template[263]), 1))
    True
    """
    landmarks = _check(landmarks)
    rows = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    if not len(rows):
        raise ValueError(
            "no frame has finite landmarks, so there is no mean shape; check that the encoder found faces"
        )
    rigid = landmarks[rows][:, RIGID].astype(np.float64)
    mean = rigid[0]
    for _ in range(iterations):
        scale, rotation, translation = _umeyama(rigid, mean, rows)
        mean = (scale[:, None, None] * rigid @ rotation.transpose(0, 2, 1) + translation[:, None]).mean(0)
        mean = (mean - mean.mean(0)) / np.linalg.norm(mean - mean.mean(0))  # else it shrinks at every turn
    scale, rotation, translation = _umeyama(rigid, mean, rows)
    full = np.zeros(landmarks.shape[1:])
    for s, r, t, shape in zip(scale, rotation, translation, landmarks[rows], strict=True):
        full += s * shape @ r.T + t
    full /= len(rows)
    x = full[LEFT_EYE] - full[RIGHT_EYE]
    size = np.linalg.norm(x)
    x = x / size
    down = full[NOSE_END] - full[FOREHEAD_CENTRE]
    y = down - (down @ x) * x
    y /= np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)])
    return ((full - full[RIGID].mean(0)) @ axes.T / size).astype(np.float32)


def _umeyama(
    source: np.ndarray, target: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale [N], rotation [N, 3, 3] and translation [N, 3] from each source [N, K, 3] to target [K, 3].

    rows: the frame numbers of the sources, for the error message.
    """
    source = source.astype(np.float64)
    source_mean, target_mean = source.mean(1), target.mean(0)
    source_centred, target_centred = source - source_mean[:, None], target - target_mean
    variance = (source_centred**2).sum((1, 2))
    flat = rows[variance <= 1e-12 * np.maximum(1, (source**2).sum((1, 2)))]
    if len(flat):
        raise ValueError(
            f"the rigid landmarks of frame {flat[0]} all coincide, so it cannot be aligned; leave the"
            " frame out"
        )
    u, singular, vt = np.linalg.svd(np.einsum("kd,nke->nde", target_centred, source_centred))
    sign = np.ones_like(singular)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(1) / variance
    return scale, rotation, target_mean - scale[:, None] * np.einsum("nde,ne->nd", rotation, source_mean)


def _check(landmarks: np.ndarray) -> np.ndarray:
    landmarks = np.asarray(landmarks)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (478, 3):
        raise ValueError(f"landmarks must be [N, 478, 3], not {list(landmarks.shape)}")
    return landmarks


@dataclass(frozen=True)
class LandmarkPCA:
    """Principal components of aligned landmarks: [N, 478, 3] <-> coefficients [N, n].

    template: float32 [478, 3], the shape to align to. mean: float32 [478, 3] of the aligned landmarks. basis:
    float32
    [n, 1434], orthonormal to 1e-3, since its numbers are float16's (so that a saved PCA gives the same
    descriptors as the fitted one). explained: float32 [n], each component's share of the variance,
    descending. encoder: name of what found the landmarks. Units: the distance between the template's outer
    eye corners is 1.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite.manifest import find_data
    >>> pca = LandmarkPCA.load(find_data() / "bank" / "landmark_pca.npz")
    >>> pca.dim, pca.encode_landmarks(3 * pca.mean[None] + 7).shape
    (64, (1, 64))
    """

    template: np.ndarray  # [478, 3]
    mean: np.ndarray  # [478, 3]
    basis: np.ndarray  # [n, 1434]
    explained: np.ndarray  # [n]
    encoder: str

    @classmethod
    def fit(cls, landmarks: np.ndarray, n: int = 64, *, encoder: str) -> LandmarkPCA:
        """Fit on unaligned landmarks [N, 478, 3]: makes the template, aligns to it, keeps the n largest
        components.

        Raises ValueError when rows are NaN (leave frames without a face out) or n is not in 1 .. min(N - 1,
        1434).
        """
        landmarks = _check(landmarks)
        missing = np.flatnonzero(~np.isfinite(landmarks).all((1, 2)))
        if len(missing):
            raise ValueError(
                f"landmarks of frame {missing[0]} and {len(missing) - 1} others are not finite; leave frames "
                "without a face out of the fit"
            )
        if not 1 <= n <= min(len(landmarks) - 1, 478 * 3):
            raise ValueError(
                f"{len(landmarks)} frames allow 1 to {min(len(landmarks) - 1, 478 * 3)} components, not {n}; "
                "fit on more frames or ask for fewer components"
            )
        template = mean_template(landmarks)
        flat = align_landmarks(landmarks, template).reshape(len(landmarks), -1).astype(np.float64)
        mean = flat.mean(0)
        flat -= mean
        # The 1434 x 1434 covariance is far smaller than a bank of frames.
        variance, vectors = np.linalg.eigh(flat.T @ flat)
        basis = vectors[:, ::-1][:, :n].T
        # An eigenvector's sign is arbitrary; a fixed one makes two fits comparable.
        largest = np.abs(basis).argmax(1)
        basis *= np.sign(basis[np.arange(n), largest])[:, None]
        explained = variance[::-1][:n] / max(variance.sum(), np.finfo(float).tiny)
        return cls(
            template,
            mean.reshape(478, 3).astype(np.float32),
            basis.astype(np.float16).astype(np.float32),
            explained.astype(np.float32),
            encoder,
        )

    @property
    def dim(self) -> int:
        """Number of components n."""
        return len(self.basis)

    def transform(self, aligned: np.ndarray) -> np.ndarray:
        """Coefficients float32 [N, n] of aligned landmarks [N, 478, 3]; NaN rows stay NaN."""
        aligned = _check(aligned)
        return ((aligned - self.mean).reshape(len(aligned), self.mean.size) @ self.basis.T).astype(np.float32)

    def inverse(self, coefficients: np.ndarray) -> np.ndarray:
        """Aligned landmarks float32 [N, 478, 3] that coefficients [N, n] stand for."""
        coefficients = np.asarray(coefficients, np.float32)
        if coefficients.ndim != 2 or coefficients.shape[1] != self.dim:
            raise ValueError(f"coefficients must be [N, {self.dim}], not {list(coefficients.shape)}")
        return (coefficients @ self.basis).reshape(-1, 478, 3) + self.mean

    def encode_landmarks(self, landmarks: np.ndarray) -> np.ndarray:
        """Coefficients float32 [N, n] of unaligned landmarks [N, 478, 3], in pixels say; NaN rows stay
        NaN."""
        return self.transform(align_landmarks(landmarks, self.template))

    def displacements_at(self, landmarks: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
        """How far one unit of each coefficient moves landmarks that stand in another space, in its units.

        landmarks: [L, 3], a face there. points: int [L], which of the 478 they are (None: all, in order).
        Returns float64 [n, L, 3]. The space is found by the similarity that brings the mean face nearest to
        the landmarks: by the rigid points where all are there, else by all that are.

        >>> from raf_lite.manifest import find_data
        >>> pca = LandmarkPCA.load(find_data() / "bank" / "landmark_pca.npz")
        >>> there = pca.displacements_at(3 * pca.mean + 7)
        >>> bool(np.allclose(there, 3 * pca.basis.reshape(64, 478, 3), atol=1e-4))
        True
        """
        points = np.arange(478) if points is None else points
        used = RIGID if len(points) == 478 else np.arange(len(points))
        scale, rotation, _ = _umeyama(
            self.mean[points][None, used], np.asarray(landmarks, np.float64)[used], np.zeros(1, int)
        )
        return scale[0] * self.basis.reshape(-1, 478, 3)[:, points].astype(np.float64) @ rotation[0].T

    def save(self, path: str | os.PathLike) -> None:
        """Write an npz, atomically (some 200 kB for 64 components)."""
        write_npz(
            path,
            version=np.array(FILE_VERSION),
            encoder=np.array(self.encoder),
            template=self.template,
            mean=self.mean,
            basis=self.basis.astype(np.float16),
            explained=self.explained,
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> LandmarkPCA:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for a damaged file or another
        version."""
        fields = ("version", "encoder", "template", "mean", "basis", "explained")
        stored = read_npz(path, fields, mend="write it again with LandmarkPCA.save()")
        version, encoder, template, mean, basis, explained = stored.values()
        if version.shape:  # a large one would take long to be printed
            raise ValueError(
                f"{path} holds versions of shape {list(version.shape)}; write it again with save()"
            )
        if version != FILE_VERSION:
            raise ValueError(
                f"{path} is a LandmarkPCA of version {version}, this package reads {FILE_VERSION}; fit it"
                " again"
            )
        arrays = (template, mean, basis, explained)
        if any(a.dtype.kind not in "fiu" or not np.isfinite(a).all() for a in arrays) or (
            explained.ndim != 1 or encoder.ndim or encoder.dtype.kind != "U"
        ):
            raise ValueError(f"{path} holds values that are no finite numbers; write it again with save()")
        pca = cls(template, mean, basis.astype(np.float32), explained, str(encoder))
        if (pca.template.shape, pca.mean.shape, pca.basis.shape) != (
            (478, 3),
            (478, 3),
            (len(pca.explained), 478 * 3),
        ):
            raise ValueError(
                f"{path} holds arrays of the wrong shape for a LandmarkPCA; write it again with save()"
            )
        return pca
