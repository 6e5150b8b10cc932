"""Self- and cross-driving: which frames an avatar is asked for, what drives it, and what the answer is
compared with.

The words: *training views* are training frames from training cameras; *hold-out cameras* the same moments
from cameras that training never saw; *self* the person's own hold-out sequences, of which *self-seen* are
frames of archetypes that training has, *self-unseen* of archetypes that it has not, *self-strong* those of
the seen that have an amplitude >= 1; *cross* another person's expressions. In cross-driving the avatar gets
the **driver's** descriptors and head poses and nothing else; the CROSS sequence of the capture is the exact
answer and is opened for its pictures (and, to draw regions, its landmarks) only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from raf_lite.captures import Capture
from raf_lite.descriptors.forms import capture_descriptors, capture_reference

GROUPS = ("training views", "hold-out cameras", "self", "self-seen", "self-unseen", "self-strong", "cross")


@dataclass(frozen=True)
class Case:
    """Frames of one sequence from some cameras: what drives the avatar, and where the truth is."""

    protocol: str  # "training views", "hold-out cameras", "self" or "cross"
    sequence: str  # of the capture, whose pictures are the truth
    serials: tuple[str, ...]  # the encoder's camera first in "self" and "cross"
    frames: np.ndarray  # [T] indices
    descriptors: np.ndarray  # [T, D]
    head_poses: np.ndarray  # [T, 4, 4]


def driving_cases(
    capture: Capture,
    drivers: Mapping[str, Capture],
    descriptor: str,
    frame_step: int = 2,
    reference: np.ndarray | None = None,
) -> Iterator[Case]:
    """Every case that a capture allows. frame_step: of hold-out and cross frames; training frames are six
    times sparser. reference: what a relative descriptor takes out of the person's own frames, [D] (default:
    what the capture gives, `raf_lite.descriptors.forms.capture_reference`); drivers are relative to
    themselves.

    Frames in which the encoder found no face cannot drive and are left out, as are cameras that did not film
    a sequence. Raises ValueError for a CROSS sequence whose driver is not given, and for a sequence without
    head poses.

    Conventions: docs/conventions.md#descriptors, docs/conventions.md#head-pose.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> people = {
    ...     name: open_capture(find_data() / "mini_nersemble" / name) for name in ("001", "101", "102", "103")
    ... }
    >>> cases = list(driving_cases(people.pop("001"), people, "blendshapes"))
    >>> cases[-1].protocol, cases[-1].sequence, cases[-1].descriptors.shape
    ('cross', 'CROSS-103-SEN-09-frown_events_bad', (21, 52))
    """
    split = capture.split("default")
    if reference is None:
        reference = capture_reference(capture, descriptor)
    references = {name: capture_reference(driver, descriptor) for name, driver in drivers.items()}

    def usable(
        source: Capture, taken_out: np.ndarray | None, sequence: str, step: int, middle: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = capture_descriptors(source, sequence, descriptor, taken_out)
        kept = np.flatnonzero(np.isfinite(values).all(1))
        kept = kept[(len(kept) - 1) % step // 2 if middle else 0 :: step]
        return kept, values[kept], source.require_head_poses(sequence)[kept]

    def filmed(sequence: str, serials: Iterable[str]) -> tuple[str, ...]:
        return tuple(s for s in serials if s in capture.cameras_of(sequence))

    for sequence in split.train_sequences:
        # Sequences begin with the neutral face, which sparse frames counted from the start would nearly all
        # show.
        frames = usable(capture, reference, sequence, 6 * frame_step, middle=True)
        for protocol, serials in (
            ("training views", split.train_cameras),
            ("hold-out cameras", split.holdout_cameras),
        ):
            if filmed(sequence, serials):
                yield Case(protocol, sequence, filmed(sequence, serials), *frames)
    for sequence in split.holdout_sequences:
        serials = filmed(sequence, (capture.encoder_camera, *split.holdout_cameras))
        if serials:
            yield Case("self", sequence, serials, *usable(capture, reference, sequence, frame_step))
    for name in capture.cross_sequences:
        driver, sequence = capture.cross_parts(name)
        if driver not in drivers:
            raise ValueError(
                f"{capture.root}: the answer {name} needs driver {driver}; pass its capture in `drivers`"
            )
        serials = filmed(name, (capture.encoder_camera, *split.holdout_cameras))
        acting = usable(drivers[driver], references[driver], sequence, frame_step)
        yield Case("cross", name, serials, *acting)


Labels = Mapping[str, tuple[np.ndarray, np.ndarray]]


def archetype_labels(capture: Capture) -> Labels | None:
    """For each hold-out sequence: is the frame's archetype seen in training [T], and is it strong [T]; None
    without truth.

    Neutral frames are neither seen nor unseen (-1).
    """
    split = capture.split("default")
    try:
        seen = {a for s in split.train_sequences for a in np.unique(capture.truth(s)["archetype"]) if a >= 0}
        labels = {}
        for sequence in split.holdout_sequences:
            truth = capture.truth(sequence)
            archetype = truth["archetype"]
            labels[sequence] = (
                np.where(archetype < 0, -1, np.isin(archetype, list(seen))),
                truth["amplitude"] >= 1,
            )
        return labels
    except FileNotFoundError:
        return None


def frame_groups(case: Case, labels: Labels | None) -> list[list[str]]:
    """The names of the groups that each frame of a case counts in; labels: from `archetype_labels`."""
    if case.protocol != "self" or labels is None:
        return [[case.protocol] for _ in case.frames]
    seen, strong = (x[case.frames] for x in labels[case.sequence])
    names = {-1: ["self"], 0: ["self", "self-unseen"], 1: ["self", "self-seen"]}
    return [
        names[int(s)] + ["self-strong"] * bool(s == 1 and hard) for s, hard in zip(seen, strong, strict=True)
    ]
