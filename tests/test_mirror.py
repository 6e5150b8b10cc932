"""The avatar that follows a camera: the kernel's half by itself, and a browser whose made-up camera films a
rendered driver."""

import base64
import io
import json
import sys

import av
import numpy as np
import pytest
from lab import FAKE_CAMERA, jupyterlab, launch, open_notebook, playwright
from PIL import Image

from raf_lite import Session, course
from raf_lite.captures import open_capture
from raf_lite.descriptors.encode_video import encode_video
from raf_lite.viewing import drive_video
from raf_lite.widgets.mirror import LiveDriver, Mirror, mirror


@pytest.fixture(scope="module")
def avatar():
    return course.trained_avatar("baseline", Session("cpu", fast=True))


@pytest.fixture(scope="module")
def film(data_dir):
    """Every fifth frame of a rendered driver, uint8 [21, 256, 256, 3]: it begins at rest."""
    driver = open_capture(data_dir / "mini_nersemble" / "101")
    return driver.frames("FREE", driver.encoder_camera)[::5]


def test_live_pictures_are_those_that_a_video_gives(avatar, film, tmp_path):
    """Frame by frame against drive_video, which sees the whole film first."""
    from raf_lite.captures import read_video, write_video

    write_video(tmp_path / "film.mp4", film[:6], 12.0, crf=0)
    seen = read_video(tmp_path / "film.mp4")
    encoding = encode_video(tmp_path / "film.mp4", progress=False)
    for relative, hold_head in ((None, False), (0, False), (0, True)):
        film_of_it = read_video(
            drive_video(
                avatar,
                tmp_path / "film.mp4",
                encoding,
                tmp_path / "driven.mp4",
                size=128,
                relative=relative,
                hold_head=hold_head,
                progress=False,
            )
        )
        live = LiveDriver(avatar, 128)
        shown = [live.drive(frame, rest=relative == t, turn=not hold_head)[0] for t, frame in enumerate(seen)]
        assert (
            np.abs(np.stack(shown) - film_of_it[:, 24:, 128:].astype(float)).mean() < 2
        )  # the film is compressed


def test_without_a_face_it_holds_still_and_nobody_rests(avatar, film):
    live = LiveDriver(avatar, 96)
    first, found = live.drive(np.full((64, 64, 3), 200, np.uint8), rest=True)
    assert not found and live.resting is None
    shown, found = live.drive(film[8])
    assert (
        found and np.abs(shown.astype(float) - first).mean() > 0.3
    )  # before the first face it showed its own neutral
    held, found = live.drive(np.full((64, 64, 3), 200, np.uint8))
    assert not found
    np.testing.assert_array_equal(held, shown)


def test_another_avatar_is_refused(avatar, monkeypatch):
    monkeypatch.setattr(avatar, "descriptor", "flame_expr")
    with pytest.raises(ValueError, match="driven by 'flame_expr', and a camera gives blendshapes"):
        mirror(avatar)


@pytest.fixture
def widget(avatar, monkeypatch):
    """A widget, and what it sends to the browser."""
    sent = []
    monkeypatch.setattr(Mirror, "send", lambda self, content, buffers=None: sent.append((content, buffers)))
    return mirror(avatar, size=96), sent


def jpeg(frame):
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG")
    return memoryview(out.getvalue())


def test_the_kernels_half_of_the_talk(widget, film, monkeypatch):
    mirrored, sent = widget
    assert len(repr(mirrored)) <= 110 and "No widgets here" in repr(mirrored)
    mirrored._handle_custom_msg({"run": 3, "rest": True, "turn": False}, [jpeg(film[0])])
    content, (picture,) = sent.pop()
    assert (content["run"], content["found"], content["relative"]) == (3, True, True) and 0 < content[
        "seconds"
    ] < 60
    assert Image.open(io.BytesIO(picture)).size == (96, 96)
    for buffers, sentence in (
        ([], "lost on the way"),
        ([b"x" * 100], "is no picture"),
        ([b"x" * (5 << 20)], "lost on the way"),
    ):
        mirrored._handle_custom_msg({"run": 4}, buffers)
        content, nothing = sent.pop()
        assert content["run"] == 4 and sentence in content["error"] and nothing is None

    def no_encoder():
        raise ImportError("no MediaPipe here")

    monkeypatch.setattr(sys.modules[LiveDriver.__module__], "MediaPipeEncoder", no_encoder)
    mirrored.driver._encoder = None
    mirrored._handle_custom_msg({"run": 5}, [jpeg(film[0])])
    assert sent.pop()[0] == {"run": 5, "error": "no MediaPipe here"}


# -------------------------------------------------------------------------------------------------- browser


def write_y4m(path, frames):
    """Frames uint8 [T, H, W, 3] as the raw video that Chromium takes for a camera."""
    with open(path, "wb") as out:
        out.write(f"YUV4MPEG2 W{frames.shape[2]} H{frames.shape[1]} F12:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            planes = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p").to_ndarray()
            out.write(b"FRAME\n" + planes.tobytes())


class Page:
    """JupyterLab with a mirror on a page of its own, in a browser whose camera is made up."""

    def __init__(self, browser, address):
        self.page, self.complaints, self.outside = browser.new_page(), [], []
        self.page.set_default_timeout(240_000)
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on(
            "request",
            lambda r: None if r.url.startswith((address, "blob:", "data:")) else self.outside.append(r.url),
        )
        open_notebook(self.page, address, "page")
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.status = self.page.locator(".raf-mirror [role=status][aria-live=polite]")
        self.page.get_by_role("button", name="Start the camera").press("Enter")

    def pictures(self, count=15):
        """So many of the avatar's pictures, each another answer: float [count, 256, 256, 3], grey levels."""
        urls = self.page.evaluate(
            """async (count) => {
            const picture = document.querySelector(".raf-mirror img");
            const canvas = document.createElement("canvas");
            const urls = [];
            for (let seen = picture.dataset.count; urls.length < count; seen = picture.dataset.count) {
                while (picture.dataset.count === seen) await new Promise((done) => { setTimeout(done, 10); });
                await picture.decode();
                [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
                canvas.getContext("2d").drawImage(picture, 0, 0);
                urls.push(canvas.toDataURL("image/png"));
            }
            return urls; }""",
            count,
        )
        pictures = [
            Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB") for url in urls
        ]
        return np.stack([np.asarray(picture, float) for picture in pictures])


@pytest.fixture(scope="module")
def lab_page(tmp_path_factory):
    """(address of a JupyterLab with one page, its folder, a function that starts a browser with these
    arguments)."""
    pytest.importorskip("jupyterlab", reason="the browser test needs JupyterLab (the extra `dev`)")
    folder = tmp_path_factory.mktemp("page")
    source = (
        "from raf_lite import Session\nfrom raf_lite.course import trained_avatar\nfrom raf_lite.widgets"
        " import mirror\nmirror(trained_avatar('baseline', Session('cpu', True)))"
    )
    recorder = "from raf_lite.widgets import webcam\nwebcam('made/me.webm', 3)"
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{k}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": text,
        }
        for k, text in enumerate((source, recorder))
    ]
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    (folder / "page.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    )
    with playwright() as running, jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield address, folder, lambda *args: launch(running, *FAKE_CAMERA, *args)


@pytest.mark.may_skip("needs chromium")
def test_in_a_browser_the_avatar_follows_a_face_and_a_recording_of_it_is_encoded(lab_page, film, tmp_path):
    address, folder, launch = lab_page
    wide = np.full((len(film), 256, 342, 3), 255, np.uint8)
    wide[:, :, 43:299] = film
    write_y4m(tmp_path / "camera.y4m", wide)
    with launch(f"--use-file-for-fake-video-capture={tmp_path / 'camera.y4m'}") as browser:
        shown = Page(browser, address)
        page = shown.page
        shown.status.get_by_text("The avatar follows your numbers as they are").wait_for()
        acting = shown.pictures()
        assert acting.max() > 240 and np.ptp(acting, axis=0).max() > 60, "a face that moves"
        # Looking straight ahead, the head's outline stays where it is, while the mouth goes on.
        page.get_by_label("turn with my head").press(" ")
        shown.pictures(2)  # under way
        held = shown.pictures()
        assert np.ptp(held[:, :60], axis=0).mean() < np.ptp(acting[:, :60], axis=0).mean() / 2
        assert np.ptp(held[:, 128:200, 80:176], axis=0).max() > 40
        page.get_by_role("button", name="Stop the camera").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        shown.status.get_by_text("The avatar follows your change from your resting face").wait_for()
        said = page.locator(".raf-rate").text_content()
        print("in the browser:", said)
        assert float(said.split()[0]) > 0.5
        page.get_by_role("button", name="Stop the camera").press("Enter")
        shown.status.get_by_text("The camera is off; no picture was kept").wait_for()
        assert (
            page.locator(".raf-mirror video").is_hidden()
            and page.get_by_role("button", name="resting face").is_disabled()
        )

        page.get_by_role("button", name="Record 3 seconds").press("Enter")
        page.locator(".raf-webcam [role=status]").get_by_text("Saved me.webm").wait_for()
        assert shown.complaints == [] and shown.outside == []
    encoding = encode_video(folder / "made" / "me.webm", progress=False)
    assert len(encoding) > 10 and encoding.face_found.all() and encoding.blendshapes.std(0).max() > 0.1
    assert len(encoding) / encoding.fps == pytest.approx(3, abs=1)


@pytest.mark.may_skip("needs chromium")
def test_in_a_browser_without_a_face_a_sentence_says_so(lab_page):
    address, _, launch = lab_page
    with launch() as browser:  # Chromium's own made-up camera shows a test pattern
        shown = Page(browser, address)
        shown.status.get_by_text("No face is found: the avatar holds still.").wait_for()
        still = shown.pictures(3)
        assert (
            np.ptp(still, axis=0).max() == 0
            and shown.page.get_by_role("button", name="resting face").is_disabled()
        )
        assert shown.complaints == []
