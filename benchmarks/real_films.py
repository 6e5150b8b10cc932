"""Films of real people for `real_retrieval.py`: whose descriptors a bank holds, which frames are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import faiss
import numpy as np

from raf_lite.bank import ExpressionBank
from raf_lite.course.film_frames import FilmFrames
from raf_lite.descriptors import ENCODER
from raf_lite.descriptors.encode_video import VideoDetections
from raf_lite.descriptors.forms import detected_descriptors, landmark_basis, parts
from raf_lite.manifest import find_data

ENCODED = ("blendshapes", "landmarks")
BANKS = ("others", "rendered", "both")
CLUSTERS, LEAST, MOST, MARGIN = 6, 0.05, 0.25, 5  # of `missing_expression`; shares of the frames, and frames
NEAR = "are close in time to those held out"


@dataclass(frozen=True)
class Rows:
    """Frames of many people: descriptors as the encoder gave them, by ENCODED, [N, D]; whose they are, str
    [N]; and encoder poses, [N, 4, 4]."""

    descriptors: Mapping[str, np.ndarray]
    donors: np.ndarray
    poses: np.ndarray

    @classmethod
    def of_films(cls, films: Mapping[str, VideoDetections]) -> Rows:
        """Every frame of these films in which a face was found."""
        found = [seen.face_found for seen in films.values()]
        return cls(
            {
                encoded: np.concatenate(
                    [detected_descriptors(s, encoded)[s.face_found] for s in films.values()]
                )
                for encoded in ENCODED
            },
            np.repeat(list(films), [int(f.sum()) for f in found]),
            np.concatenate([s.encoder_pose[s.face_found] for s in films.values()]),
        )

    @classmethod
    def rendered(cls) -> Rows:
        """The shipped bank's."""
        banks = {e: ExpressionBank.load(find_data() / "bank", descriptor=e) for e in ENCODED}
        bank = banks["blendshapes"]
        assert bank.encoder_pose is not None  # the shipped one has them
        return cls({e: b.descriptors for e, b in banks.items()}, bank.donors.astype(str), bank.encoder_pose)

    def __add__(self, more: Rows) -> Rows:
        return Rows(
            {e: np.concatenate([self.descriptors[e], more.descriptors[e]]) for e in ENCODED},
            np.concatenate([self.donors, more.donors]),
            np.concatenate([self.poses, more.poses]),
        )

    def bank(self, descriptor: str) -> ExpressionBank:
        """In a form, each donor's own mean being that of all their rows here."""
        encoded, form = parts(descriptor)
        bank = ExpressionBank.from_arrays(
            self.descriptors[encoded],
            self.donors,
            encoder=ENCODER,
            descriptor=encoded,
            encoder_pose=self.poses,
        )
        return bank.in_form(form)


def rows_for(clip: str, films: Mapping[str, VideoDetections], bank: str) -> Rows:
    """What a bank of BANKS holds for the avatar of one film: all the other films, the rendered people, or
    both; never the film itself."""
    others = {name: seen for name, seen in films.items() if name != clip}
    if bank == "rendered":
        return Rows.rendered()
    return Rows.of_films(others) if bank == "others" else Rows.rendered() + Rows.of_films(others)


def missing_expression(places: np.ndarray) -> np.ndarray:
    """Rows of the expression that a film is made to lack, rising; places: [F, D], its landmarks as
    coefficients.

    k-means into CLUSTERS (Euclidean, the best of ten starts, seed 0); of the clusters with LEAST to MOST of
    the frames, the one whose centre is farthest from the mean. Raises ValueError where none is of that size.

    Coefficients are not brought to one variance, or the last of them, which are the encoder's noise and what
    is left of the head's turn, would have as much say as the jaw. Tried on eight films, two of them then had
    a turn of the head held out rather than a face: 6.5 and 11.2 degrees to the nearest frame that is left,
    where the rule as it is has 3.4 at most.
    """
    own = np.ascontiguousarray(places - places.mean(0), np.float32)
    means = faiss.Kmeans(own.shape[1], CLUSTERS, niter=50, nredo=10, seed=0, min_points_per_centroid=1)
    means.train(own)
    member = means.index.search(own, 1)[1][:, 0]
    share = np.bincount(member, minlength=CLUSTERS) / len(own)
    away = np.linalg.norm(means.centroids, axis=1)
    away[(share < LEAST) | (share > MOST)] = -1
    if away.max() < 0:
        raise ValueError(
            f"no expression has {LEAST:.0%} to {MOST:.0%} of the frames, but {share.round(2).tolist()}"
        )
    return np.flatnonzero(member == away.argmax())


def cut_out(frames: FilmFrames, landmarks: np.ndarray) -> FilmFrames:
    """The same frames of use, the missing expression held out, and MARGIN frames to either side of each of
    its frames neither trained on nor held out. landmarks: [T, D], coefficients of all frames of the film."""
    used = np.array(frames.used)
    held_out = used[missing_expression(landmarks[used])]
    away = np.abs(used[:, None] - held_out).min(1)
    near = used[(away > 0) & (away <= MARGIN)]
    trained = used[away > MARGIN]
    return replace(
        frames.without(near.tolist(), NEAR),
        trained=tuple(trained.tolist()),
        held_out=tuple(held_out.tolist()),
    )


def film_landmarks(seen: VideoDetections) -> np.ndarray:
    """Coefficients float32 [T, 64] of a film's landmarks, NaN where no face was found."""
    return landmark_basis().encode_landmarks(seen.landmarks)


def gap(frames: FilmFrames, landmarks: np.ndarray) -> float:
    """How far the held-out frames are from what is trained on: the distance of the landmarks to those of the
    nearest trained frame (root mean square over landmarks), in percent of the distance of the outer eye
    corners, mean over the frames."""
    held_out, trained = landmarks[list(frames.held_out)], landmarks[list(frames.trained)]
    nearest = np.linalg.norm(held_out[:, None] - trained, axis=-1).min(1)
    return float(100 * nearest.mean() / np.sqrt(len(landmark_basis().mean)))
