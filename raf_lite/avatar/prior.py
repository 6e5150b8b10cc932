"""How other people's faces move: a field learned once from rendered heads, which stands under what an avatar
learns of its own person.

A recording shows some expressions, and a field that learned from it alone guesses at all others. Here a
descriptor of landmarks, less that of the own neutral face, is first taken for what it means on most people:
displacement(x, d) = sum over k of c_k(d) phi_k(x). The coefficients c come from a small network of the
descriptor, the motions phi from a small network of the place on the head. Where the Gaussians are, phi is a
table of numbers: a step costs a product with it, and a program elsewhere plays it as more rows of the basis.
`raf_lite.rig.prior` makes the one that ships.
"""

from __future__ import annotations

import copy
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from raf_lite._files import read_tensors, write_tensors
from raf_lite.avatar.landmark_motion import LandmarkMotion
from raf_lite.splatting.reference import rotation_matrices

PRIOR = "prior.safetensors"  # among the shipped data
FORMAT = 1  # of the file; raised when its meaning changes
MOVES = 10  # numbers of a Gaussian that move: 3 of its mean, 4 of its quaternion, 3 of its log scales
WHOLE, GONE = (
    1.15,
    1.5,
)  # head radii from the middle, up to where the motion is whole and from where it is none
STRETCH = 0.15  # of log scales, by one unit of a coefficient (of which a wide open jaw takes five)
_MEND = "copy it again, or make it with `raf-lite data prior`"
_JAW = 17  # the first of the 68 lie on the jaw's outline, elsewhere with each markup and view
_FITS = 0.1  # of the landmarks' width: a face that lies this far off (rms) is none, or is mirrored


class MotionPrior(nn.Module):
    """The field: positions on a head and descriptors, less the neutral's, to displacements.

    Its space is that of the rendered heads: cm, x to the subject's left, y up, z out of the face. landmarks:
    [478, 3] and landmarks68: [68, 3] of the mean neutral head there, as MediaPipe and iBUG place them, for
    other spaces to be brought to it. encoder: what gave the descriptors that it learned from. notes: how it
    was made, as JSON.

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#descriptors.

    >>> prior = MotionPrior(descriptor_dim=64)
    >>> prior(torch.zeros(5, 3), torch.randn(2, 64)).shape
    torch.Size([2, 5, 3])
    >>> bool((prior(torch.zeros(5, 3), torch.zeros(1, 64)) == 0).all())
    True
    """

    landmarks: Tensor
    landmarks68: Tensor
    centre: Tensor
    radius: Tensor
    unit: Tensor
    bands: Tensor

    def __init__(
        self,
        descriptor_dim: int,
        components: int = 24,
        hidden: int = 128,
        frequencies: int = 6,
        *,
        encoder: str = "unknown",
        notes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.settings = {
            "descriptor_dim": descriptor_dim,
            "components": components,
            "hidden": hidden,
            "frequencies": frequencies,
        }
        self.encoder, self.notes = str(encoder), dict(notes or {})
        self.branch = nn.Sequential(
            nn.Linear(descriptor_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, components),
        )
        self.trunk = nn.Sequential(
            nn.Linear(3 * (2 * frequencies + 1), hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 3 * components),
        )
        self.register_buffer("bands", 2.0 ** torch.arange(frequencies) * math.pi / 2, persistent=False)
        self.register_buffer("landmarks", torch.zeros(478, 3))
        self.register_buffer("landmarks68", torch.zeros(68, 3))
        self.register_buffer("centre", torch.zeros(3))  # of the head
        self.register_buffer("radius", torch.ones(()))  # of the head, from there to its farthest point
        self.register_buffer("unit", torch.ones(()))  # of descriptors, what the branch takes for 1

    def coefficients(self, descriptors: Tensor) -> Tensor:
        """c of descriptors less the neutral's: [B, D] -> [B, K]. Those of 0 are 0."""
        return self.branch(descriptors / self.unit) - self.branch(torch.zeros_like(descriptors[:1]))

    def motions(self, positions: Tensor) -> Tensor:
        """phi at positions [N, 3]: [N, K, 3] in cm. Far from the head there is none."""
        u = (positions - self.centre) / self.radius
        distance = u.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        fall = ((GONE - distance) / (GONE - WHOLE)).clamp(0, 1)
        near = u.clamp(-GONE, GONE)
        angles = (near[..., None, :] * self.bands[:, None]).flatten(-2)
        out = self.trunk(torch.cat([near, angles.sin(), angles.cos()], -1)) * (fall * fall * (3 - 2 * fall))
        return out.unflatten(-1, (-1, 3))

    def forward(self, positions: Tensor, descriptors: Tensor) -> Tensor:
        """Displacements of positions [N, 3] by descriptors less the neutral's [B, D]: [B, N, 3] in cm."""
        return torch.einsum("bk,nkc->bnc", self.coefficients(descriptors), self.motions(positions))

    def similarity_from(self, landmarks: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Scale, rotation [3, 3] and translation [3] that bring another space to this one, without mirroring.

        landmarks: [L, 3] of a neutral face there, MediaPipe's 478 or iBUG's 68, in any unit. Raises
        ValueError for another number, for values that are not finite and for what is no such face.
        """
        own = {478: self.landmarks, 68: self.landmarks68}.get(len(landmarks))
        if own is None or landmarks.shape[1:] != (3,) or not np.isfinite(landmarks).all():
            raise ValueError(
                f"landmarks of the neutral face are {list(landmarks.shape)}, or not finite, so the motion"
                " prior cannot be placed on it; give MediaPipe's [478, 3] or iBUG's [68, 3], or train with"
                " prior=False"
            )
        inner = slice(_JAW if len(landmarks) == 68 else 0, None)
        target, source = own.double().cpu().numpy()[inner], np.asarray(landmarks, np.float64)[inner]
        target_mean, source_mean = target.mean(0), source.mean(0)
        target, source = target - target_mean, source - source_mean
        spread = float((source**2).sum())
        rotation, scale = np.eye(3), 0.0
        if spread > 0:
            rotation = Rotation.align_vectors(target, source)[0].as_matrix()
            scale = float((target * (source @ rotation.T)).sum()) / spread
        off = float(np.sqrt(((scale * source @ rotation.T - target) ** 2).sum(1).mean()))
        if off > _FITS * float(np.ptp(target[:, 0])):
            raise ValueError(
                f"the neutral face's landmarks lie {off:.1f} cm off a face's, so the motion prior cannot be"
                " placed on it; give those of a neutral face, not mirrored and in the markup's order, or"
                " train with prior=False"
            )
        return scale, rotation, target_mean - scale * rotation @ source_mean

    def save(self, path: str | os.PathLike) -> None:
        """Write one safetensors file: tensors, and JSON in its header (settings, encoder, notes)."""
        header = {
            "format": FORMAT,
            "kind": "raf_lite.MotionPrior",
            "settings": self.settings,
            "encoder": self.encoder,
            "notes": self.notes,
        }
        write_tensors(path, self.state_dict(), {"raf_lite": json.dumps(header)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> MotionPrior:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for another file, a damaged one or
        another version.

        >>> from raf_lite.manifest import find_data
        >>> MotionPrior.load(find_data() / PRIOR).landmarks.shape
        torch.Size([478, 3])
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no motion prior at {path}; {_MEND}")
        header, state = read_tensors(path, _MEND)
        if header.get("kind") != "raf_lite.MotionPrior" or header.get("format") != FORMAT:
            raise ValueError(
                f"{path} is no motion prior of format {FORMAT}, which this raf_lite reads; {_MEND}"
            )
        try:
            prior = cls.of(header["settings"], state, encoder=header["encoder"], notes=header["notes"])
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no whole motion prior ({type(error).__name__}); {_MEND}"
            ) from error
        if not all(torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError(f"{path} holds values that are not finite; {_MEND}")
        return prior

    @classmethod
    def of(
        cls,
        settings: dict[str, int],
        state: dict[str, Tensor],
        encoder: str = "unknown",
        notes: dict[str, Any] | None = None,
    ) -> MotionPrior:
        """One of these settings and tensors. ValueError where the two do not belong together: asked before
        any memory is taken, since a line of text can ask for any amount."""
        with torch.device("meta"):
            laid_out = cls(**settings, encoder=encoder, notes=notes)
        asked = {name: tensor.shape for name, tensor in laid_out.state_dict().items()}
        if asked != {name: tensor.shape for name, tensor in state.items()}:
            raise ValueError(f"its tensors are not those of {dict(settings)}")
        if not state["radius"] > 0 or not state["unit"] > 0:
            raise ValueError("its head or its descriptors have no size")
        prior = cls(**settings, encoder=encoder, notes=notes)
        prior.load_state_dict(state)
        return prior.requires_grad_(False)


class PlacedPrior(nn.Module):
    """A motion prior on the N Gaussians of one avatar.

    rest: [D], the descriptor at which nothing moves. scale, rotation [3, 3], translation [3]: from normalised
    head space to the prior's. landmarks: [L, 3] of the neutral face, in normalised head space. components:
    [K, N * 10], what one unit of each coefficient adds to means (head radii), quaternions and log scales;
    `follow` makes them.

    >>> placed = PlacedPrior.zeros(MotionPrior(descriptor_dim=64), gaussians=100)
    >>> placed(torch.ones(2, 64)).shape
    torch.Size([2, 100, 10])
    """

    rest: Tensor
    scale: Tensor
    rotation: Tensor
    translation: Tensor
    landmarks: Tensor
    components: Tensor

    def __init__(
        self,
        field: MotionPrior,
        rest: Tensor,
        scale: Tensor,
        rotation: Tensor,
        translation: Tensor,
        landmarks: Tensor,
        n: int,
    ) -> None:
        super().__init__()
        self.field = field.requires_grad_(False)
        self.register_buffer("rest", rest.float())
        self.register_buffer("scale", scale.float())
        self.register_buffer("rotation", rotation.float())
        self.register_buffer("translation", translation.float())
        self.register_buffer("landmarks", landmarks.float())
        self.register_buffer("components", torch.zeros(field.settings["components"], n * MOVES))

    @classmethod
    def zeros(cls, field: MotionPrior, gaussians: int, landmarks: int = 478) -> PlacedPrior:
        """One of these sizes that moves nothing, for a file's numbers to go into."""
        dim = field.settings["descriptor_dim"]
        placed = torch.ones(()), torch.eye(3), torch.zeros(3), torch.zeros(landmarks, 3)
        return cls(field, torch.zeros(dim), *placed, gaussians)

    @classmethod
    def attach(
        cls, field: MotionPrior, landmarks: np.ndarray, rest: np.ndarray, gaussians: int
    ) -> PlacedPrior:
        """Bring it to the head of `landmarks` [L, 3] of the neutral face, in normalised head space, at whose
        descriptor `rest` [D] nothing moves. Raises ValueError where it cannot be placed, and for a descriptor
        of another size."""
        dim = field.settings["descriptor_dim"]
        if np.shape(rest) != (dim,):
            raise ValueError(
                f"the neutral descriptor is {list(np.shape(rest))} and the motion prior reads [{dim}]; train"
                " on a form of landmarks that the shipped basis gives, or with prior=False"
            )
        scale, rotation, translation = field.similarity_from(landmarks)
        return cls(
            copy.deepcopy(field),
            torch.tensor(rest),  # apart from others of it, as files want tensors
            torch.tensor(scale),
            torch.as_tensor(rotation),
            torch.as_tensor(translation),
            torch.as_tensor(landmarks),
            gaussians,
        )

    def _there(self, points: Tensor) -> Tensor:
        return self.scale * points @ self.rotation.T + self.translation

    def _moved(self, points: Tensor) -> Tensor:
        """phi at points [P, 3] of the normalised head space, there: [P, K, 3]."""
        return self.field.motions(self._there(points)) @ self.rotation / self.scale

    @torch.no_grad()
    def follow(self, means: Tensor, quats: Tensor, motion: LandmarkMotion | None = None) -> None:
        """Make the components anew for Gaussians at `means` [N, 3] that are turned by `quats` [N, 4] (wxyz).

        motion: what takes the Gaussians along with these landmarks as well; the prior then moves a Gaussian
        only by what it says beyond the landmarks around it, which go where the descriptor says.

        A Gaussian is carried along by phi at its mean, turned by half the curl of phi, and stretched along
        its own axes by the symmetric part of phi's Jacobian. That is the first order; where lips part it
        would blow Gaussians up many times, so a unit of a coefficient stretches by STRETCH at most. Raises
        ValueError for a motion by other landmarks.
        """
        if motion is not None and motion.displacements.shape[1] != len(self.landmarks):
            raise ValueError(
                f"Gaussians ride on {motion.displacements.shape[1]} landmarks and the motion prior is placed"
                f" by {len(self.landmarks)}; give both the same"
            )
        there = self._there(means)

        def slope(along: Tensor) -> Tensor:
            return torch.func.jvp(self.field.motions, (there,), (along.expand_as(there),))[1]

        axes = torch.eye(3, device=means.device)  # of the prior's space
        slopes = torch.func.vmap(slope, out_dims=-1)(axes)
        jacobian = self.rotation.T @ slopes @ self.rotation  # [N, K, 3, 3]
        shift = self._moved(means)
        if motion is not None:
            known = self._moved(self.landmarks).transpose(0, 1)
            shift = shift - motion.carried(known).transpose(0, 1)
        w, x, y, z = quats.unbind(-1)
        # The quaternion product (0, turn) * q, which is linear in turn.
        times = torch.stack(
            [
                torch.stack([-x, -y, -z], -1),
                torch.stack([w, z, -y], -1),
                torch.stack([-z, w, x], -1),
                torch.stack([y, -x, w], -1),
            ],
            -2,
        )  # [N, 4, 3]
        curl = torch.stack(
            [jacobian[..., i, j] - jacobian[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1
        )
        turned = 0.25 * curl @ times.transpose(-1, -2)
        axes = rotation_matrices(quats)
        stretched = torch.einsum("nia,nkij,nja->nka", axes, jacobian, axes).clamp(-STRETCH, STRETCH)
        rows = torch.cat([shift, turned, stretched], -1)  # [N, K, 10]
        self.components.copy_(rows.transpose(0, 1).flatten(1))

    def forward(self, descriptors: Tensor) -> Tensor:
        """What descriptors [B, D] add to means, quaternions and log scales: [B, N, 10]."""
        moved = self.field.coefficients(descriptors - self.rest) @ self.components
        return moved.unflatten(-1, (-1, MOVES))
