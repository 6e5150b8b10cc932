"""The course's site: built once, offline; then its links, its text alternatives, and three of its pages in a
real browser."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from conftest import ROOT
from lab import chromium

pytest.importorskip("myst_nb", reason="the site needs the extra `docs`")
sys.path.insert(0, str(ROOT / "tools"))
_SPEC = importlib.util.spec_from_file_location("build_site", ROOT / "tools" / "build_site.py")
build_site = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(build_site)

LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
MANIFEST = build_site.read_manifest()["lessons"]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The built site. A proxy that nobody listens at makes every attempt to use the network fail."""
    out = tmp_path_factory.mktemp("site") / "site"
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_site.py", "--out", out],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING" not in run.stderr and "ERROR" not in run.stderr
    return out


class Page(HTMLParser):
    """What the tests ask of a page: ids, links, what it loads, headings, pictures, rows of its tables."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.headings, self.pictures, self.rows = set(), [], [], [], [], []
        self.language, self._in_cell = None, False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values["id"]} if "id" in values else set()
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "video", "source") and "src" in values:
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(values["href"])
        if tag in ("img", "iframe", "video") or (tag == "svg" and values.get("role") == "img"):
            self.pictures.append((tag, values.get("alt") or values.get("title") or values.get("aria-label")))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "html":
            self.language = values.get("lang")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, text):
        if self._in_cell:
            self.rows[-1][-1] += text


@pytest.fixture(scope="session")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_every_lesson_has_a_page_in_reading_order(site, pages):
    assert [name for name in sorted(pages) if name.startswith("lessons/")] == [
        f"lessons/{name}.html" for name in LESSONS
    ]
    table = [row for row in pages["lessons.html"].rows if re.match(r"\d\d · ", row[0])]
    assert table == [
        [
            f"{name[:2]} · {MANIFEST[name]['title']}",
            str(MANIFEST[name]["minutes_cpu"]),
            f"{MANIFEST[name]['memory_gb']} GB",
        ]
        for name in MANIFEST
        if name in LESSONS
    ]
    sidebar = (site / "index.html").read_text(encoding="utf-8")
    places = [sidebar.index(f"lessons/{name}.html") for name in LESSONS]
    assert places[1:] == sorted(places[1:])  # the text of the page names the first one too


def test_a_lesson_shows_its_committed_outputs_and_gives_the_notebook_away(site, pages):
    name = LESSONS[0]
    text = (site / "lessons" / f"{name}.html").read_text(encoding="utf-8")
    assert "mode: full" in text and "data:image/jpeg;base64" in text and "NBVAL" not in text
    (download,) = (link for link in pages[f"lessons/{name}.html"].links if link.endswith(".ipynb"))
    assert (site / "lessons" / download).read_bytes() == (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()


def test_formulas_are_mathml(site):
    text = (site / "lessons" / "02_expression_descriptors.html").read_text(encoding="utf-8")
    assert (
        '<math display="block">' in text and "<mfrac>" in text and "\\frac" in text
    )  # the LaTeX stands in the annotation


def test_internal_links_resolve_and_nothing_is_loaded_from_elsewhere(site, pages):
    checked = 0
    for name, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or target.startswith("//"):
                assert target not in page.loads or parts.scheme in ("data", "blob"), f"{name} loads {target}"
                continue
            file = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert file.is_file(), f"{name} links to {target}"
            if parts.fragment and file.suffix == ".html":
                linked = pages[file.resolve().relative_to(site.resolve()).as_posix()]
                assert unquote(parts.fragment) in linked.ids, f"{name} links to {target}"
            checked += 1
    assert checked > 100


def test_pictures_have_alternatives_and_headings_are_in_order(pages):
    for name, page in pages.items():
        assert page.language == "en", name
        for tag, words in page.pictures:
            assert words and len(words) > 2, f"{name} has a {tag} without a text alternative"
        if name == "search.html":
            continue  # its heading is written by a script
        steps = [1, *page.headings]
        assert page.headings[:1] == [1] and page.headings.count(1) == 1, f"{name}: {page.headings}"
        assert all(b <= a + 1 for a, b in zip(steps, steps[1:])), f"{name}: {page.headings}"


# What the pages say has to be so.


def test_timetables_show_the_measured_minutes_and_the_day_has_every_lesson(pages):
    text = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
    plans = re.findall(r"```\{schedule\} (\d+)\n(.*?)```", text, re.S)
    assert [int(total) for total, _ in plans] == [90, 210, 420]
    for total, lines in plans:
        assert sum(int(line.split("|")[0]) for line in lines.splitlines()) == int(total)
    day = re.findall(r"\| (\d\d) \|", plans[-1][1])
    assert day == sorted(set(day)) and {name[:2] for name in MANIFEST} <= set(day)
    rows = [row for row in pages["instructors.html"].rows if len(row) == 5 and row[2].startswith("lesson ")]
    minutes = {f"lesson {name[:2]}": str(lesson["minutes_cpu"]) for name, lesson in MANIFEST.items()}
    assert len(rows) >= 3 and all(row[4] == minutes[row[2]] for row in rows)


def test_the_errors_that_teachers_are_told_of_are_those_of_the_package():
    templates = [(ROOT / "tools" / "setup.sh").read_text(encoding="utf-8")]
    for path in (ROOT / "raf_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                templates.append(
                    "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                templates.append(node.value)
    table = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8").split("## Common errors")[1]
    messages = re.findall(r"^\| `(.*?)` \|", table, re.M)
    assert len(messages) > 10
    for message in messages:
        if message.startswith("ModuleNotFoundError"):
            continue  # Python's own
        pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.S)
        assert any(pattern.search(template) for template in templates), message


def test_the_glossary_points_to_where_its_words_are_used():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- \*\*(.+?)\*\*:\s(.+?)\s\*See\*\s(.+?)\.$", text.replace("\n  ", " "), re.M)
    assert len(entries) == text.count("\n- ") > 40
    for term, sentence, where in entries:
        assert sentence.endswith(".") and ". " not in sentence, f"{term}: one sentence"
        words = [word for part in re.split(r"[,()]", term) if (word := part.strip().lower())]
        for target in re.findall(r"\(([^)]+)\)", where):
            path = ROOT / "docs" / target
            if path.is_file():  # a lesson may still be written
                page = path.read_text(encoding="utf-8")
                if path.suffix == ".ipynb":
                    page = " ".join("".join(cell["source"]) for cell in json.loads(page)["cells"])
                assert any(word.removesuffix("s") in page.lower() for word in words), (
                    f"{term} is not in {target}"
                )
        for module in re.findall(r"`raf_lite\.(\w+)", where):
            room = ROOT / "raf_lite" / module
            files = room.rglob("*.py") if room.is_dir() else [room.with_suffix(".py")]
            code = " ".join(file.read_text(encoding="utf-8") for file in files).lower()
            assert any(word.removesuffix("s").split(" ")[0].split("-")[0] in code for word in words), (
                f"{term} is not in {room}"
            )


def test_links_of_the_docs_lead_to_files():
    for path in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            lesson = re.fullmatch(r"\.\./notebooks/(\w+)\.ipynb", target)
            coming = lesson and not any(name.startswith(lesson[1][:2]) for name in LESSONS)
            assert re.match("[a-z]+:", target) or (path.parent / target).is_file() or coming, (
                f"{path.name}: {target}"
            )


def test_readme_names_the_command():
    assert "make site" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(
        r"^site: setup\n\t@\$\(BIN\)/python tools/build_site.py$", (ROOT / "Makefile").read_text(), re.M
    )


# How a file of the repository becomes a page.


def test_links_and_pictures_of_a_lesson_become_the_sites_own(monkeypatch):
    source = (
        "[a](00_start_here.ipynb) [b](../docs/evidence.md#why) [c](../examples/README.md)"
        " [d](https://x.org/y) [e](#here) `g[0](x)`"
        " [![Open](https://colab.org/badge.svg)](https://colab.org/z)"
        " [f](../benchmarks/results/study/report.md)"
    )
    path = "notebooks/01_captures_and_cameras.ipynb"
    wanted = (
        "[a](00_start_here.ipynb) [b](../evidence.md#why) {} [d](https://x.org/y) [e](#here) `g[0](x)` "
        '[Open](https://colab.org/z) <a href="../study_report.html">f</a>'
    )
    monkeypatch.setattr(build_site, "read_manifest", lambda: {"repository": ""})
    assert build_site.site_markdown(source, path) == wanted.format("c")
    monkeypatch.setattr(build_site, "read_manifest", lambda: {"repository": "https://github.com/o/n"})
    assert build_site.site_markdown(source, path) == wanted.format(
        "[c](https://github.com/o/n/blob/main/examples/README.md)"
    )


def test_widgets_become_a_sentence_and_progress_bars_go(tmp_path, monkeypatch):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
    outputs = [
        nbformat.v4.new_output(
            "display_data", widget | {"text/plain": "training:   0%|          | 0/9 [00:00<?, ?it/s]"}
        ),
        nbformat.v4.new_output("display_data", widget | {"text/plain": "No widgets here"}),
        nbformat.v4.new_output("display_data", {"text/html": "<b>kept</b>"}),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# 99 · Title"), nbformat.v4.new_code_cell("1", outputs=outputs)]
    )
    nbformat.write(notebook, tmp_path / "99_x.ipynb")
    monkeypatch.setattr(build_site, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(build_site, "places", lambda: {"notebooks/99_x.ipynb": "lessons/99_x.ipynb"})
    note, kept = build_site.site_notebook("99_x").cells[2].outputs
    assert (
        "interactive widget" in note.data["text/html"] and 'href="../player.html"' in note.data["text/html"]
    )
    assert (
        "application/vnd.jupyter.widget-view+json" not in note.data
        and kept.data["text/html"] == "<b>kept</b>"
    )


# In a real browser.


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


class Visit:
    """A page in the browser, with what it complained about and what it asked others for."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints, self.outside = [], []
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else self.outside.append(r.url),
        )
        self.page.goto(path.as_uri())

    def close(self):
        self.page.close()
        assert self.outside == []
        assert [text for text in self.complaints if "GPU stall due to ReadPixels" not in text] == []


@pytest.mark.may_skip("needs chromium")
@pytest.mark.parametrize("name", ["index.html", f"lessons/{LESSONS[0]}.html", "instructors.html"])
def test_pages_in_a_browser(browser, site, name):
    """No complaint, no request, nothing wider than a phone, and the keyboard's first stop leads past the
    menu."""
    for width, scheme in ((1280, "light"), (390, "dark")):
        visit = Visit(browser, site / name, width, scheme)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent").strip() == "Skip to content"
        inks = visit.page.evaluate(
            """() => ["color", "backgroundColor"].map((kind) => getComputedStyle(document.body)[kind]
            .match(/\\d+/g).slice(0, 3).reduce((sum, v) => sum + Number(v), 0))"""
        )
        assert (inks[0] > inks[1]) == (scheme == "dark")  # light on dark there, dark on light here
        visit.close()


@pytest.mark.may_skip("needs chromium")
def test_search_works_from_disk(browser, site):
    visit = Visit(browser, site / "search.html")
    visit.page.goto((site / "search.html").as_uri() + "?q=leakage")
    visit.page.wait_for_selector("#search-results li a")
    assert any(
        "02_expression" in a.get_attribute("href")
        for a in visit.page.query_selector_all("#search-results li a")
    )
    visit.close()


@pytest.mark.may_skip("needs chromium")
def test_the_player_plays_on_its_page(browser, site):
    visit = Visit(browser, site / "player.html")
    frame = visit.page.wait_for_selector("iframe.player")
    frame.scroll_into_view_if_needed()
    inside = frame.content_frame()
    inside.wait_for_selector("canvas", timeout=60_000)
    names = [label.inner_text().strip() for label in inside.query_selector_all(".raf-switch label")]
    assert names == ["baseline", "centred"]
    assert "driver 101, EMO-1-shout+laugh" in inside.inner_text("body")
    assert inside.inner_text("#error") == ""
    visit.close()


@pytest.mark.may_skip("needs chromium")
def test_a_figure_is_drawn_without_the_network(browser, tmp_path):
    go = pytest.importorskip("plotly.graph_objects")
    from plotly.offline import get_plotlyjs

    figure = json.loads(go.Figure(go.Scatter(x=[1, 2], y=[3, 4], mode="markers")).to_json())
    output = build_site.site_output(
        nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": figure})
    )
    for folder in ("_static", "lessons"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_static" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    page = tmp_path / "lessons" / "x.html"
    page.write_text("<!doctype html><meta charset=utf-8>" + output.data["text/html"], encoding="utf-8")
    visit = Visit(browser, page)
    visit.page.wait_for_selector("path.point")
    assert len(visit.page.query_selector_all("path.point")) == 2
    visit.close()
