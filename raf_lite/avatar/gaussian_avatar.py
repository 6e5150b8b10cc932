"""`GaussianAvatar`: canonical 3-D Gaussians, a deformation field, a rigid head pose, and what it knows of
itself. No template."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from raf_lite._arrays import descriptor_array
from raf_lite._files import read_tensors, write_tensors
from raf_lite.avatar.fields import FIELDS
from raf_lite.avatar.hull import Similarity, surface_points, visual_hull
from raf_lite.avatar.landmark_motion import LandmarkMotion
from raf_lite.avatar.prior import MotionPrior, PlacedPrior
from raf_lite.avatar.reach import Reach
from raf_lite.avatar.shell import shell_points
from raf_lite.avatar.views import ViewRange
from raf_lite.captures import Camera
from raf_lite.captures.cameras import rigid_problem
from raf_lite.splatting import rasterize
from raf_lite.splatting.rasterize import Backend

FORMAT = 1  # of the checkpoint; raised when its meaning changes
_MEND = "save or copy the avatar again"
_REMADE = "prior.components"  # large, and follows from the rest: no part of the file


def _check_field(name: str, settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """ValueError where a field of these settings has other tensors than those that are there: asked before
    any memory is taken, since a line of text can ask for any amount."""
    with torch.device("meta"):
        field = FIELDS[name](len(state["descriptor_mean"]), len(state["means"]), **settings)
    asked = {f"field.{key}": tensor.shape for key, tensor in field.state_dict().items()}
    if asked != {key: tensor.shape for key, tensor in state.items() if key.startswith("field.")}:
        raise ValueError(f"the field's tensors are not those of {dict(settings)}")


def _front_camera(viewmat: np.ndarray, K: np.ndarray, width: int, height: int) -> Camera:
    """The camera before the face, from its view matrix [4, 4] from normalised head space.

    Head poses may be rounded more than Camera allows: then it gets the nearest rotation. Raises ValueError as
    Camera does."""
    viewmat = np.array(viewmat, np.float64)
    if rigid_problem(viewmat, 1e-4) and not rigid_problem(viewmat, 1e-2):
        viewmat[:3, :3] = Rotation.from_matrix(viewmat[:3, :3]).as_matrix()
    return Camera("front", viewmat, K, int(width), int(height))


class GaussianAvatar(nn.Module):
    """A head of N Gaussians in normalised head space (centre 0, radius 1), driven by a descriptor [D] and a
    head pose [4, 4].

    means: [N, 3] initial positions, normalised. colors: [N, 3] initial colours in [0, 1]. spacing: initial
    standard deviation of a Gaussian, in radii. similarity: how the capture's head space was normalised.
    descriptor: name of the descriptor that drives it. descriptor_mean [D], descriptor_scale: fixed
    standardisation of the descriptor, one scale for all dimensions so that dead ones stay dead. field: a name
    in `FIELDS`. motion: what landmarks do to the Gaussians under the field, for avatars that have it. prior:
    what other people's faces do, under the field too. reach: how far from training the field is asked, for
    avatars that have either.

    What it knows of itself, and keeps in its file: neutral_descriptor, float32 [D], that of its own neutral
    face. front: the camera that sees this face from the front, its world the normalised head space. views:
    the range of views that its training frames show; each None where it is not known. provenance: what it was
    made from and how, as JSON (a trained one: config, raf_lite, training_frames, checksum).

    Raises ValueError for a neutral descriptor of another shape or with NaN.

    Conventions: docs/conventions.md#units, docs/conventions.md#gaussians, docs/conventions.md#descriptors.

    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> len(avatar.means), avatar.descriptor, avatar.descriptor_mean.shape
    (5000, 'blendshapes', torch.Size([52]))
    >>> avatar.gaussians(avatar.descriptor_mean[None])[0]["means"].shape
    torch.Size([1, 5000, 3])
    """

    descriptor_mean: Tensor
    descriptor_scale: Tensor

    def __init__(
        self,
        means: Tensor,
        colors: Tensor,
        spacing: float,
        similarity: Similarity,
        *,
        descriptor: str,
        descriptor_mean: Tensor,
        descriptor_scale: float,
        field: str = "basis",
        field_settings: dict | None = None,
        neutral_descriptor: np.ndarray | None = None,
        front: Camera | None = None,
        views: ViewRange | None = None,
        provenance: Mapping[str, Any] | None = None,
        motion: LandmarkMotion | None = None,
        prior: PlacedPrior | None = None,
        reach: Reach | None = None,
    ) -> None:
        super().__init__()
        n = len(means)
        self.descriptor, self.field_name, self.similarity = descriptor, field, similarity
        self.neutral_descriptor: np.ndarray | None = None
        if neutral_descriptor is not None:
            self.neutral_descriptor = np.array(neutral_descriptor, np.float32)
            dim = len(descriptor_mean)
            if self.neutral_descriptor.shape != (dim,) or not np.isfinite(self.neutral_descriptor).all():
                raise ValueError(
                    f"the neutral descriptor is {list(self.neutral_descriptor.shape)} or has values that are"
                    f" not finite; give [{dim}] numbers of '{descriptor}', as descriptor_mean has"
                )
        self.front: Camera | None = front
        self.views: ViewRange | None = views
        self.provenance: Mapping[str, Any] = dict(provenance or {})
        self.means = nn.Parameter(means.clone())
        self.quats = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(n, 1))  # wxyz
        self.log_scales = nn.Parameter(torch.full((n, 3), float(np.log(spacing))))
        self.opacity_logits = nn.Parameter(torch.full((n,), 0.5))
        self.color_logits = nn.Parameter(torch.logit(colors.clamp(0.02, 0.98)))
        self.field = FIELDS[field](len(descriptor_mean), n, **(field_settings or {}))
        self.motion, self.prior, self.reach = motion, prior, reach
        self.register_buffer("descriptor_mean", descriptor_mean.clone().float())
        self.register_buffer("descriptor_scale", torch.tensor(float(descriptor_scale)))

    @classmethod
    def from_capture(
        cls,
        images: np.ndarray,
        masks: np.ndarray,
        cameras: list[Camera],
        head_pose: np.ndarray,
        *,
        gaussians: int,
        rng: np.random.Generator,
        descriptor: str,
        descriptor_mean: np.ndarray,
        descriptor_scale: float,
        neutral_descriptor: np.ndarray,
        front: int,
        provenance: Mapping[str, Any],
        field: str = "basis",
        field_settings: dict | None = None,
        landmarks: np.ndarray | None = None,
    ) -> GaussianAvatar:
        """Start an avatar from one neutral moment: images [C, H, W, 3] and masks [C, H, W] in [0, 1], seen by
        C cameras.

        neutral_descriptor: [D] at this moment. front: which of the cameras sees the face from the front.
        landmarks: [L, 3] of the face in head space, z out of it: then the one camera's picture is laid over
        them; without them the cameras carve the head.
        """
        camera = cameras[front]
        if landmarks is None:
            shape = visual_hull(masks, cameras, head_pose)
            points, colours = surface_points(shape, images, cameras, head_pose, gaussians, rng)
        else:
            shape, colours = shell_points(
                landmarks, images[front], masks[front], camera, head_pose, gaussians, rng
            )
            points = shape
        centre = (shape.max(0) + shape.min(0)) / 2
        similarity = Similarity(centre=centre, radius=float(np.linalg.norm(shape - centre, axis=1).max()))
        means = torch.as_tensor((points - centre) / similarity.radius, dtype=torch.float32)
        # Gaussians about as wide as the gaps between them. Those of a hull are thought spread over a sphere;
        # points that are strewn over a surface are half a gap from the nearest other in the mean.
        if landmarks is None:
            spacing = 0.6 * float(np.sqrt(4 * np.pi * 0.6**2 / gaussians))
        else:
            gaps = 2 * cKDTree(means.numpy()).query(means.numpy(), k=2)[0][:, 1].clip(max=0.5)
            spacing = 0.45 * float(gaps.mean())
        return cls(
            means,
            torch.as_tensor(colours, dtype=torch.float32),
            spacing,
            similarity,
            descriptor=descriptor,
            descriptor_mean=torch.as_tensor(descriptor_mean),
            descriptor_scale=descriptor_scale,
            field=field,
            field_settings=field_settings,
            neutral_descriptor=neutral_descriptor,
            front=_front_camera(
                similarity.viewmat(camera.world_to_camera, head_pose), camera.K, camera.width, camera.height
            ),
            provenance=provenance,
        )

    def ride(self, landmarks: np.ndarray, displacements: np.ndarray, descriptors: np.ndarray) -> None:
        """Let the Gaussians go with the landmarks near them (`LandmarkMotion`), from where they are now.

        landmarks: [L, 3] of the neutral face, in head space. displacements: [D, L, 3], there, by one unit of
        each dimension of the descriptor. descriptors: [F, D] of training, far from which the field is not
        asked. Raises ValueError for an avatar that knows no neutral descriptor.
        """
        if self.neutral_descriptor is None:
            raise ValueError("this avatar knows no neutral descriptor, so landmarks have no place to start")
        radius = self.similarity.radius
        self.motion = LandmarkMotion.attach(
            self.means.detach().cpu().numpy(),
            (landmarks - self.similarity.centre) / radius,
            displacements / radius,
            self.neutral_descriptor,
        ).to(self.means.device)
        self.reach = Reach.of_training(descriptors).to(self.means.device)

    def lean_on(self, prior: MotionPrior, landmarks: np.ndarray, descriptors: np.ndarray) -> None:
        """Let the Gaussians move as other people's faces do (`MotionPrior`), and the field learn the rest.
        Where they ride on landmarks, these go where the descriptor says, and the prior says what lies
        between them; so `ride` comes first.

        landmarks: [478, 3] or [68, 3] of the neutral face, in head space. descriptors: [F, D] of training,
        far from which the field is not asked. Raises ValueError for an avatar that knows no neutral
        descriptor, and where the prior cannot be placed on it.
        """
        if self.neutral_descriptor is None:
            raise ValueError(
                "this avatar knows no neutral descriptor, so a motion prior has no place to start"
            )
        normal = (landmarks - self.similarity.centre) / self.similarity.radius
        placed = PlacedPrior.attach(prior, normal, self.neutral_descriptor, len(self.means))
        self.prior = placed.to(self.means.device)
        self.reach = Reach.of_training(descriptors).to(self.means.device)
        self.follow()

    def follow(self) -> None:
        """Ask the prior anew, where there is one: its numbers are those of where the Gaussians were."""
        if self.prior is not None:
            self.prior.follow(self.means.detach(), self.quats.detach(), self.motion)

    def gaussians(self, descriptors: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Deformed Gaussians for descriptors [B, D].

        Returns a dict of means [B, N, 3], quats [B, N, 4] (wxyz, not normalised), scales [B, N, 3], opacities
        [N] and colors [B, N, 3], all in normalised head space, and the field's offsets [B, N, 13] for a
        penalty.
        """
        asked = descriptors if self.reach is None else self.reach.within(descriptors)
        x = (asked - self.descriptor_mean) / self.descriptor_scale
        offsets = self.field(x, self.means)
        d_means, d_quats, d_scales, d_colors = offsets.split((3, 4, 3, 3), -1)
        ridden = 0 if self.motion is None else self.motion(descriptors)
        if self.prior is not None:
            p_means, p_quats, p_scales = self.prior(descriptors).split((3, 4, 3), -1)
            d_means, d_quats, d_scales = d_means + p_means, d_quats + p_quats, d_scales + p_scales
        return {
            "means": self.means + ridden + d_means,
            "quats": self.quats + d_quats,
            "scales": torch.exp(self.log_scales + d_scales),
            "opacities": torch.sigmoid(self.opacity_logits),
            "colors": torch.sigmoid(self.color_logits + d_colors),
        }, offsets

    def splat(
        self,
        descriptor: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,  # [D], [C, 4, 4], [C, 3, 3]
        background: float = 1.0,
        backend: Backend = "auto",
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Differentiable render of one expression from C views: image [C, H, W, 3], alpha [C, H, W, 1],
        offsets [N, 13].

        viewmats come from `view`, which folds in the head pose and the normalisation.
        """
        g, offsets = self.gaussians(descriptor[None])
        backgrounds = torch.full((len(viewmats), 3), background, device=viewmats.device)
        image, alpha, _ = rasterize(
            g["means"][0],
            g["quats"][0],
            g["scales"][0],
            g["opacities"],
            g["colors"][0],
            viewmats,
            Ks,
            width,
            height,
            backgrounds=backgrounds,
            backend=backend,
            rasterize_mode="antialiased",
        )
        return image, alpha, offsets[0]

    def view(self, camera: Camera, head_pose: np.ndarray) -> np.ndarray:
        """View matrix [4, 4] from normalised head space to `camera`, for a head at `head_pose` [4, 4]."""
        return self.similarity.viewmat(camera.world_to_camera, head_pose)

    def check_descriptors(
        self, descriptors: np.ndarray, what: str = "descriptors", *, gaps: bool = False
    ) -> np.ndarray:
        """`descriptors` as float32 [T, D]; ValueError that names `what`, unless they are finite and of this
        avatar's D.

        gaps: rows of NaN, for frames without a face, are let pass.
        """
        return descriptor_array(
            descriptors,
            what,
            dim=len(self.descriptor_mean),
            whose=f"this avatar's '{self.descriptor}'",
            gaps=gaps,
        )

    @torch.no_grad()
    def render(
        self, descriptors: np.ndarray, head_poses: np.ndarray, cameras: list[Camera], background: float = 1.0
    ) -> np.ndarray:
        """Pictures for T moments from C cameras of one size: float32 [T, C, H, W, 3] in [0, 1].

        descriptors: [T, D]. head_poses: [T, 4, 4] head to world. Raises ValueError on a wrong dimension or
        NaN.

        Conventions: docs/conventions.md#pictures-colours-and-masks.

        >>> from raf_lite.manifest import find_data
        >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
        >>> from raf_lite.avatar import frontal_camera, resting_descriptor
        >>> avatar.render(
        ...     resting_descriptor(avatar)[None], np.eye(4)[None], [frontal_camera(avatar, 64)]
        ... ).shape
        (1, 1, 64, 64, 3)
        """
        descriptors = self.check_descriptors(descriptors)
        device = self.means.device
        width, height = cameras[0].width, cameras[0].height
        Ks = torch.as_tensor(np.stack([c.K for c in cameras]), dtype=torch.float32, device=device)
        frames = []
        for descriptor, pose in zip(torch.as_tensor(descriptors, device=device), head_poses, strict=True):
            views = np.stack([self.view(c, pose) for c in cameras])
            image, _, _ = self.splat(
                descriptor,
                torch.as_tensor(views, dtype=torch.float32, device=device),
                Ks,
                width,
                height,
                background,
            )
            frames.append(image.clamp(0, 1).cpu().numpy())
        return np.stack(frames)

    def origin(self) -> dict[str, Any]:
        """What it knows of itself as JSON: the entries of `provenance`, "neutral_descriptor" [D], "front"
        (viewmat [4, 4] from normalised head space, K [3, 3], width, height) and "views" (yaw, pitch: lowest
        and highest). What it does not know is left out."""
        out = dict(self.provenance)
        if self.neutral_descriptor is not None:
            out["neutral_descriptor"] = self.neutral_descriptor.tolist()
        if self.front is not None:
            out["front"] = {
                "viewmat": self.front.world_to_camera.tolist(),
                "K": self.front.K.tolist(),
                "width": self.front.width,
                "height": self.front.height,
            }
        if self.views is not None:
            out["views"] = self.views.as_dict()
        return out

    def save(self, path: str | os.PathLike, *, half: bool = False) -> None:
        """Write one safetensors file: tensors, and JSON in its header (settings, similarity, and `origin`
        under "notes").

        half: learned numbers in half precision, for a file of half the size; `load` makes them float32 again.
        """
        header = {
            "format": FORMAT,
            "kind": "raf_lite.GaussianAvatar",
            "descriptor": self.descriptor,
            "field": self.field_name,
            "field_settings": self.field.settings,
            "centre": self.similarity.centre.tolist(),
            "radius": self.similarity.radius,
            "notes": self.origin(),
        }
        if self.prior is not None:
            header["prior"] = self.prior.field.settings
        learned = {name for name, _ in self.named_parameters()} if half else set()
        state = {k: v.half() if k in learned else v for k, v in self.state_dict().items() if k != _REMADE}
        write_tensors(path, state, {"raf_lite": json.dumps(header)})

    @classmethod
    def load(cls, path: str | os.PathLike, device: str | torch.device = "cpu") -> GaussianAvatar:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for another file, a damaged one or
        another version."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no avatar at {path}; train one with `raf-lite train` or correct the path"
            )
        header, state = read_tensors(path, _MEND)
        if header.get("kind") != "raf_lite.GaussianAvatar":
            raise ValueError(
                f"{path} is a safetensors file, but no raf_lite avatar; name one that GaussianAvatar.save"
                " wrote"
            )
        if header.get("format") != FORMAT:
            raise ValueError(
                f"{path} has avatar format {header.get('format')}, and this raf_lite reads format {FORMAT}; "
                "train it again or install the matching version"
            )
        try:
            similarity = Similarity(
                np.array(header["centre"], np.float64).reshape(3), float(header["radius"])
            )
            provenance = dict(header["notes"])
            neutral, front = provenance.pop("neutral_descriptor", None), provenance.pop("front", None)
            views = provenance.pop("views", None)
            _check_field(header["field"], header["field_settings"], state)
            motion = None
            if "motion.displacements" in state:
                dim, points, _ = state["motion.displacements"].shape
                motion = LandmarkMotion.zeros(dim, points, len(state["motion.nearest"]))
                if not (0 <= state["motion.nearest"]).all() or (state["motion.nearest"] >= points).any():
                    raise ValueError("its Gaussians go with landmarks that it does not have")
            prior = None
            if "prior" in header:
                own = {
                    k.removeprefix("prior.field."): v
                    for k, v in state.items()
                    if k.startswith("prior.field.")
                }
                placed_by = len(state["prior.landmarks"])
                prior = PlacedPrior.zeros(
                    MotionPrior.of(header["prior"], own), len(state["means"]), placed_by
                )
                state[_REMADE] = prior.components
            reach = None
            if motion is not None or prior is not None:
                rows, dim = state["reach.rows"].shape
                if dim != len(state["descriptor_mean"]):
                    raise ValueError("its field is asked near descriptors of another size than its own")
                reach = Reach.zeros(rows, dim)
            avatar = cls(
                state["means"],
                torch.sigmoid(state["color_logits"]),
                1.0,
                similarity,
                descriptor=header["descriptor"],
                descriptor_mean=state["descriptor_mean"],
                descriptor_scale=float(state["descriptor_scale"]),
                field=header["field"],
                field_settings=header["field_settings"],
                neutral_descriptor=neutral,
                front=None if front is None else _front_camera(**front),
                views=None if views is None else ViewRange.from_dict(views),
                provenance=provenance,
                motion=motion,
                prior=prior,
                reach=reach,
            )
            avatar.load_state_dict(state)
            avatar.follow()
        except (
            AttributeError,
            IndexError,
            KeyError,
            MemoryError,
            OverflowError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise ValueError(f"{path} holds no whole avatar ({type(error).__name__}); {_MEND}") from error
        if (
            not 0 < similarity.radius < np.inf
            or not np.isfinite(similarity.centre).all()
            or not all(torch.isfinite(tensor).all() for tensor in avatar.state_dict().values())
        ):
            raise ValueError(f"{path} holds values that are not finite; {_MEND}")
        if not avatar.descriptor_scale > 0 or not isinstance(avatar.descriptor, str):
            raise ValueError(f"{path} does not say what drives the avatar; {_MEND}")
        return avatar.to(device)
