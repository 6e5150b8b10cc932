"""Pictures in a notebook, each with a caption and a text alternative."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import plotly.graph_objects as go


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """uint8 as it is; float [0, 1] scaled."""
    return image if image.dtype == np.uint8 else (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def strip_html(images: Sequence[np.ndarray], captions: Sequence[str], alt: str, *, height: int = 160) -> str:
    """Pictures side by side as HTML, each [H, W, 3] with a caption under it; `alt` says in words what the row
    shows.

    height: of each picture on the page, in CSS pixels; larger pictures are scaled down, smaller ones are not
    enlarged.

    >>> grey = np.full((32, 32, 3), 128, np.uint8)
    >>> page = strip_html([grey, grey], ["before", "after"], "Twice the same grey square.")
    >>> page.count("<img"), "Twice the same grey square." in page
    (2, True)
    """
    cells = []
    for image, caption in zip(images, captions, strict=True):
        picture = Image.fromarray(_to_uint8(np.asarray(image)))
        if picture.height > height:
            picture = picture.resize(
                (round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS
            )
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        label = html.escape(caption)
        cells.append(
            f'<figure style="margin:4px;display:inline-block"><img alt="{label}" height="{picture.height}" '
            f'src="data:image/jpeg;base64,{data}"><figcaption style="font-size:12px;text-align:center;'
            f'max-width:{picture.width}px">{label}</figcaption></figure>'
        )
    label = html.escape(alt)
    return (
        f'<div role="group" aria-label="{label}">{"".join(cells)}<p style="font-size:13px">{label}</p></div>'
    )


def show_strip(images: Sequence[np.ndarray], captions: Sequence[str], alt: str, *, height: int = 160) -> None:
    """Display `strip_html` in a notebook."""
    from IPython.display import HTML, display

    display(HTML(strip_html(images, captions, alt, height=height)))


def show_video(path: str | Path, alt: str) -> None:
    """Embed an mp4 in a notebook, with its description under it."""
    from IPython.display import HTML, display

    data = base64.b64encode(Path(path).read_bytes()).decode()
    display(
        HTML(
            f'<video controls loop muted aria-label="{html.escape(alt)}" style="max-width:100%" '
            f'src="data:video/mp4;base64,{data}"></video><p style="font-size:13px">{html.escape(alt)}</p>'
        )
    )


def show_figure(figure: go.Figure, alt: str) -> None:
    """Display a plotly figure in a notebook, with its description under it.

    JupyterLab draws it from its numbers alone; Colab, which cannot, is left to plotly's own way.
    """
    import sys

    from IPython.display import HTML, display

    if "google.colab" in sys.modules:
        figure.show()
    else:
        display({"application/vnd.plotly.v1+json": figure.to_plotly_json(), "text/plain": alt}, raw=True)
    display(HTML(f'<p style="font-size:13px">{html.escape(alt)}</p>'))
