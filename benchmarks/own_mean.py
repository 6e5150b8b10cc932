"""How soon a driver's own mean descriptor is known, live:

    python benchmarks/own_mean.py [FOLDER]

The shipped drivers 101 to 103, and the films in FOLDER (one person each; encoded where they are not). Of
each, from several frames on, the mean of SECONDS of frames and what `OwnMean` makes of it, against the mean
of all frames: how far off, in deviations of the person's frames. Of landmarks also what that does to four
distances in the face (lips, mouth's width, eyes, brows), in deviations of these; and over the whole film,
frame by frame with what was known by then, how these correlate with those of the mean of all. Numbers alone
go into benchmarks/results/own_mean.json.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from machine import RESULTS, describe_machine

from raf_lite import open_capture
from raf_lite._files import write_json
from raf_lite.bank import expected_mean
from raf_lite.captures.formats.encoding import VIDEOS
from raf_lite.descriptors.encode_video import find_encoding
from raf_lite.descriptors.forms import detected_descriptors, landmark_basis
from raf_lite.manifest import find_data

SECONDS, STARTS, MOST = (0, 1, 2, 5), 9, 0.7  # 0: one frame; of no film more than MOST of it
COLUMNS = {"landmarks": "landmarks_pca", "blendshapes": "blendshapes"}
DISTANCES = {"lips": ((13, 14),), "width": ((61, 291),), "eyes": ((159, 145), (386, 374))}
DISTANCES["brows"] = ((105, 159), (334, 386))


def distances(descriptors: np.ndarray) -> dict[str, np.ndarray]:
    """Four distances [T] in the faces that landmarks [T, 64] stand for."""
    points = landmark_basis().inverse(descriptors)
    return {
        name: sum(np.linalg.norm(points[:, i] - points[:, j], axis=-1) for i, j in pairs)
        for name, pairs in DISTANCES.items()
    }


def begins(film: np.ndarray, fps: float, descriptor: str) -> dict:
    """How far off both are after each of SECONDS: {seconds: {"so far" and "expected": {"all": ..., "lips":
    ...}}}."""
    mean, spread = film.mean(0), np.sqrt(film.var(0).sum())
    own = distances(film) if descriptor == "landmarks" else {}
    out = {}
    for seconds in SECONDS:
        count = max(1, round(seconds * fps))
        if count > MOST * len(film):
            continue
        ways: dict[str, list[dict]] = {"so far": [], "expected": []}
        for start in np.unique(np.linspace(0, len(film) - count, STARTS).astype(int)):
            seen = film[start : start + count].mean(0)
            for way, taken in (("so far", seen), ("expected", expected_mean(descriptor, seen, count))):
                one = {"all": np.linalg.norm(taken - mean) / spread}
                if own:
                    moved = distances(film - (taken - mean))
                    one |= {k: np.abs(moved[k] - own[k]).mean() / own[k].std() for k in own}
                ways[way].append(one)
        out[str(seconds)] = {
            way: {k: round(float(np.mean([one[k] for one in several])), 4) for k in several[0]}
            for way, several in ways.items()
        }
    return out


def correlations(film: np.ndarray) -> dict:
    """Of the four distances over a film of landmarks, with what was known frame by frame: {way: {"lips":
    r}}."""
    known = np.cumsum(film, 0) / np.arange(1, len(film) + 1)[:, None]
    expected = np.stack([expected_mean("landmarks", mean, t + 1) for t, mean in enumerate(known)])
    own = distances(film)
    out = {}
    for way, taken in (("so far", known), ("expected", expected)):
        shown = distances(film - taken + film.mean(0))
        out[way] = {k: round(float(np.corrcoef(own[k], shown[k])[0, 1]), 4) for k in own}
    return out


def main() -> None:
    """Both kinds of people, and means over them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--results", type=Path, default=RESULTS / "own_mean.json")
    args = parser.parse_args()
    result: dict = {"machine": describe_machine()}
    for descriptor, column in COLUMNS.items():
        people: dict[str, dict[str, tuple[np.ndarray, float]]] = {"rendered": {}, "real": {}}
        for name in ("101", "102", "103"):
            capture = open_capture(find_data() / "mini_nersemble" / name)
            people["rendered"][name] = capture.descriptors("FREE", column), 12.0
        for film in sorted(args.folder.iterdir()) if args.folder else []:
            if film.suffix.lower() in VIDEOS and not {".matte", ".classes"} & set(Path(film.stem).suffixes):
                encoding = find_encoding(film, progress=False)
                people["real"][film.stem] = detected_descriptors(encoding, descriptor), encoding.fps
        for kind, films in people.items():
            clean = {k: (x[np.isfinite(x).all(1)].astype(float), fps) for k, (x, fps) in films.items()}
            if not clean:
                continue
            rows = {name: begins(film, fps, descriptor) for name, (film, fps) in clean.items()}
            mean = partial(np.mean, axis=0)
            result.setdefault(descriptor, {})[kind] = {
                "people": len(rows),
                "off": {
                    s: {
                        way: {
                            k: round(float(mean([r[s][way][k] for r in rows.values() if s in r])), 3)
                            for k in next(r[s][way] for r in rows.values() if s in r)
                        }
                        for way in ("so far", "expected")
                    }
                    for s in map(str, SECONDS)
                    if any(s in r for r in rows.values())
                },
            }
            if descriptor == "landmarks":
                found = [correlations(film) for film, _ in clean.values()]
                result[descriptor][kind]["r"] = {
                    way: {
                        k: {
                            "least": min(one[way][k] for one in found),
                            "median": round(float(np.median([one[way][k] for one in found])), 4),
                        }
                        for k in DISTANCES
                    }
                    for way in ("so far", "expected")
                }
    write_json(args.results, result)
    for descriptor in COLUMNS:
        for kind, found in result[descriptor].items():
            for seconds, ways in found["off"].items():
                a, b = ways["so far"]["all"], ways["expected"]["all"]
                print(f"{descriptor}, {kind}, {seconds} s: {a:.2f} -> {b:.2f} ({100 * (b / a - 1):+.0f} %)")


if __name__ == "__main__":
    main()
