"""How an avatar is driven: the camera before its face, head poses that turn it, a driver's descriptors in the
avatar's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from raf_lite._arrays import descriptor_array
from raf_lite._forms import likely_neutral, parts, relative_to
from raf_lite.avatar.gaussian_avatar import GaussianAvatar
from raf_lite.avatar.views import limited
from raf_lite.captures import Camera
from raf_lite.captures.cameras import OPENGL_AXES

if TYPE_CHECKING:
    from raf_lite.descriptors import Detections

ExpectedMean = Callable[[np.ndarray, int], np.ndarray]
"""What somebody's mean descriptor [D] is taken to be, for the mean of the frames so far [D] and how many
these are: `raf_lite.bank.OwnMean.expected`."""
_DISTANCE = 6.0  # of the camera that is made up where an avatar knows none, in head radii


class Drivable(Protocol):
    """Whatever can be graded and filmed as an avatar; `GaussianAvatar` is one.

    >>> from raf_lite.manifest import find_data
    >>> avatar: Drivable = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> avatar.descriptor
    'blendshapes'
    """

    descriptor: str
    """The name of the descriptor that drives it."""

    def render(
        self,
        descriptors: np.ndarray,  # [T, D]
        head_poses: np.ndarray,  # [T, 4, 4]
        cameras: list[Camera],  # C of one size
    ) -> np.ndarray:
        """Pictures float32 [T, C, H, W, 3] in [0, 1]."""
        ...


def frontal_camera(avatar: GaussianAvatar, size: int) -> Camera:
    """A camera with `size` pixels on its longer side, in the avatar's head space, that sees its face from the
    front.

    It is the training camera that the descriptors come from, as it stood to the neutral head. An avatar that
    does not know it is seen along the z axis, y being up: so are the head spaces of FLAME, BFM and ICT.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> camera = frontal_camera(avatar, 64)
    >>> camera.width, camera.height
    (64, 64)
    """
    front = avatar.front
    if front is None:
        view = OPENGL_AXES.copy()  # y down and z forward, as OpenCV's cameras have it
        view[2, 3] = _DISTANCE
        focal = size / 2 * np.sqrt(_DISTANCE**2 - 1)
        front = Camera(
            "front", view, np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), size, size
        )
    view, similarity = front.world_to_camera.copy(), avatar.similarity
    view[:3, 3] = similarity.radius * view[:3, 3] - view[:3, :3] @ similarity.centre
    return replace(front.scaled(size / max(front.width, front.height)), world_to_camera=view)


def turned(avatar: GaussianAvatar, camera: Camera, rotations: np.ndarray) -> np.ndarray:
    """Head poses [T, 4, 4] that turn the avatar about its middle as a driver turns: rotations [T, 3, 3] away
    from facing the camera, in OpenCV's axes.

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#head-pose.

    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> quarter = np.array([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    >>> poses = turned(avatar, frontal_camera(avatar, 64), quarter)
    >>> bool(
    ...     np.allclose(
    ...         poses[0, :3, :3] @ avatar.similarity.centre + poses[0, :3, 3], avatar.similarity.centre
    ...     )
    ... )
    True
    """
    c, view = avatar.similarity.centre, camera.world_to_camera[:3, :3]
    poses = np.tile(np.eye(4), (len(rotations), 1, 1))
    poses[:, :3, :3] = view.T @ rotations @ view
    poses[:, :3, 3] = c - poses[:, :3, :3] @ c
    return poses


def within_views(avatar: Drivable, camera: Camera, head_poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head poses [T, 4, 4], each that turns the avatar farther from `camera` than BEYOND (20 degrees) over
    the views that it was trained on turned back so far; and which were, bool [T]. As they are for an avatar
    that does not know its views.

    Conventions: docs/conventions.md#head-pose.

    >>> from raf_lite.avatar.views import ViewRange
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> avatar.views = ViewRange(yaw=(-0.1, 0.1), pitch=(0.0, 0.0))
    >>> camera, quarter = frontal_camera(avatar, 64), np.array([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    >>> poses, over = within_views(avatar, camera, turned(avatar, camera, quarter))
    >>> bool(over[0]), round(float(np.rad2deg(np.arccos((np.trace(poses[0]) - 2) / 2))))
    (True, 26)
    """
    if not isinstance(avatar, GaussianAvatar) or avatar.views is None:
        return head_poses, np.zeros(len(head_poses), bool)
    front = avatar.view(frontal_camera(avatar, 64), np.eye(4))
    views, over = limited(np.stack([avatar.view(camera, pose) for pose in head_poses]), front, avatar.views)
    poses, from_camera = np.array(head_poses, np.float64), np.linalg.inv(camera.world_to_camera)
    for t in np.flatnonzero(over):
        poses[t] = from_camera @ avatar.similarity.head_to_camera(views[t])
    return poses, over


def resting_descriptor(avatar: GaussianAvatar) -> np.ndarray:
    """What shows the avatar at rest, float32 [D]: its neutral descriptor; the mean of its training frames
    where it knows none.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> resting_descriptor(avatar).shape
    (52,)
    """
    return (
        avatar.descriptor_mean.cpu().numpy()
        if avatar.neutral_descriptor is None
        else avatar.neutral_descriptor
    )


def same_descriptor(avatars: Mapping[str, Drivable]) -> str:
    """The descriptor that drives all avatars. ValueError where one is driven by another than the first.

    >>> from raf_lite.avatar.loading import load_avatars
    >>> from raf_lite.manifest import find_data
    >>> folder = find_data() / "checkpoints"
    >>> same_descriptor(
    ...     load_avatars([folder / "001-baseline.safetensors", folder / "001-centred.safetensors"])
    ... )
    'blendshapes'
    """
    (first, avatar), *others = avatars.items()
    for name, other in others:
        if parts(other.descriptor) != parts(avatar.descriptor):
            raise ValueError(
                f"avatar '{first}' is driven by '{avatar.descriptor}' and '{name}' by '{other.descriptor}';"
                " show or grade them apart"
            )
    return avatar.descriptor


def own_reference(avatar: Drivable) -> np.ndarray | None:
    """What was taken out of the avatar's own training frames, float32 [D]: their mean, or its neutral frame's
    descriptor; None for a raw form, and for an avatar whose file does not say. Raises ValueError where it
    says no finite numbers.

    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> own_reference(avatar) is None  # it is driven by blendshapes as they are
    True
    """
    known = getattr(avatar, "provenance", {}).get("reference")
    if known is None:
        return None
    try:
        return descriptor_array([known], "what was taken out of the avatar's training frames")[0]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the avatar's provenance holds no 'reference' ({error}); train it again") from error


def driving_descriptors(
    avatar: GaussianAvatar,
    descriptors: np.ndarray,
    relative: str | int | None = None,
    *,
    descriptor: str | None = None,
    expected_mean: ExpectedMean | None = None,
) -> np.ndarray:
    """What the avatar is given for a driver's descriptors [T, D], NaN where no face was found: float32 [T,
    D].

    relative: "mean": minus the driver's mean, plus the mean of the avatar's training frames; asks for no
    label. A number: minus those of the driver's neutral frame of this number, plus those of the avatar's own
    neutral frame. None: as the avatar's form asks. A raw one (`blendshapes`) takes them as they are, one
    minus the own mean (`landmarks-mean`) minus the driver's mean, one minus neutral (`landmarks-neutral`)
    minus the driver's frame that is nearest to that mean, which is said. Frames without a face keep the last
    one's.

    descriptor: the name of what is given (default: the raw numbers of the avatar's form, as an encoder gives
    them). What has the avatar's form already is taken as it is where `relative` is None.

    expected_mean: what the driver's mean is taken to be (default: the mean of these frames, which of a short
    video is in part the expression that it shows).

    Raises ValueError for another descriptor or dimension, no face at all, no face in the neutral frame, and
    an avatar that does not know its neutral.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> driver = open_capture(find_data() / "mini_nersemble" / "101").descriptors("FREE", "blendshapes")
    >>> given = driving_descriptors(avatar, driver, relative="mean")
    >>> bool(np.allclose(given.mean(0), avatar.descriptor_mean, atol=1e-3))
    True
    """
    encoded, form = parts(avatar.descriptor)
    given = (encoded, "raw") if descriptor is None else parts(descriptor)
    if given[0] != encoded or (given[1] != "raw" and form == "raw" and relative is None):
        raise ValueError(
            f"this avatar is driven by '{avatar.descriptor}', and these descriptors are '{descriptor}'; give"
            f" it '{encoded}'"
        )
    descriptors = avatar.check_descriptors(descriptors, gaps=True)
    own = avatar.descriptor_mean.cpu().numpy()
    found = np.flatnonzero(np.isfinite(descriptors).all(1))
    if not len(found):
        raise ValueError("no frame of the driver has a descriptor; give a video in which a face is seen")
    held = found[(np.searchsorted(found, np.arange(len(descriptors)), side="right") - 1).clip(0)]
    out = descriptors[held]

    def mean() -> np.ndarray:
        seen = descriptors[found].mean(0, dtype=np.float64)
        return seen.astype(np.float32) if expected_mean is None else expected_mean(seen, len(found))

    if relative is None and given[1] != form:
        if form == "mean":
            return relative_to(out, mean())
        rest = int(found[likely_neutral(descriptors[found])])
        print(
            f"nobody named the driver's neutral frame: frame {rest}, the nearest to the mean expression, is"
            " taken"
        )
        return out - descriptors[rest]
    if relative == "mean":
        return out - mean() + own
    if isinstance(relative, int):
        if relative not in found:
            raise ValueError(f"no face was found in the driver's neutral frame {relative}; name another one")
        if avatar.neutral_descriptor is None:
            raise ValueError(
                "this avatar does not know its neutral descriptor; train it again, or drive it relative to"
                " the mean"
            )
        return out - descriptors[relative] + avatar.neutral_descriptor
    return out


def driven_by(
    avatar: GaussianAvatar,
    seen: Detections,
    relative: str | int | None = None,
    *,
    expected_mean: ExpectedMean | None = None,
) -> np.ndarray:
    """What the avatar is given for what an encoder saw of a driver, such as a video's encoding: float32 [T,
    D].

    relative, expected_mean: see `driving_descriptors`. Raises ValueError as that, and for an avatar that
    neither blendshapes nor landmarks drive.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite.descriptors import Detections
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> smile = Detections(
    ...     np.full((1, 52), 0.5, np.float32),
    ...     np.zeros((1, 478, 3), np.float32),
    ...     np.eye(4)[None],
    ...     face_found=np.array([True]),
    ... )
    >>> driven_by(avatar, smile)[0, :2].tolist()
    [0.5, 0.5]
    """
    from raf_lite.descriptors.forms import detected_descriptors  # asks for the captures' extra

    given = detected_descriptors(seen, avatar.descriptor)
    return driving_descriptors(avatar, given, relative, expected_mean=expected_mean)
