"""How much one run says: the same avatar of the study with other last bits, and with other seeds.

    python benchmarks/last_bits.py [PERSON ...]

Of each person (default: the first two on whom settings were chosen), blendshapes, no retrieval, 2,400 steps:
the run itself, runs whose Gaussians begin 1e-7 to 3e-7 of their places away, as another processor's rounding
might put them, and runs with three other seeds. A run is a line of benchmarks/results/last_bits/lines.jsonl
at once; what is there is not run again. Needs the rig and MediaPipe.
"""

from __future__ import annotations

import argparse
from unittest import mock

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import torch
from machine import RESULTS, describe_machine

from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.study.execute import append_line, read_lines, render_people
from raf_lite.study.plans import SELECT
from raf_lite.study.runs import RunSpec, run
from raf_lite.training import Trainer

LINES = RESULTS / "last_bits" / "lines.jsonl"
WAYS = ("as it is", "1e-7", "2e-7", "3e-7", "seed 1", "seed 2", "seed 3")


class Nudged(Trainer):
    """A trainer whose Gaussians begin a little off."""

    by = 0.0

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            self.avatar.means.mul_(1 + self.by)


def line(person: int, way: str, encoder: MediaPipeEncoder) -> dict:
    """One run."""
    seed = int(way.removeprefix("seed ")) if way.startswith("seed") else 0
    Nudged.by = float(way) if way[0].isdigit() else 0.0
    with mock.patch("raf_lite.study.runs.Trainer", Nudged):
        done = run(RunSpec(person, "blendshapes", "none", avatar="1x", seed=seed), encoder)
    groups = done["outcomes"]["direct"]
    return {
        "key": f"{person} {way}",
        "person": person,
        "way": way,
        "outcomes": {group: groups[group] for group in ("cross", "self-unseen")},
        "machine": describe_machine(),
    }


def main() -> None:
    """What is not there yet; then how far the landmark error goes from run to run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("people", nargs="*", type=int, default=list(SELECT[:2]))
    people = parser.parse_args().people
    LINES.parent.mkdir(parents=True, exist_ok=True)
    done = {one["key"] for one in read_lines(LINES.parent)}
    todo = [(person, way) for person in people for way in WAYS if f"{person} {way}" not in done]
    render_people((n for person, _ in todo for n in RunSpec(person, "blendshapes", "none").needs()), 1)
    torch.set_num_threads(1)
    with MediaPipeEncoder() as encoder:
        for person, way in todo:
            append_line(LINES, line(person, way, encoder))
    for kind, chosen in (("last bits", WAYS[:4]), ("seeds", ("as it is", *WAYS[4:]))):
        for person in people:
            found = torch.tensor(
                [
                    one["outcomes"]["cross"]["landmarks"]["face"]
                    for one in read_lines(LINES.parent)
                    if one["person"] == person and one["way"] in chosen
                ]
            )
            print(
                f"{person}, other {kind}: landmarks {found.min():.3f} to {found.max():.3f} px of 192,"
                f" deviation {100 * found.std() / found.mean():.1f} % (cross, {len(found)} runs)"
            )


if __name__ == "__main__":
    main()
