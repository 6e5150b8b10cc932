"""What people look at: error maps, captioned panels, films that players play, reports that readers and screen
readers read."""

import json
from html.parser import HTMLParser
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd
import pytest
from test_evaluation import poseless

from raf_lite.captures import open_capture
from raf_lite.viewing import (
    caption_panels,
    comparison_frames,
    comparison_video,
    error_map,
    show_figure,
    strip_html,
    write_report,
)
from raf_lite.viewing.video import CAPTION_HEIGHT, MAX_BYTES
from raf_lite.widgets import LiveTraining


@pytest.fixture(scope="module")
def capture(data_dir):
    return open_capture(data_dir / "mini_nersemble" / "001")


@pytest.fixture(scope="module")
def drivers(data_dir):
    return {name: open_capture(data_dir / "mini_nersemble" / name) for name in ("101", "102")}


class Flat:
    """An avatar that is a square of one grey, and remembers what drove it."""

    descriptor = "blendshapes"

    def __init__(self, grey):
        self.grey, self.driven = grey, []

    def render(self, descriptors, head_poses, cameras):
        self.driven.append((descriptors, head_poses))
        return np.full(
            (len(descriptors), len(cameras), cameras[0].height, cameras[0].width, 3), self.grey, np.float32
        )


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data


def test_error_map_is_white_for_none_and_darkens():
    truth = np.full((1, 70, 3), 0.4, np.float32)
    image = truth + np.linspace(0, 70 / 255, 70, dtype=np.float32)[None, :, None]
    colours = error_map(image, truth)[0]
    np.testing.assert_allclose(colours[0], 1)
    np.testing.assert_allclose(colours[-1], [0.35, 0, 0.05], atol=1e-6)
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[:64]) < 0).all()  # readable without colour


def test_captions_stand_above_panels_that_are_untouched():
    panels = [np.full((40, 90, 3), grey) for grey in (0.0, 1.0)]
    sheet = caption_panels(panels, ["left", "right"])
    assert sheet.shape == (40 + CAPTION_HEIGHT, 180, 3) and sheet.dtype == np.uint8
    assert (sheet[CAPTION_HEIGHT:, :90] == 0).all() and (sheet[CAPTION_HEIGHT:, 90:] == 255).all()
    assert all((sheet[:CAPTION_HEIGHT, half] < 128).any() for half in (np.s_[:90], np.s_[90:]))


def test_comparison_shows_driver_truth_avatar_and_error(capture, drivers):
    avatars = {"a": Flat(0.2), "b": Flat(0.8)}
    frames = comparison_frames(avatars, capture, drivers["101"], "CROSS-101-FREE", 256, slice(3, 5))
    assert frames.shape == (2, 256 + CAPTION_HEIGHT, 6 * 256, 3)
    panel = lambda t, k: frames[t, CAPTION_HEIGHT:, k * 256 : (k + 1) * 256]  # noqa: E731
    front = capture.encoder_camera
    truth = capture.frames("CROSS-101-FREE", front)
    assert np.array_equal(panel(1, 0), drivers["101"].frames("FREE", front)[4]) and np.array_equal(
        panel(1, 1), truth[4]
    )
    assert (panel(0, 2) == 51).all() and (panel(0, 4) == 204).all()
    wanted = error_map(np.float32(0.2), truth[3] / np.float32(255))
    assert np.abs(panel(0, 3) / 255 - wanted).max() < 0.003
    descriptors, poses = avatars["a"].driven[0]
    np.testing.assert_array_equal(descriptors, drivers["101"].descriptors("FREE", "blendshapes")[3:5])
    np.testing.assert_array_equal(poses, drivers["101"].head_poses("FREE")[3:5])


def test_a_driver_without_head_poses_is_named(capture, drivers):
    with pytest.raises(ValueError, match="101: sequence FREE has no head poses; .*fit_head_poses"):
        comparison_frames({"a": Flat(0.2)}, capture, poseless(drivers["101"]), "CROSS-101-FREE")


def test_comparison_video_plays_everywhere_and_is_small(capture, drivers, tmp_path):
    path = comparison_video(
        tmp_path / "film.mp4", {"a": Flat(0.5)}, capture, drivers, size=128, frames=slice(0, 7)
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == (
            "h264",
            "yuv420p",
            512,
            128 + CAPTION_HEIGHT,
        )
        assert sum(1 for _ in container.decode(stream)) == 2 * 7  # both drivers
        assert float(stream.average_rate) == capture.fps
    assert path.stat().st_size <= MAX_BYTES


def test_nothing_is_enlarged_and_a_missing_sequence_is_named(capture, drivers, tmp_path):
    with pytest.raises(ValueError, match="256 pixels and 512 were asked for"):
        comparison_frames({"a": Flat(0)}, capture, drivers["101"], "CROSS-101-FREE", 512)
    with pytest.raises(ValueError, match="no CROSS sequence 'EMO-9'"):
        comparison_video(tmp_path / "x.mp4", {"a": Flat(0)}, capture, drivers, sequence="EMO-9")
    assert not list(tmp_path.iterdir())


def test_strip_has_a_caption_and_alternative_a_picture():
    images = [np.zeros((20, 30, 3), np.uint8), np.ones((300, 300, 3))]
    page = Reader(strip_html(images, ["one <b>", "two"], 'All "pictures".', height=160))
    alternatives = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert alternatives == ["one <b>", "two"] and not page.open
    assert [attrs["height"] for tag, attrs in page.tags if tag == "img"] == ["20", "160"]  # never enlarged
    assert dict(page.tags)["div"]["aria-label"] == 'All "pictures".'


def report(tmp_path, **settings):
    index = pd.MultiIndex.from_tuples(
        [("cross", "baseline"), ("cross", "RAF & co"), ("cross", "noise floor")], names=["group", "avatar"]
    )
    table = pd.DataFrame(
        {"views": [9, 9, 9], "psnr": [31.234, 30.5, np.nan], "landmarks": [1.5, 1.2, 0.25]}, index=index
    )
    change = pd.DataFrame({"psnr dB": [-0.734], "landmarks %": [-20.0]}, index=index[1:2])
    strips = [(np.zeros((30, 60, 3), np.uint8), "Two black squares.")]
    return Reader(
        write_report(
            tmp_path / "r.html",
            table,
            change,
            {"size": 128, **settings},
            tmp_path / "v.mp4",
            strips,
            notes=["A note."],
        ).read_text()
    )


def test_report_holds_the_numbers_once_and_stands_alone(tmp_path):
    page = report(tmp_path, fast=False)
    assert not page.open
    for text in (
        "31.23",
        "30.50",
        "1.500",
        "0.250",
        "–",
        "RAF & co",
        "128 x 128",
        "A note.",
        "Two black squares.",
        "-20.0 %",
    ):
        assert text in page.text, text
    sources = [attrs["src"] for tag, attrs in page.tags if "src" in attrs]
    assert all(s.startswith("data:") or s == "v.mp4" for s in sources) and not any(
        "href" in attrs for _, attrs in page.tags
    )
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    figure = next(attrs for tag, attrs in page.tags if tag == "svg")
    assert figure["role"] == "img" and "cross, RAF & co: -20.0 %" in figure["aria-label"]
    groups = [attrs for tag, attrs in page.tags if attrs.get("scope") == "rowgroup"]
    assert [g["rowspan"] for g in groups] == ["3"]
    assert page.tags[0] == ("html", {"lang": "en"}) and "RAF_FAST" not in page.text


def test_a_report_heads_and_explains_what_networks_measured():
    from raf_lite.evaluation.grading import COLUMNS, MEASURED
    from raf_lite.viewing.report import HEADINGS, table_html

    assert HEADINGS.keys() == {"views", *COLUMNS, *MEASURED} and len(set(HEADINGS.values())) == len(HEADINGS)
    index = pd.MultiIndex.from_tuples([("self", "mine")], names=["group", "avatar"])
    table = pd.DataFrame({"views": [9], "lpips_vgg_face": [0.1234], "identity": [0.9876]}, index=index)
    page = table_html(table, "x")
    assert "LPIPS vgg face ↓" in page and ">0.123<" in page and "identity ↑" in page and ">0.988<" in page


def test_a_fast_report_says_that_its_numbers_mean_nothing(tmp_path):
    assert "the numbers mean nothing" in report(tmp_path, fast=True).text


def test_live_training_draws_now_and_then_and_at_the_end(monkeypatch):
    """A trainer of one grey frame: the first line is drawn, those that come too soon are not, the last one
    always is."""
    import IPython.display

    pages = []
    monkeypatch.setattr(
        IPython.display,
        "display",
        lambda page, display_id: SimpleNamespace(update=pages.append) if not pages.append(page) else None,
    )
    data = SimpleNamespace(
        descriptors=np.array([[0.0], [3.0], [1.0]], np.float32),
        neutral=0,
        front=0,
        cameras=[SimpleNamespace(width=8, height=8)],
        head_poses=np.tile(np.eye(4), (3, 1, 1)),
        names=[("A", 0), ("A", 1), ("B", 0)],
        images=np.full((3, 1, 8, 8, 3), 128, np.uint8),
    )
    trainer = SimpleNamespace(data=data, avatar=Flat(0.5), config=SimpleNamespace(steps=200))
    live = LiveTraining(every=3600)
    for step, loss in ((50, 0.4), (100, 0.2), (200, 0.1)):
        live(trainer, {"step": step, "total": loss})
    assert len(pages) == 2 and live.row == 1  # the frame farthest from the neutral one
    first, last = (Reader(page.data) for page in pages)
    assert not first.open and not last.open
    assert "Loss at step 50 of 200: 0.4000" in first.text
    chart = next(attrs for tag, attrs in last.tags if tag == "svg")
    assert chart["aria-label"] == "Loss at step 200 of 200: 0.1000; at step 50 it was 0.4000."
    assert "Training frame 1 of A" in last.text
    points = [
        tuple(map(float, p.split(",")))
        for p in next(a for tag, a in last.tags if tag == "polyline")["points"].split()
    ]
    assert [x for x, _ in points] == pytest.approx([150, 250, 450])
    assert points[0][1] == 10 and points[1][1] == pytest.approx(
        (points[0][1] + points[2][1]) / 2, abs=0.1
    )  # logarithmic


def test_a_plotly_figure_is_shown_from_its_numbers_with_words(monkeypatch):
    import IPython.display
    import plotly.graph_objects as go

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda page, raw=False: shown.append(page))
    show_figure(go.Figure(go.Scatter(x=[1, 2], y=[3.5, 4])), "From 3.5 to <4>.")
    bundle, words = shown
    assert list(bundle["application/vnd.plotly.v1+json"]["data"][0]["y"]) == [3.5, 4]
    assert bundle["text/plain"] == "From 3.5 to <4>."
    json.dumps(bundle)
    assert Reader(words.data).text == "From 3.5 to <4>."
