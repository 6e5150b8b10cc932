"""Another person's frames into a bank folder: encoder checked, near-duplicates dropped, nothing lost."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from raf_lite._arrays import descriptor_array
from raf_lite._files import atomic_path, locked, sha256_file
from raf_lite.bank import storage
from raf_lite.bank.checks import pose_array, thumbnail_dict

# Frames of one donor that agree this closely in every dimension, in units of the column's typical deviation.
DUPLICATE = 0.1
_PCA = "landmark_pca.npz"


@dataclass(frozen=True)
class _Frames:
    """What a bank holds of N frames, besides who they are of."""

    columns: Mapping[str, np.ndarray]  # {name: [N, D]}
    encoder: str
    encoder_pose: np.ndarray | None  # [N, 4, 4]
    thumbnails: Mapping[int, bytes]

    @property
    def first(self) -> np.ndarray:
        """The column [N, D] by which frames are told apart."""
        return next(iter(self.columns.values()))

    @property
    def sizes(self) -> dict[str, int]:
        return {name: array.shape[1] for name, array in self.columns.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name} [{size}]" for name, size in self.sizes.items())


@dataclass(frozen=True)
class _Stored(_Frames):
    """All that a bank holds."""

    donors: np.ndarray  # [N]
    neutral: np.ndarray  # bool [N]


def add_donor(
    folder: str | os.PathLike,
    columns: Mapping[str, np.ndarray],  # {name: [N, D]}
    *,
    encoder: str,
    donor: str | None = None,
    encoder_pose: ArrayLike | None = None,  # [N, 4, 4]
    thumbnails: Mapping[int, bytes] | None = None,
    source: str | None = None,
    out: str | os.PathLike | None = None,
) -> tuple[str, int, int]:
    """Add one donor's frames to the bank in `folder`, or begin a bank there: (the donor's id, rows added,
    rows dropped).

    columns: as the bank has them. donor: an id; that of a donor of the bank adds to his frames. Without one
    it is the donor who has most of these very frames already, so that a video added twice adds nothing, and
    else a new one. Frames are dropped that repeat a frame of the same donor, old or new, to within DUPLICATE;
    a warning says so where the bank has most of them under another id than the one given. encoder_pose,
    thumbnails: as in `write_bank`, a row for each frame given. source:
    sha256 of the film that they were made from, where there is one. out: where the grown bank goes (default:
    `folder`). The manifest's list `added` says of each growth whose rows it added, how many, from which
    source and to which bank (the sha256 of its manifest). Processes that add to one bank wait for each other.

    Raises ValueError: other columns, another encoder, an id of another kind than the bank's, poses given to a
    bank without (or the reverse), in-place growth of a bank with ground truth, which new frames don't have,
    and an `out` with a landmark PCA of its own. TimeoutError: another process has been writing to `out` for
    too long.

    >>> rng = np.random.default_rng(0)
    >>> add_donor("grown", {"expression": rng.normal(size=(20, 52))}, encoder="mine", donor="ann")
    ('ann', 20, 0)
    >>> add_donor("grown", {"expression": rng.normal(size=(20, 52))}, encoder="mine", donor="bo")
    ('bo', 20, 0)
    """
    folder, out = Path(folder), Path(out or folder)
    new = _new_frames(columns, encoder, encoder_pose, thumbnails)
    _refuse_truth(folder, out)
    with locked(out):
        old = _read_all(folder) if (folder / storage.MANIFEST).exists() else _nothing(new, donor)
        _check_fit(folder, old, new)
        distinct = _distinct(old.first, np.zeros(len(old.donors), bool), new.first)
        number = _donor_id(folder, donor, old.donors, _holders(old, new, len(distinct)))
        theirs = old.donors == number
        kept = _distinct(old.first, theirs, new.first) if theirs.any() else distinct
        if len(kept):
            manifest, parts = _joined(out, old, new, kept, number)
            manifest["added"] = [
                *_added(folder),
                {"donor": str(number), "rows": len(kept), "source": source, "bank": _digest(folder)},
            ]
            _copy_pca(folder, out)
            storage.commit(out, manifest, parts)
        else:  # nothing to commit, but a killed writer may have left something
            storage.sweep(out, was_bank=(out / storage.MANIFEST).is_file())
    return str(number), len(kept), len(new.first) - len(kept)


def _added(folder: Path) -> list[dict]:
    """How a bank has grown so far; a list that is none is given up."""
    added = storage.read_manifest(folder).get("added", []) if (folder / storage.MANIFEST).exists() else []
    return added if isinstance(added, list) else []


def _digest(folder: Path) -> str | None:
    """sha256 of a bank's manifest, which has those of its parts; None where no bank is."""
    return sha256_file(folder / storage.MANIFEST) if (folder / storage.MANIFEST).exists() else None


def _new_frames(
    columns: Mapping[str, ArrayLike],
    encoder: str,
    encoder_pose: ArrayLike | None,
    thumbnails: Mapping[int, bytes] | None,
) -> _Frames:
    arrays = {name: descriptor_array(array, f"column '{name}'") for name, array in columns.items()}
    count = len(next(iter(arrays.values())))
    return _Frames(arrays, encoder, pose_array(encoder_pose, count), thumbnail_dict(thumbnails, count))


def _refuse_truth(folder: Path, out: Path) -> None:
    if (
        out.resolve() == folder.resolve()
        and (folder / storage.MANIFEST).exists()
        and storage.has_part(storage.read_manifest(folder), "truth.npz")
    ):
        raise ValueError(
            f"{folder} knows what its rendered frames really show, which nobody knows of new ones; write the"
            " grown bank to a folder of its own"
        )


def _read_all(folder: Path) -> _Stored:
    banks = storage.read_columns(folder)
    first = next(iter(banks.values()))
    return _Stored(
        {name: bank["descriptors"] for name, bank in banks.items()},
        first["encoder"],
        first["encoder_pose"],
        first.get("thumbnails", {}),
        first["donors"],
        first["neutral"],
    )


def _nothing(new: _Frames, donor: str | None) -> _Stored:
    """A bank as it is before its first rows, of the same columns as these."""
    return _Stored(
        {name: array[:0] for name, array in new.columns.items()},
        new.encoder,
        None if new.encoder_pose is None else new.encoder_pose[:0],
        {},
        np.zeros(0, int if donor is None or donor.isdecimal() else str),
        np.zeros(0, bool),
    )


def _check_fit(folder: Path, old: _Frames, new: _Frames) -> None:
    if new.encoder != old.encoder:
        raise ValueError(
            f"the frames come from encoder '{new.encoder}' and the bank {folder} from '{old.encoder}', so"
            " distances between them mean nothing; encode both with the same"
        )
    if new.sizes != old.sizes:
        raise ValueError(f"the frames have columns {new} and the bank {folder} has {old}; give the same")
    if (new.encoder_pose is None) != (old.encoder_pose is None):
        raise ValueError(
            f"either the frames or the bank {folder} lack encoder poses; give them for all rows or for none"
        )


def _holders(old: _Stored, new: _Frames, distinct: int) -> list[int | str]:
    """The donors of the bank who have more than half of these very frames; distinct: how many of them
    differ."""
    # As the bank would store them; + 0 since -0.0 is 0.0 in other bytes.
    frames = {row.tobytes() for row in new.first.astype(old.first.dtype) + 0}
    found = Counter(
        donor
        for donor, row in zip(old.donors.tolist(), old.first + 0, strict=True)
        if row.tobytes() in frames
    )
    return [donor for donor, count in found.most_common() if 2 * count > distinct]


def _donor_id(folder: Path, donor: str | None, donors: np.ndarray, holders: list[int | str]) -> int | str:
    """The id in the bank's own type; where none is given, that of whoever holds these frames, or a new
    one."""
    named = donors.dtype.kind == "U"
    if donor is None:
        if holders:
            return holders[0]
        if named:
            raise ValueError(f"the donors of {folder} are named ({donors[0]!r}, ...); name the new one too")
        return int(donors.max(initial=-1)) + 1
    if not named and not donor.isdecimal():
        raise ValueError(f"the donors of {folder} are numbers and not like '{donor}'; give a whole number")
    number = donor if named else int(donor)
    if holders and number not in holders:
        warnings.warn(
            f"{folder} holds most of these frames already, as donor {holders[0]}, and now as {number} too; a"
            " person who is two donors is not left out whole, so give one id if they are the same",
            stacklevel=3,
        )
    return number


def _joined(
    out: Path, old: _Stored, new: _Frames, kept: np.ndarray, donor: int | str
) -> tuple[dict, dict[str, storage.Writer]]:
    """What to commit: the bank, and after it the rows `kept` of the new frames."""
    size, position = len(old.donors), {int(row): k for k, row in enumerate(kept)}
    return storage.bank_contents(
        out,
        encoder=new.encoder,
        columns={
            name: np.concatenate([column, new.columns[name][kept].astype(column.dtype)])
            for name, column in old.columns.items()
        },
        donors=np.concatenate([old.donors, np.full(len(kept), donor)]),
        neutral=np.concatenate([old.neutral, np.zeros(len(kept), bool)]),
        encoder_pose=(
            None
            if old.encoder_pose is None or new.encoder_pose is None
            else np.concatenate([old.encoder_pose, new.encoder_pose[kept]])
        ),
        thumbnails={
            **old.thumbnails,
            **{size + position[row]: data for row, data in new.thumbnails.items() if row in position},
        },
    )


def _copy_pca(folder: Path, out: Path) -> None:
    """Give a grown bank what the old one encodes landmarks with; without it nobody could make rows of that
    column."""
    source, target = folder / _PCA, out / _PCA
    if not source.is_file() or (target.is_file() and target.read_bytes() == source.read_bytes()):
        return
    if target.is_file():
        raise ValueError(
            f"{target} is not that of {folder}, and {out} can hold one only; write the grown bank to another"
            " folder"
        )
    with atomic_path(target) as tmp:
        shutil.copyfile(source, tmp)


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
