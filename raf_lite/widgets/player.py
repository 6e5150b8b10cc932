"""The avatar player in a notebook: the page that `raf_lite.export.write_player` writes, as a widget."""

from __future__ import annotations

from collections.abc import Mapping

import anywidget
import numpy as np
import traitlets

from raf_lite.avatar import GaussianAvatar
from raf_lite.export.player import player_content, player_style, spark_bytes, widget_script


class Player(anywidget.AnyWidget):
    """Made by `player`. Everything is sent to the browser when it is shown; after that it needs no kernel."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    spark = traitlets.Bytes().tag(sync=True)  # Spark and three.js, gzipped
    content = traitlets.Dict().tag(sync=True)  # what raf_lite.export.player.player_content returns

    def __repr__(self) -> str:
        """What is shown where widgets are not: at most 110 characters, which is all that ipywidgets 7
        prints."""
        return (
            "No widgets here, so no player: raf_lite.export.write_player writes it as an HTML page for any"
            " browser."
        )


def player(
    avatars: Mapping[str, GaussianAvatar],
    *,
    sequences: Mapping[str, np.ndarray] | None = None,
    fps: float = 24.0,
    size: int = 512,
) -> Player:
    """A widget that shows avatars as Gaussian splats: orbit with mouse or keyboard, blend expressions, play,
    switch avatars.

    avatars: name -> avatar with a learned basis, all driven by the same descriptor; the first one is shown
    first. sequences: name -> descriptors [T, D] to play. fps: frames a second of the sequences. size: pixels
    on the longer side of the picture.

    The sliders are the dimensions of the descriptor that move the first avatar most within the sequences'
    range, and the strongest components of each basis; blending happens in the browser. Nothing is loaded from
    the network. Where no widgets are, its text says so and names `raf_lite.export.write_player`.

    Raises ValueError: no avatar, one without a learned basis, different descriptors, a sequence of another
    kind or with NaN, or an fps that is not above 0.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> player({"centred": avatar}).content["avatars"][0]["name"]
    'centred'
    """
    return Player(
        _esm=widget_script(),
        _css=player_style(),
        spark=spark_bytes(),
        content=player_content(avatars, sequences or {}, fps, size),
    )
