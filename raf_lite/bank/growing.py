"""Another person's frames into a bank folder: encoder checked, near-duplicates dropped, nothing lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raf_lite._arrays import descriptor_array
from raf_lite.bank import storage

DUPLICATE = 0.1  # frames of one donor that agree this closely in every dimension, in units of the column's typical deviation


def add_donor(
    folder: str | os.PathLike,
    columns: Mapping[str, np.ndarray],  # {name: [N, D]}
    *,
    encoder: str,
    donor: str | None = None,
    encoder_pose: np.ndarray | None = None,  # [N, 4, 4]
    thumbnails: Mapping[int, bytes] | None = None,
    out: str | os.PathLike | None = None,
) -> tuple[str, int, int]:
    """Add one donor's frames to the bank in `folder`, or begin a bank there: (the donor's id, rows added, rows dropped).

    columns: as the bank has them. donor: an id; that of a donor of the bank adds to his frames (default: a new one). Frames are
    dropped that repeat a frame of the same donor, old or new, to within DUPLICATE. encoder_pose, thumbnails: as in `write_bank`,
    a row for each frame given. out: where the grown bank goes (default: `folder`).

    Raises ValueError: other columns, another encoder, an id of another kind than the bank's, poses given to a bank without (or
    the reverse), and in-place growth of a bank with ground truth, which new frames don't have.

    >>> rng = np.random.default_rng(0)
    >>> add_donor("grown", {"expression": rng.normal(size=(20, 52))}, encoder="mine", donor="ann")
    ('ann', 20, 0)
    >>> add_donor("grown", {"expression": rng.normal(size=(20, 52))}, encoder="mine", donor="bo")
    ('bo', 20, 0)
    """
    folder, out = Path(folder), Path(out or folder)
    new = {name: descriptor_array(array, f"column '{name}'") for name, array in columns.items()}
    count = len(next(iter(new.values())))
    old = _read_all(folder) if (folder / "bank.json").exists() else None
    if old is None:
        donor = donor or "0"
        old = {"columns": {name: array[:0] for name, array in new.items()}, "neutral": np.zeros(0, bool),
               "donors": np.zeros(0, int if donor.isdecimal() else str), "encoder": encoder, "thumbnails": {},
               "encoder_pose": None if encoder_pose is None else np.zeros((0, 4, 4), np.float32)}
    elif "truth.npz" in storage.read_manifest(folder)["files"] and out.resolve() == folder.resolve():
        raise ValueError(f"{folder} knows what its rendered frames really show, which nobody knows of new ones; write the grown "
                         "bank to a folder of its own")
    if encoder != old["encoder"]:
        raise ValueError(f"the frames come from encoder '{encoder}' and the bank {folder} from '{old['encoder']}', so distances "
                         "between them mean nothing; encode both with the same")
    if {n: a.shape[1] for n, a in new.items()} != {n: a.shape[1] for n, a in old["columns"].items()}:
        raise ValueError(f"the frames have columns {_widths(new)} and the bank {folder} has {_widths(old['columns'])}; "
                         "give the same")
    if (encoder_pose is None) != (old["encoder_pose"] is None):
        raise ValueError(f"either the frames or the bank {folder} lack encoder poses; give them for all rows or for none")
    own = _donor_id(folder, old["donors"], donor)

    kept = _distinct(next(iter(old["columns"].values())), old["donors"] == own, next(iter(new.values())))
    size, position = len(old["donors"]), {int(row): k for k, row in enumerate(kept)}
    added = {name: np.concatenate([old["columns"][name], array[kept].astype(old["columns"][name].dtype)])
             for name, array in new.items()}
    if len(kept):
        storage.write_bank(
            out, columns=added, donors=np.concatenate([old["donors"], np.full(len(kept), own)]), encoder=encoder,
            neutral=np.concatenate([old["neutral"], np.zeros(len(kept), bool)]),
            encoder_pose=None if encoder_pose is None else np.concatenate([old["encoder_pose"],
                                                                          np.asarray(encoder_pose, np.float32)[kept]]),
            thumbnails=old["thumbnails"] | {size + position[row]: data for row, data in (thumbnails or {}).items()
                                            if row in position})
        if (folder / "landmark_pca.npz").is_file() and out.resolve() != folder.resolve():
            shutil.copy2(folder / "landmark_pca.npz", out)  # without it nobody could encode for the landmark column
    return str(own), len(kept), count - len(kept)


def _read_all(folder: Path) -> dict:
    names = list(storage.read_manifest(folder)["descriptors"])
    banks = {name: storage.read_bank(folder, name) for name in names}
    first = banks[names[0]]
    return {"columns": {name: bank["descriptors"] for name, bank in banks.items()}, "donors": first["donors"],
            "neutral": first["neutral"], "encoder_pose": first["encoder_pose"], "encoder": first["encoder"],
            "thumbnails": first.get("thumbnails", {})}


def _widths(columns: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} [{array.shape[1]}]" for name, array in columns.items())


def _donor_id(folder: Path, donors: np.ndarray, donor: str | None) -> int | str:
    """The id in the bank's own type; a new one where none is given."""
    if donors.dtype.kind == "U":
        if donor is None:
            raise ValueError(f"the donors of {folder} are named ({donors[0]!r}, ...); name the new one too")
        return donor
    if donor is None:
        return int(donors.max(initial=-1)) + 1
    if not donor.isdecimal():
        raise ValueError(f"the donors of {folder} are numbers and not like '{donor}'; give a whole number")
    return int(donor)


def _distinct(bank: np.ndarray, same: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Rows of `new` that repeat neither each other nor the rows `same` of the bank, ascending."""
    step = DUPLICATE * np.sqrt(np.concatenate([bank, new]).var(0, dtype=np.float64).mean())
    known = np.empty((int(same.sum()) + len(new), new.shape[1]), np.float32)
    count = int(same.sum())
    known[:count] = bank[same]
    kept = []
    for row, values in enumerate(new):
        if not (np.abs(known[:count] - values) <= step).all(1).any():
            known[count] = values
            count += 1
            kept.append(row)
    return np.array(kept, np.int64)
