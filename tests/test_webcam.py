"""Recording one's own camera: what the kernel does with what arrives, and a real browser with a made-up
camera."""

import json
import urllib.parse
from fractions import Fraction

import av
import numpy as np
import pytest
from lab import FAKE_CAMERA, jupyterlab, launch, open_notebook, playwright

from raf_lite.captures import open_capture, read_video, write_video
from raf_lite.captures.video import probe_video
from raf_lite.widgets import webcam
from raf_lite.widgets.webcam import MOST_BYTES, Webcam, camera_script


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """A widget, and the sentences that it sends to the browser."""
    widget, said = webcam(tmp_path / "me.mp4", 3), []
    monkeypatch.setattr(Webcam, "send", lambda self, content, buffers=None: said.append(content["text"]))
    return widget, said


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8), 12.0)
    return path.read_bytes()


def deliver(widget, data, size=None, kind="video/mp4", parts=1):
    step = -(-len(data) // parts)
    for part in range(parts):
        piece = memoryview(data[part * step : (part + 1) * step])
        size = len(data) if size is None else size
        widget._handle_custom_msg({"part": part, "parts": parts, "size": size, "type": kind}, [piece])


def test_parts_become_a_file(recorder, video):
    widget, said = recorder
    deliver(widget, video, parts=5)
    assert widget.path.read_bytes() == video and widget.saved
    assert said == [
        f"Saved me.mp4: 64x64 pixels, {len(video) / 1e6:.1f} MB. It stays on the machine on which this"
        " notebook computes."
    ]
    deliver(widget, video, parts=2)  # another recording replaces it
    assert widget.path.read_bytes() == video and len(said) == 2


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"size": MOST_BYTES + 1}, "larger than 64 MB; record fewer seconds"),
        ({"size": None, "kind": "audio/ogg"}, "recorded 'audio/ogg'"),
        ({"size": 5}, "was lost on the way"),
        ({"data": b""}, "is empty"),
        ({"data": b"<html>no video</html>"}, "no video that can be read"),
    ],
)
def test_what_is_no_recording_is_refused_and_the_old_one_stays(recorder, video, arguments, sentence):
    widget, said = recorder
    widget.path.write_bytes(b"older")
    deliver(widget, **({"data": video} | arguments))
    assert len(said) == 1 and said[0].startswith("Not saved: ") and sentence in said[0]
    assert [p.name for p in widget.path.parent.iterdir()] == [
        "me.mp4"
    ] and widget.path.read_bytes() == b"older"
    assert not widget.saved


def test_a_lost_part_is_noticed(recorder, video):
    widget, said = recorder
    widget._handle_custom_msg({"part": 0, "parts": 3, "size": len(video), "type": "video/mp4"}, [video[:10]])
    widget._handle_custom_msg({"part": 2, "parts": 3, "size": len(video), "type": "video/mp4"}, [video[10:]])
    assert len(said) == 1 and "was lost on the way" in said[0] and not widget.path.exists()
    deliver(widget, video)
    assert widget.saved


def test_a_live_file_that_does_not_tell_its_rate_is_timed(tmp_path):
    """As a browser's MediaRecorder writes it: no duration, no rate, no number of frames."""
    with av.open(str(tmp_path / "live.webm"), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=1000)
        stream.width = stream.height = 64
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 50 * number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = probe_video(tmp_path / "live.webm")
    assert info.frames == 0 and info.fps == pytest.approx(20, rel=0.05)
    assert len(read_video(tmp_path / "live.webm")) == 12


def test_bad_arguments_and_no_widgets(tmp_path):
    with pytest.raises(ValueError, match="does not end in .webm or .mp4"):
        webcam(tmp_path / "me.avi")
    with pytest.raises(ValueError, match="0 seconds cannot be recorded"):
        webcam(tmp_path / "me.webm", 0)
    assert len(repr(webcam(tmp_path / "me.webm"))) <= 110 and "No widgets here" in repr(
        webcam(tmp_path / "me.webm")
    )


# -------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def running():
    with playwright() as started:
        yield started


def bare_page(browser, address):
    """The widget's code on a page of its own at an address that nobody has: the browser is answered by the
    test."""
    page = browser.new_page()
    script = urllib.parse.quote(camera_script("webcam.js"))
    page.route(
        "**/*", lambda route: route.fulfill(content_type="text/html", body="<!doctype html><main></main>")
    )
    page.goto(address)
    page.evaluate(
        """async (script) => {
        const widget = await import("data:text/javascript," + script);
        const model = { get: () => 1, on: () => {}, send: () => {} };
        widget.default.render({ model, el: document.querySelector("main") }); }""",
        script,
    )
    return page


@pytest.mark.may_skip("needs chromium")
def test_pages_that_may_not_or_cannot_record_say_why(running):
    with launch(running, "--use-fake-device-for-media-stream") as browser:
        page = bare_page(browser, "http://elsewhere.example/")
        assert "neither https nor this machine's own" in page.get_by_role("status").text_content()
        assert page.get_by_role("button").is_disabled()
        page = bare_page(
            browser, "https://elsewhere.example/"
        )  # nobody there to permit it: a browser without a screen denies
        page.get_by_role("button").press("Enter")
        page.get_by_text("The camera was not allowed.").wait_for()
        assert (
            page.get_by_role("button").is_enabled()
            and page.get_by_role("button").text_content() == "Record 1 seconds"
        )
    with launch(running, "--use-fake-device-for-media-stream=device-count=0", FAKE_CAMERA[1]) as browser:
        page = bare_page(browser, "https://elsewhere.example/")
        page.get_by_role("button").press("Enter")
        page.get_by_text("No camera was found.").wait_for()


@pytest.mark.may_skip("needs chromium")
def test_jupyterlab_records_a_file_that_the_reader_reads(running, tmp_path):
    pytest.importorskip("jupyterlab", reason="the browser test needs JupyterLab (the extra `dev`)")
    folder = tmp_path / "lab"
    folder.mkdir()
    source = "from raf_lite.widgets import webcam\nwebcam('made/me.webm', 3)"
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    (folder / "page.ipynb").write_text(
        json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    )
    with jupyterlab(folder, tmp_path / "settings") as address, launch(running, *FAKE_CAMERA) as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        complaints = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        open_notebook(page, address, "page")
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.get_by_role("button", name="Record 3 seconds").press("Enter")
        status = page.locator(".raf-webcam [role=status][aria-live=polite]")
        status.get_by_text("Recording, for 3 seconds").wait_for()
        status.get_by_text("Saved me.webm").wait_for()
        assert page.locator(".raf-webcam video").is_hidden() and complaints == []
    path = folder / "made" / "me.webm"
    film, info = read_video(path), probe_video(path)
    assert film.ndim == 4 and film.shape[1:] == (480, 640, 3) and len(film) > 10
    # A browser's file does not tell its rate; a film of three seconds must still last as long.
    with av.open(str(path)) as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size]
    assert 1 < times[-1] - times[0] < 30  # a busy machine's browser delivers late
    assert (len(film) - 1) / info.fps == pytest.approx(times[-1] - times[0], rel=0.01)
    assert open_capture(path).n_frames("video") == len(film)
    assert (
        film.std() > 10 and np.abs(np.diff(film[::5].astype(int), axis=0)).max() > 20
    )  # the made-up camera shows motion
