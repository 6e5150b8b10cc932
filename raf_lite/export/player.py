"""A static page that plays avatars: one HTML file, no server, no kernel, no request."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

import raf_lite
from raf_lite._files import atomic_path
from raf_lite._forms import named, parts
from raf_lite.avatar import GaussianAvatar
from raf_lite.export.browser import pack_avatar
from raf_lite.export.placing import checked_descriptors

MAX_BYTES = 10_000_000
# Only what the page itself holds; Spark sorts in a worker made from its own code.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src"
    " data: blob:; style-src 'unsafe-inline'; img-src data: blob:"
)


def _asset(name: str) -> bytes:
    return files("raf_lite.export").joinpath(name).read_bytes()


def player_script() -> str:
    """The player's own code as one JavaScript module that exports `mountPlayer`; it needs no other file but
    `spark_bytes`."""
    return "\n".join(_asset(name).decode("utf-8") for name in ("model.js", "view.js", "player.js"))


def widget_script() -> str:
    """The same as an anywidget's module, whose `render` mounts the player in a notebook's output."""
    return player_script() + "\n" + _asset("widget.js").decode("utf-8")


def player_style() -> str:
    """The player's CSS."""
    return _asset("player.css").decode("utf-8")


def spark_bytes() -> bytes:
    """Spark and three.js as one gzipped JavaScript module (tools/build_spark.sh makes it)."""
    return _asset("spark.js.gz")


def player_content(
    avatars: Mapping[str, GaussianAvatar], sequences: Mapping[str, np.ndarray], fps: float, size: int
) -> dict:
    """What `mountPlayer` is given, but for Spark: {"fps", "avatars": [{name, header, data}], "sequences":
    [{name, frames, data}]}, each data gzipped bytes. Arguments and errors as `write_player`, the page's size
    aside."""
    if not avatars:
        raise ValueError("the player got no avatar; give at least one")
    if not fps > 0:
        raise ValueError(f"the player's fps is {fps}; give the frames a second, above 0")
    kinds = {(named(*parts(a.descriptor)), len(a.descriptor_mean)) for a in avatars.values()}
    if len(kinds) > 1:
        raise ValueError(
            "the avatars are driven by different descriptors, "
            f"{' and '.join(f'{name} [{dim}]' for name, dim in sorted(kinds))}; play them in separate players"
        )
    first = next(iter(avatars.values()))
    checked = {
        name: checked_descriptors(first, values, f"sequence '{name}'") for name, values in sequences.items()
    }
    known = np.concatenate(list(checked.values())) if checked else None
    packed = {name: pack_avatar(avatar, known, size=size) for name, avatar in avatars.items()}
    # Four digits are more than a descriptor has, and zip well.
    films = {
        name: gzip.compress(np.round(values, 4).astype("<f4").tobytes(), 9, mtime=0)
        for name, values in checked.items()
    }
    # The first avatar's sliders serve all, so that a switch leaves each where it is.
    sliders = next(iter(packed.values())).header["dimensionSliders"]
    return {
        "fps": fps,
        "avatars": [
            {"name": name, "header": p.header | {"dimensionSliders": sliders}, "data": p.data}
            for name, p in packed.items()
        ],
        "sequences": [
            {"name": name, "frames": len(checked[name]), "data": film} for name, film in films.items()
        ],
    }


def write_player(
    avatars: Mapping[str, GaussianAvatar],
    path: str | os.PathLike,
    *,
    sequences: Mapping[str, np.ndarray],
    title: str = "Gaussian head avatars",
    fps: float = 24.0,
    size: int = 512,
) -> Path:
    """Write one HTML file of at most 10 MB that shows avatars as Gaussian splats, orbits them, blends
    expressions and plays.

    avatars: name -> avatar with a learned basis, all driven by the same descriptor; the first one is shown
    first. sequences: name -> descriptors [T, D] to play; may be empty. title: heading. fps: frames a second
    of the sequences. size: pixels on the longer side of the picture. The page opens from disk, has no outside
    resource, and blends in the browser: network and components are in it (see `pack_avatar`). Splats are
    drawn by Spark and three.js (MIT; their notices are in the page). Heads hold still.

    Raises ValueError: no avatar, one without a learned basis, different descriptors, a sequence of another
    kind or with NaN, an fps that is not above 0, or a page over 10 MB.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> write_player({"centred": avatar}, "head.html", sequences={}).stat().st_size < 10_000_000
    True
    """
    content = player_content(avatars, sequences, fps, size)

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    data = {"spark": text(spark_bytes()), "fps": fps} | {
        kind: [item | {"data": text(item["data"])} for item in content[kind]]
        for kind in ("avatars", "sequences")
    }
    page = Template(_asset("player.html").decode("utf-8")).substitute(
        title=html.escape(title),
        style=player_style(),
        script=player_script(),
        version=raf_lite.__version__,
        policy=POLICY,
        licences=html.escape(_asset("spark.LICENSE").decode("utf-8")),
        data=json.dumps(data).replace("<", "\\u003c"),
    )
    encoded = page.encode("utf-8")
    if len(encoded) > MAX_BYTES:
        raise ValueError(
            f"the page would have {len(encoded) / 1e6:.1f} MB and may have {MAX_BYTES / 1e6:g}; leave an"
            " avatar out, or train with fewer Gaussians"
        )
    with atomic_path(path) as tmp:
        tmp.write_bytes(encoded)
    return Path(path)
