"""The bank's maps and its explorer: who is a neighbour, what a click and a key do, and what is said in
words."""

import re

import numpy as np
import pytest
from test_viewing import Reader

from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.viewing import coverage, map_bank, maps
from raf_lite.widgets import Own, explorer
from raf_lite.widgets.explorer import Search, static_explorer


@pytest.fixture(scope="module")
def bank(data_dir):
    return ExpressionBank.load(data_dir / "bank", "blendshapes")


@pytest.fixture(scope="module")
def truth(data_dir):
    return load_truth(data_dir / "bank")["weights"].astype(np.float32)


@pytest.fixture
def own(bank, truth):
    rows = np.arange(40, 60)
    return Own(bank.descriptors[rows] + np.float32(0.01), np.full((20, 32, 32, 3), 90, np.uint8), truth[rows])


def small_bank(people=12, each=20, dim=5):
    rng = np.random.default_rng(0)
    return ExpressionBank.from_arrays(
        rng.random((people * each, dim), np.float32), np.repeat(np.arange(people), each)
    )


def test_pca_is_the_two_widest_directions():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((400, 6)) * [5, 3, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    spots, own, kept = map_bank(ExpressionBank.from_arrays(rows, np.arange(400)), rows[:3])
    assert np.allclose(np.abs(spots), np.abs(rows[:, :2] - rows[:, :2].mean(0)), atol=0.3)
    assert np.allclose(own, spots[:3], atol=1e-4) and "100 %" in kept


def test_tsne_keeps_neighbours_is_kept_and_a_broken_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.standard_normal((60, 5)) * 0.1 + c for c in (0, 3, 6)]).astype(np.float32)
    bank, own = ExpressionBank.from_arrays(rows, np.repeat(range(3), 60)), rows[:4] + np.float32(0.001)
    spots, placed, kept = map_bank(bank, own, "tsne")
    distance = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 1e9 * np.eye(180)
    assert (
        distance.argmin(1) // 60 == np.arange(180) // 60
    ).mean() > 0.98  # a row's neighbour is of its own cluster
    assert (np.linalg.norm(placed[:, None] - spots[None], axis=2).argmin(1) < 60).all() and "t-SNE" in kept
    (cached,) = (tmp_path / "maps").iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    again = map_bank(bank, own, "tsne")
    assert np.array_equal(again[0], spots)
    monkeypatch.setattr("raf_lite.viewing.maps._tsne", lambda *a: pytest.fail("made again"))
    assert np.array_equal(map_bank(bank, own, "tsne")[0], spots)
    with pytest.raises(ValueError, match="no map 'umap'; choose one of pca, tsne"):
        map_bank(bank, own, "umap")


def test_a_map_of_another_opentsne_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    bank = ExpressionBank.from_arrays(np.random.default_rng(1).random((40, 4)), np.arange(40))
    made = []

    def tsne(rows, own, seed):
        made.append(np.full((len(rows), 2), len(made), np.float32))
        return made[-1], np.empty((0, 2), np.float32)

    monkeypatch.setattr(maps, "_tsne", tsne)
    for version, spot in (("1.0.2", 0), ("1.0.3", 1), ("1.0.2", 0)):
        monkeypatch.setattr(maps, "version", lambda package, version=version: f"{package} {version}")
        assert (map_bank(bank, method="tsne")[0] == spot).all()
    assert len(made) == 2


def test_coverage_by_hand():
    own = np.array([[0.0], [1.0], [2.0]], np.float32)  # 1 apart
    bank = ExpressionBank.from_arrays(np.array([[0.2], [1.5], [3.5], [9.0]], np.float32), [0, 1, 2, 3])
    away, holes = coverage(bank, own)
    assert np.allclose(away, [0.2, 0.5, 1.5, 7.0], atol=1e-6) and holes == 0.5


def test_neighbours_are_other_people_and_errors_are_the_truths(bank, truth):
    search = Search(bank, weights=truth, k=5)
    found = search.neighbours(1000)
    assert bank.donors[1000] not in bank.donors[found.rows] and set(found.rows) <= set(bank.thumbnail_rows)
    assert np.allclose(found.errors, np.linalg.norm(truth[found.rows] - truth[1000], axis=1))
    anywhere = search.neighbours(1000, only_pictured=False)
    distance = np.linalg.norm(bank.descriptors - bank.descriptors[1000], axis=1)
    distance[bank.donors == bank.donors[1000]] = np.inf
    assert anywhere.rows.tolist() == np.argsort(distance, kind="stable")[:5].tolist()
    assert anywhere.distances[0] <= found.distances[0]
    page = Reader(search.strip(1000, False, found, True))
    assert f"true error {found.errors[0]:.2f}" in page.text and "true error" not in search.strip(
        1000, False, found, False
    )


def test_colours():
    bank = small_bank()
    weights = np.random.default_rng(2).random((len(bank), 3), np.float32)
    search = Search(bank, weights=weights)
    assert search.pictured is None
    assert np.array_equal(search.colours("donor")[0], bank.donors)
    k = 77
    distance = np.linalg.norm(bank.descriptors - bank.descriptors[k], axis=1)
    distance[bank.donors == bank.donors[k]] = np.inf
    assert search.colours("distance")[0][k] == pytest.approx(distance.min(), abs=1e-5)
    assert search.colours("error")[0][k] == pytest.approx(
        np.linalg.norm(weights[distance.argmin()] - weights[k]), abs=1e-5
    )


def test_clicks_and_numbers_pick_the_same_and_are_told(bank, truth, own):
    shown = explorer(bank, own=own, weights=truth, k=4)
    assert shown.row == 0 and len(shown.figure.data[0].x) == len(bank) and len(shown.figure.data[1].x) == 20

    def click(trace, row):  # what the browser sends
        shown.figure._js2py_pointsCallback = {
            "event_type": "plotly_click",
            "selector": None,
            "device_state": {
                "alt": False,
                "ctrl": False,
                "meta": False,
                "shift": False,
                "button": 0,
                "buttons": 1,
            },
            "points": {"trace_indexes": [trace], "point_indexes": [row], "xs": [0.0], "ys": [0.0]},
        }

    click(0, 1234)
    assert (shown.row, shown.number.value) == (
        1234,
        1234,
    ) and f"Row 1234 of person {bank.donors[1234]}" in shown.status.value
    by_click = shown.strip.value
    shown.number.value = 17
    assert shown.row == 17 and shown.strip.value != by_click
    shown.number.value = 1234
    assert shown.strip.value == by_click
    assert np.allclose(shown.figure.data[3].x, shown.spots[1234, 0])
    assert np.allclose(np.sort(shown.figure.data[2].y), np.sort(shown.spots[shown.shown.rows, 1]))
    click(1, 7)
    assert (shown.row, shown.from_own, shown.source.value, shown.number.max) == (7, True, True, 19)
    assert set(shown.shown.rows) & set(range(0, 84)), "the person is a copy of the first donor's rows"
    shown.source.value = False
    assert not shown.from_own and shown.row == 7 and shown.number.max == len(bank) - 1
    assert 'aria-live="polite"' in shown.status.value


def test_switches(bank, truth):
    shown = explorer(bank, weights=truth, k=3)
    assert "true error" not in shown.strip.value
    shown.errors.value = True
    assert shown.strip.value.count("true error") >= 3
    rows = shown.shown.rows
    shown.pictured.value = False
    assert shown.strip.value.count("no picture kept") > 0 or np.array_equal(rows, shown.shown.rows)
    shown.colour.value = "error"
    assert (
        shown.figure.data[0].marker.showscale
        and "true error" in shown.figure.data[0].marker.colorbar.title.text
    )
    assert "colour: by true error" in shown.text.value
    plain = explorer(small_bank())
    assert (
        plain.errors.disabled
        and plain.pictured.disabled
        and "error" not in dict(plain.colour.options).values()
    )
    with pytest.raises(ValueError, match="no frame 240; choose one from 0 to 239"):
        plain.select(240)


def test_words_are_the_numbers(bank, own):
    text = re.sub("<.*?>", "", explorer(bank, own=own).text.value)
    assert "18480 rows of 220 people" in text and "The 20 crosses" in text
    share = int(re.search(r"(\d+) % of the rows are farther", text)[1])
    assert share == round(100 * coverage(bank, own.descriptors)[1])


def test_without_anywidget_there_is_a_picture_and_a_sentence(bank, own, truth, monkeypatch, capsys):
    import plotly.graph_objects as go
    from IPython import display as ipython

    pages = []
    monkeypatch.setattr(ipython, "display", pages.append)

    def missing(*args, **kwargs):
        raise ImportError("Please install anywidget to use the FigureWidget class")

    monkeypatch.setattr(go, "FigureWidget", missing)
    assert explorer(bank, own=own, weights=truth) is None
    assert "run `make setup`" in capsys.readouterr().out
    page = Reader(pages[0].data)
    assert not page.open and all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert "18480 rows of 220 people" in page.text and "nearest rows of other people" in page.text


def test_the_static_map_shows_all_kinds_of_points(bank, own):
    page = static_explorer(Search(bank, own))
    assert "large orange square" in page and "red squares" in page


def test_bad_input_is_named(bank, truth, own):
    with pytest.raises(ValueError, match="3 rows of true weights for 18480 rows"):
        explorer(bank, weights=truth[:3])
    with pytest.raises(ValueError, match="own descriptors have 2 dimensions"):
        explorer(bank, own=Own(np.zeros((3, 2), np.float32)))
    with pytest.raises(ValueError, match="no map 'umap'"):
        explorer(bank, method="umap")
