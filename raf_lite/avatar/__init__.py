"""The avatar: canonical Gaussians, a deformation field conditioned on a descriptor, a rigid head pose, checkpoints."""

from raf_lite.avatar.fields import FIELDS, FieldMLP, LearnedBasis
from raf_lite.avatar.gaussian_avatar import GaussianAvatar
from raf_lite.avatar.hull import Similarity, surface_points, visual_hull

__all__ = ["FIELDS", "FieldMLP", "GaussianAvatar", "LearnedBasis", "Similarity", "surface_points", "visual_hull"]
