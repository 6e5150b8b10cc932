"""A training run to look at while it runs: the loss so far, and one frame as the avatar shows it now beside
the real one."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

import numpy as np

from raf_lite.viewing.figures import strip_html

if TYPE_CHECKING:
    from raf_lite.training import Trainer

_WIDTH, _HEIGHT = 460, 120


def loss_svg(steps: list[int], losses: list[float], total: int) -> str:
    """A falling line on a logarithmic scale, as SVG, with the same in words; steps of `total`."""
    words = (
        f"Loss at step {steps[-1]} of {total}: {losses[-1]:.4f}; at step {steps[0]} it was {losses[0]:.4f}."
    )
    low, high = np.log(min(losses)), np.log(max(losses))
    x = [50 + (_WIDTH - 60) * s / total for s in steps]
    y = [10 + (_HEIGHT - 30) * (high - np.log(v)) / max(high - low, 1e-9) for v in losses]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    text = 'font-size="11" font-family="sans-serif" fill="currentColor"'
    return (
        f'<svg role="img" aria-label="{html.escape(words)}" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0'
        f' {_WIDTH} {_HEIGHT}"><polyline points="{line}" fill="none" stroke="currentColor"'
        f' stroke-width="2"/><text x="4" y="18" {text}>{max(losses):.3f}</text><text x="4" y="{_HEIGHT - 22}"'
        f' {text}>{min(losses):.3f}</text><text x="50" y="{_HEIGHT - 4}" {text}>0</text><text'
        f' x="{_WIDTH - 10}" y="{_HEIGHT - 4}" text-anchor="end" {text}>step {total}</text></svg><p'
        f' style="font-size:13px">{html.escape(words)}</p>'
    )


class LiveTraining:
    """For `Trainer.train(watch=LiveTraining())` in a notebook: redraws one output every few seconds, and at
    the end.

    row: which training frame to show, seen by the frontal camera; the one farthest from the neutral frame
    unless told. every: seconds between two pictures; drawing one takes a few hundredths of a second.
    """

    def __init__(self, row: int | None = None, every: float = 3.0) -> None:
        self.row, self.every = row, every
        self.steps: list[int] = []
        self.losses: list[float] = []
        self._handle, self._next = None, 0.0

    def __call__(self, trainer: Trainer, line: dict) -> None:
        """Take one line of the training's log; draw if it is time."""
        self.steps.append(line["step"])
        self.losses.append(line["total"])
        last = line["step"] == trainer.config.steps
        if time.monotonic() >= self._next or last:
            self._draw(trainer)
            self._next = time.monotonic() + self.every

    def _draw(self, trainer: Trainer) -> None:
        from IPython.display import HTML, display

        data = trainer.data
        if self.row is None:
            self.row = int(np.linalg.norm(data.descriptors - data.descriptors[data.neutral], axis=1).argmax())
        shown = trainer.avatar.render(
            data.descriptors[self.row : self.row + 1],
            data.head_poses[self.row : self.row + 1],
            [data.cameras[data.front]],
        )[0, 0]
        sequence, frame = data.names[self.row]
        page = HTML(
            loss_svg(self.steps, self.losses, trainer.config.steps)
            + strip_html(
                [data.images[self.row, data.front], shown],
                ["real", f"avatar, step {self.steps[-1]}"],
                f"Training frame {frame} of {sequence}: real, and as the avatar shows it.",
                height=192,
            )
        )
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)
