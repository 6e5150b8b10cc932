"""The ICT-FaceKit rig as one file of arrays: found, checked, and made once from its public OBJ files.

The rig (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; MIT licence) is no
part of this package. `raf-lite data rig` downloads it from its public repository at a pinned commit, every
file's sha256 checked.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm.auto import tqdm

from raf_lite._download import fetch
from raf_lite._files import atomic_path, cache_dir, read_npz, write_npz
from raf_lite.rig.obj import parse_obj

COMMIT = "da5f95a607f5e6b37755b38d3385d7f2853732e5"
BASE_URL = f"https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/{COMMIT}"
PACK_ENV = "RAF_LITE_ICT"
PACK_NAME = "ict_facekit.npz"
HASHES = files("raf_lite.rig") / "ict_facekit.sha256"  # as `sha256sum` prints them for every file of the rig
LICENCE = files("raf_lite.rig") / "ict_facekit.LICENSE"  # the rig's MIT licence goes where the pack goes

_REAL = ("neutral", "uv", "identity", "expression")


@dataclass(frozen=True)
class Pack:
    """The rig's arrays: V vertices, T texture coordinates, F faces, I identity modes, E expression units."""

    neutral: np.ndarray  # [V, 3] float32, cm; x to the subject's left, y up, z out of the face
    faces: np.ndarray  # [F, 4] int32 into neutral; the fourth corner is -1 in a triangle
    uv: np.ndarray  # [T, 2] float32; several texture tiles side by side
    face_uv: np.ndarray  # [F, 4] int32 into uv, -1 as in faces
    face_material: np.ndarray  # [F] int8 into material_names
    material_names: np.ndarray  # [M] str
    identity: (
        np.ndarray
    )  # [I, V, 3] float16, cm per unit coefficient; coefficients are distributed like N(0, 1)
    expression: np.ndarray  # [E, V, 3] float16, cm at weight 1
    expression_names: np.ndarray  # [E] str, FACS/ARKit-like; _L and _R are the subject's own left and right
    landmarks68: np.ndarray  # [68] int32 into neutral: the 68 points of the Multi-PIE / iBUG markup


def find_pack() -> Path | None:
    """The pack that `RAF_LITE_ICT` names, else the one in the cache, else None.

    Raises FileNotFoundError when the variable is set and names no file.
    """
    local = os.environ.get(PACK_ENV)
    if local:
        if not Path(local).is_file():
            raise FileNotFoundError(
                f"{PACK_ENV} names {local}, which is not a file; correct the path or unset {PACK_ENV}"
            )
        return Path(local)
    path = _cache() / PACK_NAME
    return path if path.is_file() else None


def load_pack(path: str | os.PathLike | None = None) -> Pack:
    """Load the rig from `path`, or from where `find_pack` finds it, and check it.

    Raises FileNotFoundError where there is no pack; ValueError, naming the file and the array, where it is
    damaged.
    """
    path = Path(path) if path else find_pack()
    if path is None:
        raise FileNotFoundError(
            "the ICT-FaceKit rig is not here; run `raf-lite data rig` to download it, or set "
            f"{PACK_ENV} to its pack"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no rig pack {path}; run `raf-lite data rig` to make one")
    mend = "delete it and run `raf-lite data rig`"
    pack = Pack(**read_npz(path, [field.name for field in fields(Pack)], mend=mend))
    problem = _problem(pack)
    if problem:
        raise ValueError(f"{path} is no pack of the rig: {problem}; {mend}")
    return pack


def _problem(pack: Pack) -> str | None:
    """What is wrong with the arrays of a pack, as a clause; None if nothing is."""
    if pack.neutral.ndim != 2 or pack.uv.ndim != 2 or pack.faces.ndim != 2:
        return "'neutral', 'uv' and 'faces' must be tables"
    vertices, faces = len(pack.neutral), len(pack.faces)
    shapes = {
        "neutral": (vertices, 3),
        "faces": (faces, 4),
        "uv": (len(pack.uv), 2),
        "face_uv": (faces, 4),
        "face_material": (faces,),
        "material_names": (pack.material_names.size,),
        "identity": (len(np.atleast_1d(pack.identity)), vertices, 3),
        "expression": (pack.expression_names.size, vertices, 3),
        "expression_names": (pack.expression_names.size,),
        "landmarks68": (68,),
    }
    for name, shape in shapes.items():
        array = getattr(pack, name)
        if array.shape != shape:
            return f"'{name}' has shape {array.shape}, not {shape}"
        if array.dtype.kind != ("U" if name.endswith("_names") else "f" if name in _REAL else "i"):
            return f"'{name}' has dtype {array.dtype}"
    for name in _REAL:
        if not np.isfinite(getattr(pack, name)).all():
            return f"'{name}' has values that are not finite"
    # Only a triangle's fourth corner may be absent; texture coordinates may be absent anywhere.
    ranges = {
        "faces": (0, vertices),
        "face_uv": (-1, len(pack.uv)),
        "face_material": (0, len(pack.material_names)),
        "landmarks68": (0, vertices),
    }
    for name, (lowest, limit) in ranges.items():
        indices = getattr(pack, name)
        if name == "faces":
            indices = np.where([False, False, False, True], np.maximum(indices, 0), indices)
        if indices.size and not (lowest <= indices.min() and indices.max() < limit):
            return f"'{name}' has an index outside [{lowest}, {limit})"
    return None


def read_hashes(path: Path | Traversable) -> dict[str, str]:
    """{file: sha256} of lines `sha256  file`, as `sha256sum` writes them."""
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: sha256 for sha256, name in pairs}


def download_rig(
    *,
    base_url: str = BASE_URL,
    hashes: dict[str, str] | None = None,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> Path:
    """Return the pack in `folder`, made from the rig's public OBJ files if it is not there yet (160 files,
    400 MB, once).

    base_url: what the file names are relative to. hashes: {file: sha256} (default: the pinned list). folder:
    where downloads and pack go (default: the package's cache).

    May be stopped at any time: files that are there with the right hash are not fetched again. The downloads
    are deleted when the pack stands; the rig's licence stays beside it. Raises FileNotFoundError (no network,
    or a file missing there) or ValueError (a wrong hash, files that do not fit together); there is no pack
    then.
    """
    folder = Path(folder) if folder else _cache()
    path, source = folder / PACK_NAME, folder / "download"
    if not path.is_file():
        hashes = read_hashes(HASHES) if hashes is None else hashes
        with _quiet_pooch():
            for name in tqdm(hashes, desc="ICT-FaceKit", unit="file", disable=not progress):
                url, target = f"{base_url.rstrip('/')}/{name}", source / PurePosixPath(name).parent
                try:
                    fetch(url, hashes[name], folder=target, progress=False)
                except FileNotFoundError as error:
                    raise FileNotFoundError(
                        f"{error}, and run `raf-lite data rig` again (what is there is kept), or set "
                        f"{PACK_ENV} to a pack"
                    ) from error
        with atomic_path(folder / LICENCE.name) as tmp:
            tmp.write_bytes(LICENCE.read_bytes())
        write_npz(path, **_read_rig([source / name for name in hashes], progress))
    load_pack(path)
    shutil.rmtree(source, ignore_errors=True)
    return path


def _cache() -> Path:
    return cache_dir("ict_facekit")


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """pooch logs a line for every file; here the progress bar says it all."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_rig(paths: list[Path], progress: bool) -> dict[str, np.ndarray]:
    """The pack's arrays from the rig's files; identities and expression units in the order of their names."""
    by_name = {path.name: path for path in paths}
    neutral = parse_obj(by_name.pop("generic_neutral_mesh.obj"))
    landmarks = json.loads(by_name.pop("vertex_indices.json").read_text(encoding="utf-8"))[
        "idx_to_landmark_verts"
    ]
    shapes = sorted(name.removesuffix(".obj") for name in by_name if name.endswith(".obj"))
    offsets = {
        name: _offset(by_name[f"{name}.obj"], neutral.vertices)
        for name in tqdm(shapes, desc="packing", unit="shape", disable=not progress)
    }
    identities = [name for name in shapes if name.startswith("identity")]
    units = [name for name in shapes if not name.startswith("identity")]
    return {
        "neutral": neutral.vertices,
        "faces": neutral.faces,
        "uv": neutral.uv,
        "face_uv": neutral.face_uv,
        "face_material": neutral.face_material,
        "material_names": np.array(neutral.material_names),
        "identity": np.stack([offsets[name] for name in identities]),
        "expression": np.stack([offsets[name] for name in units]),
        "expression_names": np.array(units),
        "landmarks68": np.array(landmarks, np.int32),
    }


def _offset(path: Path, neutral: np.ndarray) -> np.ndarray:
    """[V, 3] float16 offset of a shape from the neutral. Half precision errs by 5e-4 of the offset: microns
    on a face."""
    vertices = parse_obj(path, vertices_only=True).vertices
    if vertices.shape != neutral.shape:
        raise ValueError(
            f"{path} has {len(vertices)} vertices and the neutral {len(neutral)}; delete {path.parent} and"
            " run `raf-lite data rig` again"
        )
    return (vertices - neutral).astype(np.float16)
