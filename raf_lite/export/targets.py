"""Several forms of an avatar in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from raf_lite.avatar import GaussianAvatar, driven_by, driving_descriptors, resting_descriptor
from raf_lite.bank import expected_mean
from raf_lite.descriptors import Detections
from raf_lite.export.basis import write_basis
from raf_lite.export.gltf import write_glb
from raf_lite.export.player import write_player
from raf_lite.export.ply import write_ply
from raf_lite.export.sequence import write_sequence


@dataclass(frozen=True)
class Driver:
    """Whose expressions an avatar takes on. name: of the recording. descriptors: [T, D], NaN where no face
    was found, or all that was detected, out of which each avatar's own are made. relative: see
    `driving_descriptors`. frame: the one that single expressions show.

    >>> Driver("smile", np.zeros((10, 52)), relative="mean", frame=4).frame
    4
    """

    name: str
    descriptors: np.ndarray | Detections
    relative: str | int | None = None
    frame: int = 0


def export_avatars(
    avatars: Mapping[str, GaussianAvatar],
    *,
    ply: Path | None = None,
    glb: Path | None = None,
    basis: Path | None = None,
    sequence: Path | None = None,
    player: Path | None = None,
    driver: Driver | None = None,
) -> list[Path]:
    """Write each form that has a place, as `write_ply` and the others do, and return the files and folders.

    avatars: by name; several for `player` only. driver: needed for a sequence; without one single expressions
    are the avatar's neutral face, and the player plays nothing.

    Raises ValueError: nothing to write, several avatars for a form of one, a sequence without a driver, no
    such frame, and as `driving_descriptors` and the writers.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> [
    ...     path.name
    ...     for path in export_avatars({"centred": avatar}, ply=Path("neutral.ply"), glb=Path("neutral.glb"))
    ... ]
    ['neutral.ply', 'neutral.glb']
    """
    if not (ply or glb or basis or sequence or player):
        raise ValueError(
            "nothing says what to write; give at least one of --ply, --glb, --basis, --sequence and --player"
        )
    if len(avatars) > 1 and (ply or glb or basis or sequence):
        raise ValueError("only --player takes several avatars; export the others one by one")
    if sequence and driver is None:
        raise ValueError("a sequence needs a driver; name one with --video")
    avatar = next(iter(avatars.values()))
    films: dict[str, np.ndarray] = {}
    if driver is None:
        still = resting_descriptor(avatar)
    else:
        given, relative = driver.descriptors, driver.relative
        values = (
            driven_by(avatar, given, relative, expected_mean=partial(expected_mean, avatar.descriptor))
            if isinstance(given, Detections)
            else driving_descriptors(avatar, given, relative)
        )
        films[driver.name] = values
        if not 0 <= driver.frame < len(values):
            raise ValueError(f"{driver.name} has frames 0 to {len(values) - 1}, and no frame {driver.frame}")
        still = values[driver.frame]
    written: list[Path] = []
    if ply:
        written.append(write_ply(avatar, still, ply))
    if glb:
        written.append(write_glb(avatar, still, glb))
    if basis:
        written += write_basis(avatar, basis)
    if sequence:
        written += [write_sequence(avatar, film, sequence) for film in films.values()]
    if player:
        written.append(write_player(avatars, player, sequences=films))
    return written
