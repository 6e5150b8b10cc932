"""What a reader of one on-disk format offers to a `Capture`: which files there are, and what stands in
them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raf_lite.captures.attached import attached_encoder, read_attached
from raf_lite.captures.cameras import Camera


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """The files of one capture. Every path that it names in an error is the user's own.

    downscale: whole factor by which pictures and masks are reduced, each pixel the mean of a block. crop:
    (left, top, width, height) in the files' pixels, taken before the downscale; None for whole pictures.
    """

    downscale: int = 1
    crop: tuple[int, int, int, int] | None = None

    def reduced(self, factor: int) -> Source:
        """The same files, their pictures and masks at 1/factor of the size that they have here."""
        return replace(self, downscale=self.downscale * factor)

    def framed(self, cameras: Mapping[str, Camera]) -> dict[str, Camera]:
        """Cameras at their size on disk, cropped and downscaled like the pictures."""
        if self.crop:
            cameras = {serial: camera.cropped(*self.crop) for serial, camera in cameras.items()}
        return {serial: camera.scaled(1 / self.downscale) for serial, camera in cameras.items()}

    @abstractmethod
    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        """Serials that have a video of `sequence`."""

    @abstractmethod
    def annotation_file(self, sequence: str) -> Path:
        """Where arrays may be attached to a sequence, whether it is there or not: see
        `raf_lite.captures.attached`."""

    @abstractmethod
    def pictures(self, sequence: str, serial: str) -> list[Path]:
        """The film, or the images in order of time, of one camera; empty where it did not film the
        sequence."""

    @abstractmethod
    def files(self, sequence: str, serial: str) -> list[Path]:
        """Everything that pictures, masks, calibration, descriptors and head poses of a sequence and camera
        are read from.

        Each file stands once: films or images, masks, calibration, tracking, annotations, an encoding beside
        a video. What is optional and not there is left out, as are pictures of a camera that did not film the
        sequence, and the truth, which only grading opens. No folder is listed for it.
        """

    @abstractmethod
    def stored_size(self, serial: str) -> tuple[int, int]:
        """Height and width of a camera's images on disk, before any crop or downscale."""

    @abstractmethod
    def video_shape(self, sequence: str, serial: str) -> tuple[int, int, int]:
        """Frames, height and width on disk, as the header tells them."""

    @abstractmethod
    def mask_shape(self, sequence: str, serial: str) -> tuple[int, int, int] | None:
        """The same of the masks; None where there are none."""

    @abstractmethod
    def iter_frames(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """Decode frame by frame: uint8 [H, W, 3], cropped and downscaled like the cameras. rows: the rising
        numbers of those that are asked for (default: all)."""

    @abstractmethod
    def iter_masks(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """The same of the masks, uint8 [H, W]; FileNotFoundError where there are none."""

    @abstractmethod
    def sample_masks(self, sequence: str, serial: str, most: int) -> Iterator[tuple[int, np.ndarray]]:
        """At most `most` of these masks, spread over the frames, each with its frame's number; cheaper than
        all of them."""

    def iter_counts(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray] | None:
        """How much each pixel counts, uint8 [H, W], frame by frame: 255 wholly, 0 where it is neither head
        nor background. None where every pixel counts. rows: see `iter_frames`."""
        return None

    def chosen(self, sequence: str) -> str:
        """Which of its files' frames a sequence has, in words that differ where they do; empty for all."""
        return ""

    def check_headers(self, sequence: str, serial: str) -> None:
        """ValueError that names the first file of a picture or mask that, by its header, is unlike the
        others. A film has one."""
        return

    @abstractmethod
    def read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        """Arrays whose first axis is the frame; empty where there are none."""

    def read_attached(self, sequence: str, serial: str) -> dict[str, np.ndarray]:
        """What is attached to a sequence; serial: the camera that its descriptors come from."""
        return read_attached(self.annotation_file(sequence), self.pictures(sequence, serial))

    def encoder_of(self, sequence: str, descriptor: str) -> str | None:
        """What made the descriptors of this name, as the files say; None where they do not."""
        return attached_encoder(self.annotation_file(sequence), descriptor)

    def read_truth(self, sequence: str) -> dict[str, np.ndarray]:
        """The file that only grading opens; FileNotFoundError for all captures but rendered ones."""
        raise FileNotFoundError(
            f"{self.describe(sequence)} is of no rendered capture: nobody knows its truth"
        )

    @abstractmethod
    def describe(self, sequence: str, serial: str | None = None, what: str = "images") -> str:
        """What to call this sequence in an error, or a camera's "images" or "masks" of it. Words, not a path:
        see `files`."""
