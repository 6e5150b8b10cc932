"""The avatar player where learners meet it: lesson 08 in JupyterLab in a real browser, by keyboard, without a
network.

WebGL is drawn by the processor here, about a picture a second: everything waits for the counter of pictures,
not for times."""

import io

import numpy as np
import pytest
from lab import OpenLesson, lab
from PIL import Image

LESSON = "08_comparison_videos"
# Parts of the picture, in shares of its height and width: the head looks straight ahead.
MOUTH, HAIR = (slice(0.58, 0.74), slice(0.38, 0.62)), (slice(0.03, 0.12), slice(0.38, 0.62))


class Playing(OpenLesson):
    """Lesson 08, with its player at hand."""

    def __init__(self, browser, address):
        super().__init__(browser, address, LESSON)
        self.canvas = self.page.locator(".raf-player canvas")
        self.run_to_the_end()
        self.canvas.wait_for()
        self.canvas.scroll_into_view_if_needed()

    def settled(self):
        """The picture once nothing is drawn any more: float [H, W, 3], grey levels. On a busy machine a frame
        takes longer than one wait: so two without any."""
        before, still = None, 0
        for _ in range(100):
            frames = self.canvas.get_attribute("data-frames")
            still = still + 1 if frames == before and frames != "0" else 0
            if still == 2:
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
    with lab(tmp_path_factory, LESSON) as (browser, address):
        yield Playing(browser, address)


@pytest.mark.may_skip("needs chromium")
def test_the_lesson_runs_and_its_player_plays_by_keyboard(lesson):
    page, canvas = lesson.page, lesson.canvas
    first = lesson.settled()
    assert first.min() < 90 and part(first, HAIR).mean() < 140 < part(first, MOUTH).mean(), (
        "a head with dark hair, upright"
    )

    # A slider, reached and moved by keyboard, opens the mouth; the hair hardly cares.
    page.locator(".raf-switch input").first.focus()
    jaw = lesson.tab_to("jawOpen")
    outline = jaw.evaluate(
        "e => [getComputedStyle(e).outlineStyle, parseFloat(getComputedStyle(e).outlineWidth)]"
    )
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
    assert (
        page.locator("input[data-name]").evaluate_all("es => es.map((e) => e.dataset.name).slice(0, 8)")
        == names
    )
    page.keyboard.press("ArrowLeft")
    assert change(lesson.settled(), first) < 0.1

    # A sequence plays, and stops.
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function(
        "Number(document.querySelector('.raf-player fieldset input[max]:not([data-name])').value) > 2"
    )
    page.get_by_role("button", name="Pause").press("Enter")
    assert change(lesson.settled(), first) > 0.1
    page.get_by_role("button", name="Reset expression").click()

    # The keys of the picture are the picture's: in JupyterLab 0 0 restarts the kernel, and arrows change the
    # cell.
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

    lesson.close()
