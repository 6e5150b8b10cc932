"""A FAISS index from disk, believed as far as it was looked at.

FAISS takes the numbers in an index file as they are: wrong ones cost any amount of memory, or send a later
search to other addresses, and a sha256 that stands beside the file was written by whoever wrote the file. So
another process, which may fail, reads it first, with limits on memory and time, and looks whether every list,
link and table stays inside. Indexes of kinds that `_check` does not know are built from the descriptors
instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np

READ_SECONDS = 60.0  # besides a second for each 10 MB
READ_BYTES = 64 << 20  # of memory, besides four times the file
_UNKNOWN = 3  # the exit status for a kind that is not known here


def read_index(path: Path, shape: tuple[int, int]) -> faiss.Index | None:
    """The index of descriptors [N, D] in a file, or None where it cannot be judged and has to be built.

    Raises ValueError, naming the file, for one that is damaged, of other rows, or that would lead FAISS
    astray.
    """
    if not sys.executable:
        return None
    seconds = READ_SECONDS + path.stat().st_size / 1e7
    # -P: this folder has names of the standard library.
    command = [sys.executable, "-P", __file__, str(path), *map(str, shape)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{path} takes FAISS more than {seconds:.0f} s to read; write the bank again"
        ) from error
    if done.returncode == _UNKNOWN:
        return None
    if done.returncode:
        raise ValueError(
            f"{path} {done.stdout.strip() or 'is no index that FAISS reads'}; write the bank again"
        )
    return faiss.read_index(str(path))


def buildable(factory: str, rows: int) -> bool:
    """Whether a factory string from a file asks for no more than such a bank may need. FAISS judges names,
    but not numbers."""
    if not re.fullmatch(r"[\w,()\[\]=-]{1,100}", factory, re.ASCII):
        return False
    most = {"IVF": rows, "HNSW": 256, "x": 16}
    numbers = re.findall(r"([A-Za-z]*)(\d+)", factory)
    return all(len(number) < 8 and int(number) <= most.get(name, 4096) for name, number in numbers)


class _Astray(ValueError):
    pass


def _demand(holds: object, what: str) -> None:
    if not holds:
        raise _Astray(what)


def _check(index: Any, rows: int, dim: int) -> None:
    """Raise _Astray unless all that a search follows stays inside the index; NotImplementedError for a kind
    not known here."""
    index = faiss.downcast_index(index)
    kind = type(index).__name__
    _demand(index.ntotal == rows and index.d == dim, "indexes other rows than the descriptors' file holds")
    _demand(
        index.is_trained and index.metric_type == faiss.METRIC_L2,
        "is not trained, or measures something else",
    )
    if kind == "IndexPreTransform":
        for k in range(index.chain.size()):
            dim = _check_transform(faiss.downcast_VectorTransform(index.chain.at(k)), dim)
        _check(index.index, rows, dim)
    elif kind == "IndexRefineFlat":
        _demand(1 <= index.k_factor <= 1000, "looks at a number of candidates that nobody needs")
        _check(index.base_index, rows, dim)
        _check(index.refine_index, rows, dim)
    elif kind in ("IndexFlatL2", "IndexFlat", "IndexPQ", "IndexScalarQuantizer"):
        _check_codes(index, kind, dim)
        _demand(index.codes.size() == rows * index.code_size, "holds other rows than it says")
    elif kind in ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer"):
        _check(index.quantizer, index.nlist, dim)
        _check_codes(index, kind.replace("IVF", ""), dim)
        _check_lists(index, rows)
    elif kind == "IndexHNSWFlat":
        _check(index.storage, rows, dim)
        _check_links(index.hnsw, rows)
    else:
        raise NotImplementedError(kind)


def _check_transform(transform: Any, dim: int) -> int:
    """The dimension behind a transform of vectors of `dim`."""
    _demand(
        transform.d_in == dim and 0 < transform.d_out <= 1 << 16 and transform.is_trained,
        "transforms other vectors",
    )
    if isinstance(transform, faiss.CenteringTransform):
        _demand(transform.mean.size() == dim == transform.d_out, "takes off another mean")
    elif isinstance(transform, faiss.LinearTransform):
        _demand(transform.A.size() == dim * transform.d_out, "holds another matrix than it says")
        _demand(
            not transform.have_bias or transform.b.size() == transform.d_out,
            "holds another matrix than it says",
        )
    else:
        raise NotImplementedError(type(transform).__name__)
    return transform.d_out


def _check_codes(index: Any, kind: str, dim: int) -> None:
    """How a vector is stored."""
    if kind in ("IndexFlat", "IndexFlatL2"):
        _demand(index.code_size == 4 * dim, "stores vectors of another size")
    elif kind == "IndexPQ":
        pq = index.pq
        _demand(
            getattr(index, "search_type", 0) == 0
            and pq.d == dim
            and 0 < pq.nbits <= 16
            and 0 < pq.M <= dim
            and pq.M * pq.dsub == dim
            and pq.ksub == 1 << pq.nbits
            and pq.centroids.size() == dim * pq.ksub
            and pq.code_size == (pq.M * pq.nbits + 7) // 8 == index.code_size,
            "stores vectors in another way than it says",
        )
    elif kind == "IndexScalarQuantizer":
        sq = index.sq
        sizes = {
            faiss.ScalarQuantizer.QT_8bit: (8, 2 * dim),
            faiss.ScalarQuantizer.QT_6bit: (6, 2 * dim),
            faiss.ScalarQuantizer.QT_4bit: (4, 2 * dim),
            faiss.ScalarQuantizer.QT_fp16: (16, 0),
        }
        if sq.qtype not in sizes:
            raise NotImplementedError(f"scalar quantizer {sq.qtype}")
        bits, trained = sizes[sq.qtype]
        _demand(
            sq.d == dim
            and sq.code_size == (bits * dim + 7) // 8 == index.code_size
            and sq.trained.size() == trained,
            "stores vectors in another way than it says",
        )


def _check_lists(index: Any, rows: int) -> None:
    lists = index.invlists
    _demand(
        lists.nlist == index.nlist and lists.code_size == index.code_size, "holds other lists than it says"
    )
    _demand(0 < index.nprobe, "looks into no list")
    seen = np.zeros(rows, bool)
    total = 0
    for k in range(index.nlist):
        size = lists.list_size(k)
        total += size
        if size:
            ids = faiss.rev_swig_ptr(lists.get_ids(k), size)
            _demand(total <= rows and ids.min() >= 0 and ids.max() < rows, "lists rows that there are not")
            seen[ids] = True
    _demand(total == rows and seen.all(), "does not list every row once")


def _check_links(graph: faiss.HNSW, rows: int) -> None:
    levels, offsets, neighbors, cumulated = (
        faiss.vector_to_array(getattr(graph, name)).astype(np.int64)
        for name in ("levels", "offsets", "neighbors", "cum_nneighbor_per_level")
    )
    wrong = "links rows that there are not"
    _demand(
        len(levels) == rows
        and len(offsets) == rows + 1
        and offsets[0] == 0
        and offsets[-1] == len(neighbors),
        wrong,
    )
    _demand(len(cumulated) > 1 and cumulated[0] == 0 and (np.diff(cumulated) > 0).all(), wrong)
    _demand(
        levels.min() >= 1 and levels.max() < len(cumulated) and (np.diff(offsets) == cumulated[levels]).all(),
        wrong,
    )
    _demand(neighbors.size == 0 or (neighbors.min() >= -1 and neighbors.max() < rows), wrong)
    _demand(
        0 <= graph.entry_point < rows
        and levels[graph.entry_point] - 1 == graph.max_level == levels.max() - 1,
        wrong,
    )
    _demand(0 < graph.efSearch <= 1 << 20 and 0 < graph.efConstruction <= 1 << 20, wrong)
    for level in range(1, int(levels.max())):  # a link of a level leads to a row that has this level
        for row in np.flatnonzero(levels > level):
            linked = neighbors[offsets[row] + cumulated[level] : offsets[row] + cumulated[level + 1]]
            _demand((levels[linked[linked >= 0]] > level).all(), wrong)


def judge(path: str, rows: int, dim: int) -> None:
    """What the other process does: limit itself, read, look. Raises RuntimeError or MemoryError too, or
    ends."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere the time alone is limited
        import resource

        most = (
            int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            + READ_BYTES
            + 4 * os.path.getsize(path)
        )
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    index = faiss.read_index(path)
    _check(index, rows, dim)
    index.search(np.zeros((1, dim), np.float32), 1)


if __name__ == "__main__":
    try:
        judge(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except NotImplementedError:
        sys.exit(_UNKNOWN)
    except _Astray as error:
        print(error)
        sys.exit(1)
    except (RuntimeError, MemoryError):
        sys.exit(1)
