"""A renderable head: ICT-FaceKit geometry with a baked appearance, posed, expressed and seen by any
camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from raf_lite.captures.cameras import Camera
from raf_lite.rig.appearance import (
    Appearance,
    hair_cover,
    iris_albedo,
    sclera_albedo,
    skin_albedo,
    value_noise,
)
from raf_lite.rig.pack import Pack
from raf_lite.rig.raster import CAVITY, EYE, MOUTH, SKIN, TEETH, rasterise, shade, vertex_normals

# Faces of the rig that would hide what matters: tear film and the shells over the eyes; lashes are painted on
# the lids.
HIDDEN_MATERIALS = ("M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes")
MOUTH_SOCKET_FACES = slice(11144, 13226)  # the inside of the cheeks, though the rig files it under M_BackHead
# (material, where its UV tile starts, texels a side)
TILES = (
    ("M_Face", 0, 512),
    ("M_BackHead", 1, 384),
    ("M_IrisLeft", 0, 128),
    ("M_IrisRight", 0, 128),
    ("M_ScleraLeft", 0, 64),
    ("M_ScleraRight", 0, 64),
)
CORNEA_RADIUS = 0.66  # cm; the sclera shell in front of the iris is cut open
INNER_LIPS = slice(60, 68)  # of the 68 landmarks
HEAD_PIVOT = np.array([0.0, -9.0, -1.0])  # cm; heads turn about the top of the neck

# Directions towards the light in world axes (x to the subject's left, y up, z out of the face): key, fill,
# rim.
# They stay with the world when the head turns, as lamps in a studio do, and are broad and soft as in
# NeRSemble's rig.
LIGHTS = np.array([[0.30, 0.45, 0.84], [-0.70, 0.10, 0.70], [-0.40, 0.50, -0.75]])
LIGHTS = LIGHTS / np.linalg.norm(LIGHTS, axis=1, keepdims=True)
BACKGROUND = 1.0  # white, so that a frame is already composited over the colour that training uses


def _triangles(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[F, 4] quads (-1 in the fourth column = triangle) -> [T, 3] triangles and the quad each came from."""
    is_quad = quads[:, 3] >= 0
    return (
        np.concatenate([quads[:, :3], quads[is_quad][:, [0, 2, 3]]]).astype(np.int32),
        np.concatenate([np.arange(len(quads)), np.flatnonzero(is_quad)]),
    )


class HeadModel:
    """The rig prepared for rendering: triangles, materials, texture layout, rest positions of every texel.

    pack: the rig's arrays (`raf_lite.rig.pack.load_pack`). Everything here is shared by all identities.
    """

    def __init__(self, pack: Pack) -> None:
        self.neutral = pack.neutral.astype(np.float32)  # [V, 3] cm
        self.identity_modes = pack.identity  # [100, V, 3] float16, cm per unit coefficient
        self.expression_modes = pack.expression.astype(np.float32)  # [57, V, 3] cm at weight 1
        self.landmark_vertices = pack.landmarks68  # [68]
        self.landmarks_rest = self.neutral[self.landmark_vertices].astype(np.float64)
        material_index = {name: i for i, name in enumerate(pack.material_names)}
        self.eye_centres = {}
        keep = ~np.isin(pack.face_material, [material_index[name] for name in HIDDEN_MATERIALS])
        quad_centres = self.neutral[np.maximum(pack.faces, 0)].mean(1)
        for side in ("Left", "Right"):
            sclera = pack.face_material == material_index["M_Sclera" + side]
            points = self.neutral[np.unique(pack.faces[sclera][pack.faces[sclera] >= 0])]
            middle = (points.max(0) + points.min(0)) / 2
            centre = np.array([middle[0], middle[1], points[:, 2].max() - 1.5], np.float64)
            self.eye_centres[side] = centre
            radius = np.hypot(quad_centres[:, 0] - centre[0], quad_centres[:, 1] - centre[1])
            keep &= ~(sclera & (radius < CORNEA_RADIUS) & (quad_centres[:, 2] > centre[2]))
        socket = np.zeros(len(pack.faces), bool)
        socket[MOUTH_SOCKET_FACES] = True

        self.triangles, source = _triangles(pack.faces[keep])
        texture_triangles, _ = _triangles(pack.face_uv[keep])
        material = pack.face_material[keep][source]
        in_socket = socket[keep][source]
        self.uv = pack.uv[texture_triangles].astype(np.float32)  # [T, 3, 2], made tile-relative below
        kind_of = {
            "M_Face": SKIN,
            "M_BackHead": SKIN,
            "M_Teeth": TEETH,
            "M_GumsTongue": MOUTH,
            "M_ScleraLeft": EYE,
            "M_ScleraRight": EYE,
            "M_IrisLeft": EYE,
            "M_IrisRight": EYE,
        }
        self.kind = np.zeros(len(self.triangles), np.int8)
        for name, value in kind_of.items():
            self.kind[material == material_index[name]] = value
        self.kind[in_socket] = CAVITY
        flat = {TEETH: (0.80, 0.76, 0.68), MOUTH: (0.56, 0.22, 0.22), CAVITY: (0.30, 0.09, 0.09)}
        self.flat_colour = np.zeros((len(self.triangles), 3), np.float32)
        for value, colour in flat.items():
            self.flat_colour[self.kind == value] = colour

        self.tile_start = np.full(len(self.triangles), -1, np.int32)
        self.tile_size = np.zeros(len(self.triangles), np.int32)
        self._tiles = []
        start = 0
        for name, offset, size in TILES:
            chosen = (material == material_index[name]) & ~in_socket
            self.uv[chosen, :, 0] -= offset
            self.tile_start[chosen], self.tile_size[chosen] = start, size
            self._tiles.append((name, start, size, *self._rest_positions(chosen, size)))
            start += size * size
        self.atlas_texels = start
        skin = np.unique(self.triangles[self.kind == SKIN])
        self._skin_vertices = skin
        normals = np.empty_like(self.neutral)
        vertex_normals(self.neutral, self.triangles, normals)
        self._rest_normals = normals

    def _rest_positions(self, chosen: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rest position under every texel of a tile: [n, 3], the texels that have one, and the nearest one of
        each texel."""
        corners = self.uv[chosen].astype(np.float64)
        points = np.ones((len(corners) * 3, 3), np.float32)
        points[:, :2] = (corners * [1, -1] + [0, 1]).reshape(-1, 2) * size
        triangles = np.arange(len(points), dtype=np.int32).reshape(-1, 3)
        face, depth = np.empty((size, size), np.int32), np.empty((size, size), np.float32)
        bary = np.zeros((size, size, 3), np.float32)
        rasterise(points, triangles, size, size, face, depth, bary)
        inside = face >= 0
        corner_positions = self.neutral[self.triangles[chosen][face[inside]]]
        positions = (corner_positions * bary[inside][..., None]).sum(1).astype(np.float64)
        # Texels just outside an island copy the nearest inside one, so that bilinear look-ups never bleed the
        # background.
        nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
        return positions, inside, nearest

    def bake(self, coefficients: np.ndarray, look: Appearance) -> BakedHead:
        """Fix an identity: [100] shape coefficients (standard normal scale) and an appearance."""
        rest = self.neutral + np.tensordot(
            np.asarray(coefficients, np.float32), self.identity_modes.astype(np.float32), 1
        )
        # Hair stands off the skull: push covered skin out along its normal, unevenly.
        skin_rest = self.neutral[self._skin_vertices].astype(np.float64)
        cover = hair_cover(skin_rest, look)
        tufts = 0.75 + 0.5 * value_noise(skin_rest * 0.9, look.noise_seed + 15)
        rest[self._skin_vertices] += (cover * tufts * look.hair_volume)[:, None].astype(
            np.float32
        ) * self._rest_normals[self._skin_vertices]
        atlas = np.zeros((self.atlas_texels, 4), np.float32)
        for name, start, size, positions, inside, nearest in self._tiles:
            if name in ("M_Face", "M_BackHead"):
                values = skin_albedo(positions, look, self.landmarks_rest)
            elif name.startswith("M_Iris"):
                values = iris_albedo(positions, self.eye_centres[name.removeprefix("M_Iris")], look)
            else:
                values = sclera_albedo(positions, self.eye_centres[name.removeprefix("M_Sclera")])
            tile = np.zeros((size, size, 4), np.float32)
            tile[inside] = values
            atlas[start : start + size * size] = tile[nearest[0], nearest[1]].reshape(-1, 4)
        return BakedHead(self, rest.astype(np.float32), atlas)


@dataclass(frozen=True)
class BakedHead:
    """One identity, ready to render. `rest` [V, 3] cm without expression; `atlas` [texels, 4] linear RGB +
    gloss."""

    model: HeadModel
    rest: np.ndarray
    atlas: np.ndarray

    def vertices(self, weights: np.ndarray) -> np.ndarray:
        """Head-space vertices [V, 3] (cm) for expression weights [57]."""
        weights = np.asarray(weights, np.float32)
        active = np.flatnonzero(weights)
        if not len(active):
            return self.rest
        modes = self.model.expression_modes[active].reshape(len(active), -1)
        return self.rest + (weights[active] @ modes).reshape(-1, 3)

    def landmarks68(self, weights: np.ndarray, head_pose: np.ndarray | None = None) -> np.ndarray:
        """The 68 landmarks [68, 3] in cm: in head space, or in world space where a head_pose [4, 4] is
        given."""
        points = self.vertices(weights)[self.model.landmark_vertices]
        return (
            points
            if head_pose is None
            else points @ np.asarray(head_pose)[:3, :3].T + np.asarray(head_pose)[:3, 3]
        )

    def render(
        self,
        weights: np.ndarray,
        cameras: Sequence[Camera],
        head_pose: np.ndarray | None = None,
        samples: int = 2,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Render one moment from several cameras.

        weights: [57] expression weights. cameras: of one picture size. head_pose: [4, 4] head to world
        (default: identity). samples: samples a pixel side. Returns images uint8 [C, H, W, 3] sRGB over white,
        and masks uint8 [C, H, W] (coverage). Geometry is computed once and shared by the cameras.
        """
        head_pose = np.eye(4) if head_pose is None else np.asarray(head_pose, np.float64)
        model, vertices = self.model, self.vertices(weights)
        normals = np.empty_like(vertices)
        vertex_normals(vertices, model.triangles, normals)
        lights = (LIGHTS @ head_pose[:3, :3]).astype(np.float32)
        lip_z = np.float32(vertices[model.landmark_vertices[INNER_LIPS], 2].mean())
        images, masks = [], []
        for camera in cameras:
            head_to_camera = camera.world_to_camera @ head_pose
            rotation, translation = head_to_camera[:3, :3], head_to_camera[:3, 3]
            seen = vertices @ rotation.T.astype(np.float32) + translation.astype(np.float32)
            points = np.empty_like(seen)
            points[:, 0] = (camera.K[0, 0] * seen[:, 0] / seen[:, 2] + camera.K[0, 2]) * samples
            points[:, 1] = (camera.K[1, 1] * seen[:, 1] / seen[:, 2] + camera.K[1, 2]) * samples
            points[:, 2] = seen[:, 2]
            size = (camera.height * samples, camera.width * samples)
            face, depth, bary = (
                np.empty(size, np.int32),
                np.empty(size, np.float32),
                np.empty((*size, 3), np.float32),
            )
            rasterise(points, model.triangles, *size, face, depth, bary)
            image = np.empty((camera.height, camera.width, 3), np.float32)
            mask = np.empty((camera.height, camera.width), np.float32)
            shade(
                face,
                bary,
                model.triangles,
                vertices,
                normals,
                model.uv,
                self.atlas,
                model.tile_start,
                model.tile_size,
                model.kind,
                model.flat_colour,
                (-rotation.T @ translation).astype(np.float32),
                lights,
                lip_z,
                samples,
                np.full(3, BACKGROUND, np.float32),
                image,
                mask,
            )
            images.append((np.clip(image, 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5).astype(np.uint8))
            masks.append((np.clip(mask, 0, 1) * 255 + 0.5).astype(np.uint8))
        return np.stack(images), np.stack(masks)


def head_pose_matrix(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Head-to-world matrices from small Euler angles about the neck.

    rotation: [..., 3] radians: pitch (about x), yaw (about y), roll (about z), applied in that order of
    nesting
    (roll innermost). translation: [..., 3] cm. Returns [..., 4, 4].
    """
    pitch, yaw, roll = np.moveaxis(np.asarray(rotation, np.float64), -1, 0)
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)

    def matrix(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    rx = matrix(
        (one, zero, zero), (zero, np.cos(pitch), -np.sin(pitch)), (zero, np.sin(pitch), np.cos(pitch))
    )
    ry = matrix((np.cos(yaw), zero, np.sin(yaw)), (zero, one, zero), (-np.sin(yaw), zero, np.cos(yaw)))
    rz = matrix((np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    turn = ry @ rx @ rz
    pose = np.zeros((*np.shape(pitch), 4, 4))
    pose[..., :3, :3] = turn
    pose[..., :3, 3] = HEAD_PIVOT - turn @ HEAD_PIVOT + np.asarray(translation, np.float64)
    pose[..., 3, 3] = 1
    return pose
