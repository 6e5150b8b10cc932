"""The avatar player where learners meet it: lesson 08 in JupyterLab in a real browser, by keyboard, without a network.

WebGL is drawn by the processor here, about a picture a second: everything waits for the counter of pictures, not for times.
"""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
LESSON = "08_comparison_videos.ipynb"
# Parts of the picture, in shares of its height and width: the head looks straight ahead.
MOUTH, HAIR = (slice(0.58, 0.74), slice(0.38, 0.62)), (slice(0.03, 0.12), slice(0.38, 0.62))


@contextlib.contextmanager
def jupyterlab(folder, settings):
    """A JupyterLab for this machine only that shows `folder`; yields its address."""
    news = settings / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
         "--LabApp.expose_app_in_browser=True", "--IdentityProvider.token=", "--ServerApp.password=",
         f"--ServerApp.root_dir={folder}"],
        env={**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(settings), "RAF_FAST": "1"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            assert server.poll() is None, "JupyterLab ended by itself"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api", timeout=5)
                break
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


class Lesson:
    """Lesson 08 in a browser, its player at hand; remembers complaints and requests that leave the machine."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1300, "height": 1100})
        self.page.set_default_timeout(300_000)
        self.complaints, self.outside = [], []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else self.outside.append(r.url))
        self.page.goto(f"{address}/lab/tree/{LESSON}?reset")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.page.wait_for_function("""() => {
            const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
            return kernel?.connectionStatus === 'connected' && kernel.status === 'idle'; }""")
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.canvas = self.page.locator(".raf-player canvas")
        self.canvas.wait_for()
        self.canvas.scroll_into_view_if_needed()

    def settled(self):
        """The picture once nothing is drawn any more: float [H, W, 3], grey levels."""
        before = None
        for _ in range(100):
            frames = self.canvas.get_attribute("data-frames")
            if frames == before and frames != "0":
                image = Image.open(io.BytesIO(self.canvas.screenshot())).convert("RGB")
                return np.asarray(image.resize((256, 256)), np.float32)
            before = frames
            self.page.wait_for_timeout(1500)
        raise AssertionError(f"the player never stops drawing, or draws nothing: {self.complaints}")

    def tab_to(self, name):
        """Tab on until the control with this data-name has the focus; returns it."""
        for _ in range(30):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.dataset.name ?? ''").startswith(name):
                return self.page.locator(":focus")
        raise AssertionError(f"Tab never reaches {name}")


def part(image, box):
    """A part of a picture, given in shares."""
    rows, columns = (slice(int(s.start * n), int(s.stop * n)) for s, n in zip(box, image.shape))
    return image[rows, columns]


def change(a, b, box=(slice(0, 1), slice(0, 1))):
    """Mean difference in grey levels."""
    return float(np.abs(part(a, box) - part(b, box)).mean())


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright (the extra `dev`)")
    pytest.importorskip("jupyterlab", reason="the browser test needs JupyterLab (the extra `dev`)")
    if not CHROMIUM.exists():
        pytest.skip(f"the browser test needs {CHROMIUM}; on Debian: apt-get install chromium")
    folder = tmp_path_factory.mktemp("lessons")
    notebook = json.loads((ROOT / "notebooks" / LESSON).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}  # so that what is there later was made here
    (folder / LESSON).write_text(json.dumps(notebook), encoding="utf-8")  # a copy: the lesson writes beside itself
    with jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=[
            "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--ignore-gpu-blocklist"])
        yield Lesson(browser, address)
        browser.close()


@pytest.mark.may_skip("needs chromium")
def test_the_lesson_runs_and_its_player_plays_by_keyboard(lesson):
    page, canvas = lesson.page, lesson.canvas
    first = lesson.settled()
    assert first.min() < 90 and part(first, HAIR).mean() < 140 < part(first, MOUTH).mean(), "a head with dark hair, upright"

    # A slider, reached and moved by keyboard, opens the mouth; the hair hardly cares.
    page.locator(".raf-switch input").first.focus()
    jaw = lesson.tab_to("jawOpen")
    outline = jaw.evaluate("e => [getComputedStyle(e).outlineStyle, parseFloat(getComputedStyle(e).outlineWidth)]")
    assert outline == ["solid", 3], "the focus has to be seen"
    for _ in range(5):
        page.keyboard.press("PageUp")
    assert float(jaw.input_value()) > 0.4
    opened = lesson.settled()
    assert change(opened, first, MOUTH) > 5 > 4 * change(opened, first, HAIR)
    page.keyboard.press("Home")
    assert change(lesson.settled(), first, MOUTH) < change(opened, first, MOUTH) / 4

    # The strongest component of the basis moves the face too.
    lesson.tab_to("component 1")
    page.keyboard.press("End")
    assert change(lesson.settled(), first, MOUTH) > 5
    page.get_by_role("button", name="Reset expression").click()
    assert change(lesson.settled(), first) < 0.5

    # The switch swaps avatars, and back; the sliders stay the same ones.
    names = page.locator("input[data-name]").evaluate_all("es => es.map((e) => e.dataset.name).slice(0, 8)")
    page.locator(".raf-switch input").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.raf-status').textContent.startsWith('Avatar RAF')")
    other = lesson.settled()
    assert change(other, first) > 0.3
    assert page.locator("input[data-name]").evaluate_all("es => es.map((e) => e.dataset.name).slice(0, 8)") == names
    page.keyboard.press("ArrowLeft")
    assert change(lesson.settled(), first) < 0.1

    # A sequence plays, and stops.
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("Number(document.querySelector('.raf-player fieldset input[max]:not([data-name])').value) > 2")
    page.get_by_role("button", name="Pause").press("Enter")
    assert change(lesson.settled(), first) > 0.1
    page.get_by_role("button", name="Reset expression").click()

    # The keys of the picture are the picture's: in JupyterLab 0 0 restarts the kernel, and arrows change the cell.
    cell = page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex")
    canvas.focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    turned = lesson.settled()
    assert change(turned, first) > 1
    page.keyboard.press("0")
    page.keyboard.press("0")
    assert change(lesson.settled(), first) < 0.1
    assert page.locator(".jp-Dialog").count() == 0
    assert page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex") == cell

    # All cells ran; nobody complained; nothing was asked of another machine.
    cells = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [cell["source"] for cell in code if any(o["output_type"] == "error" for o in cell["outputs"])]
    assert lesson.complaints == [] and lesson.outside == []
