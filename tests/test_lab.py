"""Every lesson in JupyterLab in a real browser: all cells run, without complaint or outside request; 03 by
click and key."""

import pytest
from conftest import ROOT
from lab import OpenLesson, lab

WHERE_A_ROW_IS_DRAWN = """(row) => {
    const graph = document.querySelector('.js-plotly-plot');
    const layout = graph._fullLayout, points = graph._fullData[0];
    const area = graph.querySelector('.nsewdrag').getBoundingClientRect();
    return [area.left + layout.xaxis.d2p(points.x[row]), area.top + layout.yaxis.d2p(points.y[row])]; }"""

LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with lab(tmp_path_factory, *LESSONS) as open_lab:
        yield open_lab


@pytest.mark.may_skip("needs chromium")
@pytest.mark.parametrize(
    "name",
    # 03 runs whole below, 08 in test_lab_player.py.
    [name for name in LESSONS if not name.startswith(("03", "08"))],
)
def test_every_cell_runs(browser, name):
    lesson = OpenLesson(*browser, name)
    lesson.run_to_the_end()
    lesson.close()


@pytest.mark.may_skip("needs chromium")
def test_the_explorer_by_click_and_by_key(browser):
    lesson = OpenLesson(*browser, "03_the_expression_bank")
    lesson.run_to_the_end()
    page = lesson.page
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    status = page.locator("p[role=status]").first
    pictures = page.locator("div[role=group] img")

    def shown():
        return [image.get_attribute("src") for image in pictures.all()[:7]]

    first, told = shown(), status.text_content()
    assert told.startswith("Row 0 of person")

    # A click where row 5000 is drawn: drawn by WebGL, points are no elements, so the axes say where. While
    # later outputs are laid out the page moves under the pointer, so look again until the point answers.
    for _ in range(60):
        plot.scroll_into_view_if_needed()
        x, y = page.evaluate(WHERE_A_ROW_IS_DRAWN, 5000)
        page.mouse.move(x + 3, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(2_000)
        if page.locator(".hoverlayer .hovertext").is_visible():
            break
    else:
        raise AssertionError("the point under the pointer says nothing")
    page.mouse.click(x, y)
    page.wait_for_function(
        "(told) => document.querySelector('p[role=status]').textContent !== told", arg=told
    )
    clicked, after_click = shown(), status.text_content()
    assert clicked != first and after_click.startswith("Row ")

    # The same by keyboard: the next frame.
    number = page.locator("input[type=number]").first
    before = int(number.input_value())
    number.focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_function(
        "(told) => document.querySelector('p[role=status]').textContent !== told", arg=after_click
    )
    assert int(number.input_value()) == before + 1 and status.text_content().startswith(
        f"Row {before + 1} of"
    )
    assert shown() != clicked

    # The blind test: its first answer by keyboard.
    answer = page.get_by_role("button", name="Face A")
    answer.focus()
    page.keyboard.press("Enter")
    page.get_by_text("1 of 12 answered").wait_for()
    lesson.close()
