"""The study's kinds of figure, as SVG with a sentence that says the same."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raf_lite.study.statistics import Effect


@dataclass(frozen=True, repr=False)
class Figure:
    """A drawing as SVG, and the sentence that says the same. A notebook shows both, as a picture: a page that
    it does not trust leaves inline SVG out."""

    svg: str
    sentence: str

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        said = f'<p style="font-size:13px">{html.escape(self.sentence)}</p>'
        if not self.svg:
            return said
        drawn = self.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        source = f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"
        return f'<img alt="{html.escape(self.sentence)}" style="max-width:100%" src="{source}">{said}'


def shown(effect: Effect | None, unit: str = "%") -> str:
    """An effect as text: mean, 95 % interval, how many subjects improved.

    >>> from raf_lite.study.statistics import paired_effect
    >>> shown(paired_effect([3.0, 3.6, 4.5], [4.0, 4.0, 5.0]))
    '-15.0 % [-36.5, +6.5], 3/3'
    """
    if effect is None:
        return "–"
    if effect.subjects == 1:
        return f"{effect.mean:+.1f} {unit} (1 subject)"
    return (
        f"{effect.mean:+.1f} {unit} [{effect.low:+.1f}, {effect.high:+.1f}],"
        f" {effect.better}/{effect.subjects}"
    )


def forest(rows: Sequence[tuple[str, Effect | None]], title: str) -> Figure:
    """Means with their intervals about zero; the sentence lists every one.

    >>> from raf_lite.study.statistics import paired_effect
    >>> forest([("centred", paired_effect([3.0, 3.6, 4.5], [4.0, 4.0, 5.0]))], "Error of the mouth").sentence
    'Error of the mouth: centred -15.0 % [-36.5, +6.5], 3/3.'
    """
    drawn = [(label, e) for label, e in rows if e is not None and e.subjects > 1]
    sentence = f"{title}: " + "; ".join(f"{label} {shown(e)}" for label, e in drawn) + "."
    if not drawn:
        return Figure("", f"{title}: nothing to show yet.")
    reach = 1.1 * max(5.0, *(abs(x) for _, e in drawn for x in (e.low, e.high)))
    left, width, step = 300, 460, 26
    at = lambda v: left + width / 2 * (1 + v / reach)  # noqa: E731
    parts = []
    for k, (label, e) in enumerate(drawn):
        y = 22 + k * step
        parts.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end"'
            f' font-size="13">{html.escape(label)}</text><line x1="{at(e.low):.1f}" x2="{at(e.high):.1f}"'
            f' y1="{y}" y2="{y}" stroke="#1b4f72" stroke-width="3"/><circle cx="{at(e.mean):.1f}" cy="{y}"'
            f' r="5" fill="#1b4f72"/><text x="{left + width + 8}" y="{y + 4}" font-size="13">{e.mean:+.1f}'
            " %</text>"
        )
    height = 40 + len(drawn) * step
    axis = "".join(
        f'<text x="{at(v):.1f}" y="{height - 4}" text-anchor="middle" font-size="11">{v:+.0f} %</text>'
        for v in (-0.8 * reach, 0.8 * reach)
    )
    svg = (
        f'<svg role="img" aria-label="{html.escape(sentence)}" viewBox="0 0 860 {height}"'
        f' font-family="system-ui"><line x1="{at(0)}" x2="{at(0)}" y1="6" y2="{height - 16}" stroke="#333"'
        f' stroke-dasharray="3 3"/>{axis}{"".join(parts)}</svg>'
    )
    return Figure(svg, sentence)


def curves(series: dict[str, list[tuple[str, float]]], title: str, unit: str) -> Figure:
    """Lines over named steps, each with its own dash and marker letter; the sentence lists every point."""
    series = {name: points for name, points in series.items() if points}
    sentence = (
        f"{title}: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{x} {y:+.1f} {unit}" for x, y in points)
            for name, points in series.items()
        )
        + "."
    )
    if not series:
        return Figure("", f"{title}: nothing to show yet.")
    steps = list(dict.fromkeys(x for points in series.values() for x, _ in points))
    values = [y for points in series.values() for _, y in points] + [0.0]
    low, high = min(values), max(values)
    span = max(high - low, 1e-6)
    at_x = lambda x: 90 + steps.index(x) * 520 / max(1, len(steps) - 1)  # noqa: E731
    at_y = lambda y: 20 + 200 * (high - y) / span  # noqa: E731
    parts = [
        f'<line x1="80" x2="620" y1="{at_y(0):.1f}" y2="{at_y(0):.1f}" stroke="#999"/>'
        f'<text x="74" y="{at_y(0) + 4:.1f}" text-anchor="end" font-size="12">0</text>'
    ]
    # Long names take turns on two lines, so that neighbours do not overlap.
    lines = 2 if len(steps) > 1 and 7 * max(map(len, steps)) > 520 / (len(steps) - 1) else 1
    parts += [
        f'<text x="{at_x(x):.1f}" y="{248 + 18 * (k % lines)}" text-anchor="middle"'
        f' font-size="12">{html.escape(x)}</text>'
        for k, x in enumerate(steps)
    ]
    label_y, lowest = {}, -1e9  # names at the lines' ends, at least a line of text apart
    for name in sorted(series, key=lambda n: at_y(series[n][-1][1])):
        lowest = label_y[name] = max(at_y(series[name][-1][1]) + 4, lowest + 14)
    for k, (name, points) in enumerate(series.items()):
        colour = ("#1b4f72", "#9c4a1a", "#2a6f4e", "#6c3483", "#555555", "#7d6608")[k % 6]
        line = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        last_x, last_y = points[-1]
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{2 + 3 * k} {2 * k}"/>'
            f'<text x="{at_x(last_x) + 8:.1f}" y="{label_y[name]:.1f}" font-size="12" fill="{colour}">'
            f"{html.escape(name)} {last_y:+.1f}</text>"
        )
    svg = (
        f'<svg role="img" aria-label="{html.escape(sentence)}" viewBox="0 0 900 {242 + 18 * lines}"'
        f' font-family="system-ui">{"".join(parts)}</svg>'
    )
    return Figure(svg, sentence)


_SHARE_COLOURS = ("#1b4f72", "#9c4a1a", "#2a6f4e", "#6c3483", "#555555")


def shares(bars: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Bars of parts that add up, each bar in percent of its sum and each part with its letter; the sentence
    lists every one. A part below zero is listed and not drawn.

    >>> shares({"mouth": {"encoder": 30.0, "training": 10.0}}, "Where the error goes").sentence
    'Where the error goes: mouth: encoder 75 %, training 25 %.'
    """
    percent = {
        bar: {part: 100 * v / sum(parts.values()) for part, v in parts.items()} for bar, parts in bars.items()
    }
    listed = (
        f"{bar}: " + ", ".join(f"{part} {v:.0f} %" for part, v in parts.items())
        for bar, parts in percent.items()
    )
    sentence = f"{title}: {'; '.join(listed)}."
    names = list(dict.fromkeys(part for parts in percent.values() for part in parts))
    look = {
        name: (chr(ord("a") + k), _SHARE_COLOURS[k % len(_SHARE_COLOURS)]) for k, name in enumerate(names)
    }
    left, width, step = 220, 600, 34
    drawn = []
    for k, (bar, parts) in enumerate(percent.items()):
        y, x = 8 + k * step, float(left)
        drawn.append(
            f'<text x="{left - 10}" y="{y + 17}" text-anchor="end" font-size="13">{html.escape(bar)}</text>'
        )
        scale = width / max(100.0, sum(max(v, 0.0) for v in parts.values()))
        for part, v in parts.items():
            letter, colour = look[part]
            wide = scale * max(v, 0.0)
            drawn.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="24" fill="{colour}" stroke="#fff"/>'
            )
            if wide > 30:
                drawn.append(
                    f'<text x="{x + wide / 2:.1f}" y="{y + 17}" text-anchor="middle" font-size="12"'
                    f' fill="#fff">{letter} {v:.0f}</text>'
                )
            x += wide
    below = 8 + len(percent) * step
    for k, (name, (letter, colour)) in enumerate(look.items()):
        y = below + 12 + 20 * k
        drawn.append(
            f'<rect x="{left}" y="{y - 11}" width="14" height="14" fill="{colour}"/>'
            f'<text x="{left + 22}" y="{y}" font-size="13">{letter}: {html.escape(name)}</text>'
        )
    height = below + 20 * len(look) + 10
    svg = (
        f'<svg role="img" aria-label="{html.escape(sentence)}" viewBox="0 0 860 {height}"'
        f' font-family="system-ui">{"".join(drawn)}</svg>'
    )
    return Figure(svg, sentence)
