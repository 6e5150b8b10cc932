"""The avatar: canonical Gaussians, a deformation field conditioned on a descriptor, a rigid head pose,
checkpoints, driving."""

from raf_lite.avatar.alignment import aligned_poses, moved
from raf_lite.avatar.driving import (
    Drivable,
    driven_by,
    driving_descriptors,
    frontal_camera,
    own_reference,
    resting_descriptor,
    same_descriptor,
    turned,
    within_views,
)
from raf_lite.avatar.fields import FIELDS, FieldMLP, LearnedBasis
from raf_lite.avatar.gaussian_avatar import GaussianAvatar
from raf_lite.avatar.hull import Similarity, surface_points, visual_hull
from raf_lite.avatar.prior import MotionPrior
from raf_lite.avatar.views import ViewRange

__all__ = [
    "FIELDS",
    "Drivable",
    "FieldMLP",
    "GaussianAvatar",
    "LearnedBasis",
    "MotionPrior",
    "Similarity",
    "ViewRange",
    "aligned_poses",
    "driven_by",
    "driving_descriptors",
    "frontal_camera",
    "moved",
    "own_reference",
    "resting_descriptor",
    "same_descriptor",
    "surface_points",
    "turned",
    "visual_hull",
    "within_views",
]
