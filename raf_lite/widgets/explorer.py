"""A map of a bank to walk through by mouse or keyboard: pick a face, see which rows retrieval would take for
it."""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from typing import Protocol

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from raf_lite._install import how_to_install
from raf_lite.bank import ExpressionBank
from raf_lite.viewing.figures import strip_html
from raf_lite.viewing.maps import coverage, map_bank

COLOURS = {
    "by person": "donor",
    "by distance to the nearest other person": "distance",
    "by true error of that neighbour": "error",
}
MAPS = {"PCA (linear)": "pca", "t-SNE (keeps neighbours)": "tsne"}


@dataclass(frozen=True)
class Own:
    """A person who is not in the bank, drawn over it: descriptors [T, D]; optionally pictures [T, H, W, 3]
    and true weights.

    >>> Own(np.zeros((40, 52))).descriptors.shape
    (40, 52)
    """

    descriptors: np.ndarray
    pictures: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Neighbours:
    """What retrieval finds for one frame: rows [k] of the bank, distances [k], true errors [k] or None."""

    rows: np.ndarray
    distances: np.ndarray
    errors: np.ndarray | None


class Points(Protocol):
    """What plotly says of a click: which points of the trace."""

    point_inds: list[int]


class Search:
    """The explorer's questions without its widgets: neighbours, colours, pictures, words.

    Conventions: docs/conventions.md#descriptors.

    >>> bank = ExpressionBank.from_arrays([[0.0, 1.0], [3.0, 5.0], [0.0, 2.0]], donors=["ann", "bo", "ann"])
    >>> Search(bank, k=1).neighbours(0, only_pictured=False)
    Neighbours(rows=array([1]), distances=array([5.], dtype=float32), errors=None)
    """

    def __init__(
        self, bank: ExpressionBank, own: Own | None = None, weights: np.ndarray | None = None, k: int = 6
    ) -> None:
        if weights is not None and len(weights) != len(bank):
            raise ValueError(
                f"there are {len(weights)} rows of true weights for {len(bank)} rows of the bank; give one"
                " a row"
            )
        self.bank, self.own, self.k = bank, own, k
        self.weights = None if weights is None else np.asarray(weights, np.float32)
        if own is not None:
            bank.check_descriptors(own.descriptors, what="own descriptors")
        pictured = bank.thumbnail_rows
        self.pictured = (
            ExpressionBank.from_arrays(bank.descriptors[pictured], bank.donors[pictured])
            if len(pictured)
            else None
        )

    def person(self) -> Own:
        """The person drawn over the bank; ValueError where there is none."""
        if self.own is None:
            raise ValueError("no person is drawn over the bank; give one as `own`")
        return self.own

    def neighbours(self, row: int, own: bool = False, only_pictured: bool = True) -> Neighbours:
        """The k nearest rows of other people, for a row of the bank or of the person drawn over it."""
        query = self.person().descriptors[row] if own else self.bank.descriptors[row]
        exclude = () if own else (self.bank.donors[row],)
        if only_pictured and self.pictured is not None:
            distances, found = self.pictured.search(query[None], self.k, exclude)
            rows = self.bank.thumbnail_rows[found[0]]
        else:
            distances, found = self.bank.search(query[None], self.k, exclude)
            rows = found[0]
        truth = self.person().weights if own else self.weights
        errors = None
        if truth is not None and self.weights is not None:
            errors = np.linalg.norm(self.weights[rows] - truth[row], axis=1)
        return Neighbours(rows, distances[0], errors)

    def colours(self, kind: str) -> tuple[np.ndarray, str]:
        """A number for each row of the bank [N], and what it is."""
        if kind == "donor":
            return np.unique(self.bank.donors, return_inverse=True)[1].astype(np.float32), "person"
        nearest, away = np.empty(len(self.bank), np.int64), np.empty(len(self.bank), np.float32)
        for donor in np.unique(self.bank.donors):
            mine = np.flatnonzero(self.bank.donors == donor)
            distances, found = self.bank.search(self.bank.descriptors[mine], 1, (donor,))
            nearest[mine], away[mine] = found[:, 0], distances[:, 0]
        if kind == "distance":
            return away, "distance to the nearest row of another person"
        if self.weights is None:
            raise ValueError("true errors need the rows' true expression weights; give them as `weights`")
        return (
            np.linalg.norm(self.weights[nearest] - self.weights, axis=1),
            "true error of the nearest row of another person",
        )

    def strip(self, row: int, own: bool, found: Neighbours, with_errors: bool) -> str:
        """The frame and its neighbours as HTML, with captions and a text alternative."""
        if own:
            kept = self.person().pictures
            query = None if kept is None else kept[row]
        else:
            query = self.bank.thumbnail(row)
        who = f"own frame {row}" if own else f"row {row}, person {self.bank.donors[row]}"
        captions, pictures = [who], [query]
        for k, neighbour in enumerate(found.rows):
            text = f"person {self.bank.donors[neighbour]}, distance {found.distances[k]:.2f}"
            captions.append(
                text
                + (f", true error {found.errors[k]:.2f}" if with_errors and found.errors is not None else "")
            )
            pictures.append(self.bank.thumbnail(int(neighbour)))
        blank = np.full((64, 64, 3), 235, np.uint8)
        captions = [c if p is not None else f"{c} (no picture kept)" for c, p in zip(captions, pictures)]
        alt = (
            f"{captions[0]} and its {len(found.rows)} nearest rows of other people: "
            + "; ".join(captions[1:])
            + "."
        )
        return strip_html([blank if p is None else p for p in pictures], captions, alt, height=110)


def words(search: Search, kept: str, colour: str) -> str:
    """What the map shows, in numbers."""
    bank, text = search.bank, ""
    if search.own is not None:
        away, holes = coverage(bank, search.own.descriptors)
        text = (
            f" The {len(search.own.descriptors)} crosses are one person's own training frames;"
            f" {100 * holes:.0f} % of the rows are farther from all of them than they are from each other"
            f" (median distance {np.median(away):.2f})."
        )
    return (
        f"A map of {len(bank)} rows of {len(np.unique(bank.donors))} people, {kept}; colour: {colour}.{text} "
        "The star is the picked frame, the diamonds are its neighbours."
    )


class Explorer(widgets.VBox):
    """Made by `explorer`. `select(row, own=False)` does what a click does; `row`, `shown` say what is
    picked."""

    def __init__(self, search: Search, method: str) -> None:
        self.search, self.row, self.from_own, self.shown = search, 0, False, None
        self.figure = go.FigureWidget(_figure())
        choices = [
            (label, kind) for label, kind in COLOURS.items() if kind != "error" or search.weights is not None
        ]
        self.map = widgets.Dropdown(options=list(MAPS.items()), value=method, description="Map")
        self.colour = widgets.Dropdown(options=choices, value="donor", description="Colour")
        self.number = widgets.BoundedIntText(0, 0, len(search.bank) - 1, description="Frame")
        self.source = widgets.Dropdown(
            options=[("of the bank", False)] + [("of the person", True)] * (search.own is not None),
            value=False,
            description="Pick",
        )
        self.pictured = widgets.Checkbox(
            search.pictured is not None,
            disabled=search.pictured is None,
            indent=False,
            description=f"only rows with a picture ({len(search.bank.thumbnail_rows)})",
        )
        self.errors = widgets.Checkbox(
            False, description="show the true error", indent=False, disabled=search.weights is None
        )
        self.strip, self.text, self.status = widgets.HTML(), widgets.HTML(), widgets.HTML()
        wrap, self._moving = widgets.Layout(flex_flow="row wrap"), False
        super().__init__(
            [
                widgets.HBox([self.map, self.colour], layout=wrap),
                self.figure,
                self.text,
                widgets.HBox([self.source, self.number, self.pictured, self.errors], layout=wrap),
                self.status,
                self.strip,
            ]
        )
        self._redraw()
        self._recolour()
        self.select(0)
        self.map.observe(lambda change: self._redraw(), "value")
        self.colour.observe(lambda change: self._recolour(), "value")
        for control in (self.number, self.source):
            control.observe(self._asked, "value")
        for box in (self.pictured, self.errors):
            box.observe(lambda change: self.select(self.row, self.from_own), "value")
        self.figure.data[0].on_click(lambda trace, points, state: self._clicked(points, False))
        self.figure.data[1].on_click(lambda trace, points, state: self._clicked(points, True))

    def select(self, row: int, own: bool = False) -> Neighbours:
        """Pick a frame of the bank, or of the person drawn over it; shows and returns its neighbours."""
        limit = len(self.search.person().descriptors) if own else len(self.search.bank)
        if not 0 <= row < limit:
            raise ValueError(f"there is no frame {row}; choose one from 0 to {limit - 1}")
        self.row, self.from_own = int(row), own
        self.shown = self.search.neighbours(self.row, own, self.pictured.value)
        self.strip.value = self.search.strip(self.row, own, self.shown, self.errors.value)
        who = f"Own frame {row}" if own else f"Row {row} of person {self.search.bank.donors[row]}"
        nearest = (
            f"nearest is person {self.search.bank.donors[self.shown.rows[0]]} at"
            f" {self.shown.distances[0]:.2f}"
        )
        self.status.value = f'<p role="status" aria-live="polite">{html.escape(f"{who}: {nearest}.")}</p>'
        self._mark()
        self._moving = True  # the controls follow a click, which must not pick again
        self.source.value, self.number.max, self.number.value = own, limit - 1, self.row
        self._moving = False
        return self.shown

    def _asked(self, change: dict) -> None:
        if not self._moving:
            limit = len(self.search.person().descriptors) if self.source.value else len(self.search.bank)
            self.select(min(self.number.value, limit - 1), self.source.value)

    def _clicked(self, points: Points, own: bool) -> None:
        if points.point_inds:
            self.select(points.point_inds[0], own)

    def _redraw(self) -> None:
        own = None if self.search.own is None else self.search.own.descriptors
        self.spots, self.own_spots, self.kept = map_bank(self.search.bank, own, self.map.value)
        with self.figure.batch_update():
            self.figure.data[0].x, self.figure.data[0].y = self.spots.T
            self.figure.data[1].x, self.figure.data[1].y = self.own_spots.T
        self._mark()
        self._say()

    def _recolour(self) -> None:
        values, what = self.search.colours(self.colour.value)
        with self.figure.batch_update():
            self.figure.data[0].marker = {
                **_crowd(),
                "color": values,
                "showscale": self.colour.value != "donor",
                "colorbar": {"title": {"text": what, "side": "right"}},
            }
            # plotly takes hover texts for markup.
            self.figure.data[0].text = [
                html.escape(f"row {k}, person {d}") for k, d in enumerate(self.search.bank.donors)
            ]
        self._say()

    def _say(self) -> None:
        label = next(k for k, v in COLOURS.items() if v == self.colour.value)
        self.text.value = f'<p style="font-size:13px">{html.escape(words(self.search, self.kept, label))}</p>'

    def _mark(self) -> None:
        if self.shown is not None:
            with self.figure.batch_update():
                self.figure.data[2].x, self.figure.data[2].y = self.spots[self.shown.rows].T
                spot = (self.own_spots if self.from_own else self.spots)[self.row]
                self.figure.data[3].x, self.figure.data[3].y = spot[:1], spot[1:]


def _crowd() -> dict:
    return {"size": 4, "opacity": 0.5, "colorscale": "Viridis"}


def _figure() -> go.Figure:
    """The four kinds of points, without points: told apart by shape as well as by colour."""
    figure = go.Figure(
        [
            go.Scattergl(mode="markers", name="bank", marker=_crowd(), hoverinfo="text"),
            go.Scattergl(
                mode="markers",
                name="own training frames",
                marker={"symbol": "x", "size": 7, "color": "#c0392b"},
                hoverinfo="name",
            ),
            go.Scattergl(
                mode="markers",
                name="neighbours",
                hoverinfo="skip",
                marker={"symbol": "diamond-open", "size": 15, "color": "#000", "line": {"width": 2}},
            ),
            go.Scattergl(
                mode="markers",
                name="picked",
                hoverinfo="skip",
                marker={
                    "symbol": "star",
                    "size": 18,
                    "color": "#f39c12",
                    "line": {"width": 1, "color": "#000"},
                },
            ),
        ]
    )
    figure.update_layout(
        height=460,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        template="plotly_white",
        hovermode="closest",
        legend={"orientation": "h", "y": -0.05},
        uirevision="map",
    )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False, scaleanchor="x")
    return figure


def explorer(
    bank: ExpressionBank,
    *,
    own: Own | None = None,
    weights: np.ndarray | None = None,
    k: int = 6,
    method: str = "pca",
) -> Explorer | None:
    """Explore a bank in a notebook: a map, a picked frame, its k nearest rows of other people with pictures
    and distances.

    own: a person drawn over the bank, whose frames can be picked too. weights: true expression weights [N, W]
    of the rows, where somebody knows them (`load_truth`); they grade the neighbours on demand and are never
    searched on. method: the first map, "pca" or "tsne".

    Click a point, or choose a frame's number; every control works by keyboard, and a status line says what
    was found. Where no widgets can be made it prints why, shows `static_explorer` and returns None. Raises
    ValueError for weights, own descriptors or a method that do not fit.

    >>> rng = np.random.default_rng(0)
    >>> bank = ExpressionBank.from_arrays(rng.normal(size=(300, 52)), np.repeat(np.arange(10), 30))
    >>> explorer(bank, k=3).shown.rows.shape
    (3,)
    """
    if method not in MAPS.values():
        raise ValueError(f"there is no map '{method}'; choose one of {', '.join(MAPS.values())}")
    search = Search(bank, own, weights, k)
    if "google.colab" in sys.modules:  # Colab draws widgets of other packages only when asked to
        sys.modules["google.colab"].output.enable_custom_widget_manager()
    try:
        return Explorer(search, method)
    except ImportError as error:  # plotly's FigureWidget needs anywidget, which plotly does not ask for
        from IPython.display import HTML, display

        print(
            f"No widgets here ({error}), so this is a picture of the map; to have the explorer,"
            f" {how_to_install('lessons')}."
        )
        display(HTML(static_explorer(search, method)))
        return None


def static_explorer(search: Search, method: str = "pca", row: int = 0) -> str:
    """The explorer as a page that does not move: the map as a picture, one frame and its neighbours; HTML
    with its own words."""
    own = None if search.own is None else search.own.descriptors
    spots, own_spots, kept = map_bank(search.bank, own, method)
    found = search.neighbours(row)
    size = 420
    every = np.concatenate([spots, own_spots])
    low, span = every.min(0), np.ptp(every, 0).max()
    at = lambda points: np.clip((points - low) / span * (size - 1), 0, size - 1).astype(int)  # noqa: E731
    picture = np.full((size, size, 3), 255, np.uint8)
    for points, colour, width in (
        (spots, (150, 170, 190), 0),
        (own_spots, (192, 57, 43), 1),
        (spots[found.rows], (0, 0, 0), 3),
        (spots[row : row + 1], (243, 156, 18), 4),
    ):
        for x, y in at(points):
            picture[max(0, size - 1 - y - width) : size - y + width, max(0, x - width) : x + width + 1] = (
                colour
            )
    text = (
        words(search, kept, "by kind of point")
        .replace("The star is", "The large orange square is")
        .replace("the diamonds are", "the black squares are")
        .replace("crosses", "red squares")
    )
    return strip_html([picture], ["map"], text, height=size) + search.strip(
        row, False, found, search.weights is not None
    )
