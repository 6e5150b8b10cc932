"""Wavefront OBJ: positions, texture coordinates, triangles and quads, and which material each face has.
Nothing more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Obj:
    """One mesh. Indices count from 0; a triangle's fourth corner is -1."""

    vertices: np.ndarray  # [V, 3] float32
    uv: np.ndarray  # [T, 2] float32
    faces: np.ndarray  # [F, 4] int32 into vertices
    face_uv: np.ndarray  # [F, 4] int32 into uv; -1 where a corner has none
    face_material: np.ndarray  # [F] int8 into material_names; -1 before the first `usemtl`
    material_names: list[str]  # in the order of their first use


def parse_obj(path: str | os.PathLike, *, vertices_only: bool = False) -> Obj:
    """Read an OBJ file. Normals, groups, smoothing and material libraries are passed over.

    A corner is `v`, `v/vt`, `v//vn` or `v/vt/vn`; indices count from 1, or back from the last one read if
    negative. vertices_only: leave out the rest, for the many shapes of a rig that share their faces.
    Raises FileNotFoundError, or ValueError naming the file and the line: a malformed number, a corner out of
    range, a face that is neither triangle nor quad; or a file without vertices.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no OBJ file {path}; correct the path")
    vertices, uv, faces, face_uv, materials = [], [], [], [], []
    material_index: dict[str, int] = {}
    material = -1
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            kind, *values = line.split() or [""]
            if vertices_only and kind != "v":
                continue
            try:
                if kind == "v":
                    x, y, z = values[:3]  # a fourth value would be a weight or the first of a colour
                    vertices.append((float(x), float(y), float(z)))
                elif kind == "vt":
                    u, v = values[:2]
                    uv.append((float(u), float(v)))
                elif kind == "f":
                    corners = [_corner(value, len(vertices), len(uv)) for value in values]
                    if not 3 <= len(corners) <= 4:
                        raise ValueError(f"a face has {len(corners)} corners, not 3 or 4")
                    corners += [(-1, -1)] * (4 - len(corners))
                    faces.append([corner[0] for corner in corners])
                    face_uv.append([corner[1] for corner in corners])
                    materials.append(material)
                elif kind == "usemtl":
                    material = material_index.setdefault(" ".join(values), len(material_index))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: {error}; download or export the file again"
                ) from error
    if not vertices:
        raise ValueError(f"{path} has no usable vertices; download or export the file again")
    return Obj(
        np.array(vertices, np.float32),
        np.array(uv, np.float32).reshape(-1, 2),
        np.array(faces, np.int32).reshape(-1, 4),
        np.array(face_uv, np.int32).reshape(-1, 4),
        np.array(materials, np.int8),
        list(material_index),
    )


def _corner(text: str, vertices: int, uv: int) -> tuple[int, int]:
    """Indices of a corner's position and texture coordinate, counted from 0; -1 for an absent texture
    coordinate."""
    position, _, rest = text.partition("/")
    texture = rest.partition("/")[0]
    return _index(position, vertices), _index(texture, uv) if texture else -1


def _index(text: str, count: int) -> int:
    value = int(text)
    index = value - 1 if value > 0 else count + value
    if value == 0 or not 0 <= index < count:
        raise ValueError(f"index {value} where {count} have been read")
    return index
