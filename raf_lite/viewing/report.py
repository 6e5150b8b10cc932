"""The report of a run: one HTML file without any outside resource, every number as it was measured."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from PIL import Image

from raf_lite._files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:1080px;margin:2rem auto;
padding:0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px;display:block;overflow-x:auto}
th,td{padding:.25rem .55rem;text-align:right;border-bottom:1px solid #ddd}th[scope=row]{font-weight:400}
th[scope=row],th[scope=rowgroup]{text-align:left;white-space:nowrap;vertical-align:top}
caption{text-align:left;font-weight:600;padding:.5rem 0}tbody tr:first-child>*{border-top:2px solid #555}
figure{margin:1.5rem 0}figcaption{font-size:14px;color:#444}img,video,svg{max-width:100%}
.warning{border-left:5px solid #b00;padding:.5rem 1rem;background:#fff3f3}
dt{font-weight:600}dd{margin:0 0 .4rem 1rem}
"""
HEADINGS = {
    "views": "pictures",
    "psnr": "PSNR dB ↑",
    "psnr_face": "PSNR face dB ↑",
    "ssim": "SSIM ↑",
    "ssim_face": "SSIM face ↑",
    "flip_face": "FLIP face ↓",
    "mae_face": "face ↓",
    "mae_mouth": "mouth ↓",
    "mae_eyes": "eyes ↓",
    "mae_cheeks+nose": "cheeks+nose ↓",
    "landmarks": "landmarks px ↓",
    "landmarks_mouth": "landmarks mouth ↓",
    "landmarks_eyes": "landmarks eyes ↓",
    "aed": "AED ↓",
    "aed_mouth": "AED mouth ↓",
    "aed_eyes": "AED eyes ↓",
    "jitter": "jitter",
    "jitter_mouth": "jitter mouth",
    "jitter_eyes": "jitter eyes",
    "lpips_alex": "LPIPS alex ↓",
    "lpips_alex_face": "LPIPS alex face ↓",
    "lpips_vgg": "LPIPS vgg ↓",
    "lpips_vgg_face": "LPIPS vgg face ↓",
    "identity": "identity ↑",
}
MEANINGS = {
    "training views": "frames and cameras that training saw",
    "hold-out cameras": "the same moments from cameras that training never saw",
    "self": (
        "the person's own sequences that training never saw; self-seen are frames of expressions that"
        " training has, self-unseen of expressions that it has not, self-strong those of the seen that are"
        " acted at full strength or more"
    ),
    "cross": (
        "other people act; the avatar gets their descriptors and head poses, the truth is this person with"
        " their expression"
    ),
    "↑ ↓": "higher is better, lower is better",
    "face, mouth, eyes, cheeks+nose": (
        "mean absolute difference in grey levels (0 to 255) inside the region, drawn from "
        "the rig's projected landmarks"
    ),
    "SSIM, FLIP": "on the first camera only; FLIP is a perceptual error from 0 to 1",
    "landmarks, AED": (
        "MediaPipe on avatar and truth, frontal camera: mean distance of its landmarks in pixels, mean"
        " difference of its 52 blendshapes; also of those of mouth and eyes alone. AED shares its encoder"
        " with the descriptor that drives the avatar"
    ),
    "LPIPS": (
        "a perceptual distance (version 0.1) by AlexNet and by VGG16, of whole pictures and of the box round"
        " the face, at the size of the pictures and not at half of it; on some of the frontal camera's"
    ),
    "identity": (
        "cosine of dlib's face descriptors of avatar and truth, on the same pictures as LPIPS; two frames of"
        " one real person have about 0.97, of two people about 0.84"
    ),
    "noise floor": "the truth against itself, moved by half a pixel: smaller differences mean nothing",
}
DIGITS = {
    "views": 0,
    "psnr": 2,
    "psnr_face": 2,
    "ssim": 4,
    "ssim_face": 4,
    "flip_face": 4,
    "landmarks": 3,
    "landmarks_mouth": 3,
    "landmarks_eyes": 3,
    "aed": 4,
    "aed_mouth": 4,
    "aed_eyes": 4,
    "lpips_alex": 3,
    "lpips_alex_face": 3,
    "lpips_vgg": 3,
    "lpips_vgg_face": 3,
    "identity": 3,
}
# Meanings of columns that a table has only where their networks were at hand.
_OPTIONAL = {"LPIPS": "lpips_alex", "identity": "identity"}


def _cell(column: str, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.{DIGITS.get(column, 2)}f}"


def table_html(table: pd.DataFrame, caption: str) -> str:
    """An accessible HTML table of `raf_lite.evaluation.evaluate`'s result."""
    head = "".join(
        f'<th scope="col">{html.escape(h)}</th>'
        for h in ("frames", "avatar", *(HEADINGS[c] for c in table.columns))
    )
    bodies = []
    for group, rows in table.groupby(level=0, sort=False):
        heading = f'<th scope="rowgroup" rowspan="{len(rows)}">{html.escape(group)}</th>'
        lines = []
        for (_, name), row in rows.iterrows():
            cells = "".join(f"<td>{_cell(c, row[c])}</td>" for c in table.columns)
            lines.append(
                f'<tr>{"" if lines else heading}<th scope="row">{html.escape(name)}</th>{cells}</tr>'
            )
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    top = f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return f"<table>{top}{''.join(bodies)}</table>"


def change_figure(change: pd.DataFrame, column: str, title: str) -> str:
    """Bars of a percent change from the baseline as inline SVG, with a text alternative built from the same
    numbers."""
    values = change[column].dropna()
    if values.empty:
        return ""
    sentence = (
        f"{title}, change from the baseline: "
        + "; ".join(f"{g}, {a}: {v:+.1f} %" for (g, a), v in values.items())
        + "."
    )
    reach = max(5.0, float(values.abs().max()) * 1.15)
    row, left, width = 26, 330, 420
    middle = left + width / 2
    bars = []
    for k, ((group, name), value) in enumerate(values.items()):
        y, length = 10 + k * row, abs(value) / reach * width / 2
        x = middle - length if value < 0 else middle
        colour, verdict = ("#2a6f4e", "better") if value < 0 else ("#b3541e", "worse")
        label = html.escape(f"{group} · {name}")
        bars.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" font-size="13">{label}</text>'
            f'<rect x="{x:.1f}" y="{y + 2}" width="{max(length, 1):.1f}" height="16" fill="{colour}"/>'
            f'<text x="{left + width + 8}" y="{y + 14}" font-size="13">{value:+.1f} % {verdict}</text>'
        )
    height = 20 + len(values) * row
    return (
        f"<h3>{html.escape(title)}</h3>"
        f'<figure><svg role="img" aria-label="{html.escape(sentence)}" viewBox="0 0 880 {height}"'
        ' font-family="system-ui">'
        f'<line x1="{middle}" y1="4" x2="{middle}" y2="{height - 8}" stroke="#333"/>{"".join(bars)}</svg>'
        f"<figcaption>{html.escape(sentence)}</figcaption></figure>"
    )


def picture_html(image: np.ndarray, alt: str) -> str:
    """A uint8 picture as an embedded JPEG figure whose caption is its text alternative."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{html.escape(alt)}</figcaption></figure>"
    )


def write_report(
    path: str | os.PathLike,
    table: pd.DataFrame,
    change: pd.DataFrame,
    settings: dict,
    video: str | os.PathLike,
    strips: Sequence[tuple[np.ndarray, str]],
    notes: Sequence[str] = (),
) -> Path:
    """Write the report. table, change: from `evaluate` and `change_from_baseline`. settings: what was run.
    video: an mp4 in the same folder. strips: (picture, what it shows). notes: sentences that qualify the
    numbers."""
    path = Path(path)
    fast = settings.get("fast", False)
    items = "".join(
        f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in settings.items()
    )
    warning = (
        '<p class="warning"><strong>RAF_FAST run.</strong> Everything was tiny; the numbers mean nothing.</p>'
        * fast
    )
    caption = (
        f"Means over pictures of {settings['size']} x {settings['size']} pixels, compared at half that size"
    )
    figures = [
        ("mae_face %", "Error inside the face"),
        ("mae_mouth %", "Error in the mouth region"),
        ("landmarks %", "Landmark error"),
        ("aed %", "Descriptor distance (AED)"),
    ]
    meanings = "".join(
        f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>"
        for k, v in MEANINGS.items()
        if k not in _OPTIONAL or _OPTIONAL[k] in table
    )
    film = Path(video).name
    body = f"""<h1>RAF: with and without retrieval</h1>{warning}
<p>Avatars of one rendered person, trained on the same frames with the same seed and budget. Baseline and RAF
differ in one thing: whether some training descriptors were replaced by neighbours from a bank of others.
<em>Cross</em> is another person's expressions on this person's face, graded against an exact answer.</p>
<h2>Numbers</h2>{table_html(table, caption)}
<dl>{meanings}</dl>
{"".join(f"<p>{html.escape(n)}</p>" for n in notes)}
<h2>Change from the baseline</h2><p>One seed and one person: differences of a few percent are not
evidence. Nor is the baseline alone a fair judge: how much of a gain equally large noise would have brought is
measured in notebook 00.</p>
{"".join(change_figure(change, c, t) for c, t in figures if c in change.columns)}
<h2>Pictures</h2>{"".join(picture_html(image, alt) for image, alt in strips)}
<figure><video controls muted loop src="{html.escape(quote(film))}" aria-label="Comparison video"></video>
<figcaption>{html.escape(film)}: driver, ground truth, and each avatar with its error
(dark = large).</figcaption>
</figure>
<h2>What was run</h2><dl>{items}</dl>"""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width"><title>raf_lite'
        f" report</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )
    with atomic_path(path) as tmp:
        tmp.write_text(page, encoding="utf-8", newline="\n")
    return path
