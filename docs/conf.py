"""Sphinx settings of the course's site. `make site` builds it; tools/build_site.py lays out what Sphinx
reads."""

import re
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

import raf_lite

project = "raf_lite"
author = "The raf_lite authors"
copyright = author + "; text and code Apache-2.0, data CC BY 4.0"
version = release = raf_lite.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc"]
nb_execution_mode = "off"  # pages show the committed outputs
nb_merge_streams = True
nb_ipywidgets_js = {}  # would come from the network; build_site.py puts a sentence where a widget stood
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["notebooks", "pages"]
autodoc_member_order = "bysource"
html_math_renderer = "mathml"

html_theme = "furo"
html_title = "Retrieval-Augmented Faces"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["pages"]  # whole HTML pages: the player, the study's report
html_show_sphinx = False
html_copy_source = False
html_use_index = html_domain_indices = False
html_show_search_summary = (
    False  # is fetched page by page, which browsers refuse where the site is opened from disk
)
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

_HERE = Path(__file__).parent
LESSONS = {
    name: lesson
    for name, lesson in tomllib.loads((_HERE / "notebooks" / "manifest.toml").read_text(encoding="utf-8"))[
        "lessons"
    ].items()
    if (_HERE / "lessons" / f"{name}.ipynb").is_file()
}
_to_mathml = LatexToMathML(annotation=True, fancy_error=False)


class Generated(Directive):
    """A directive whose content becomes Markdown that is parsed in its place."""

    has_content = True

    def parse(self, lines):
        box = nodes.container()
        self.state.nested_parse(
            StringList(lines, self.state.document.current_source), self.content_offset, box
        )
        return [box]


class Lessons(Generated):
    """The table of lessons, with minutes and needs from notebooks/manifest.toml."""

    def run(self):
        lines = ["| lesson | minutes | memory |", "|---|--:|--:|"]
        for name, lesson in LESSONS.items():
            lines.append(
                f"| [{name[:2]} · {lesson['title']}](/lessons/{name}.ipynb) | {lesson['minutes_cpu']} | "
                f"{lesson['memory_gb']} GB |"
            )
        return self.parse(lines)


class Schedule(Generated):
    """A timetable. Argument: its minutes. Each line: `minutes | lesson's number or - | what happens`; `#`
    begins a comment.

    Adds the time from the start, and how long the notebook itself computes, from notebooks/manifest.toml. A
    lesson that is not written yet stands there by its number alone.
    """

    required_arguments = 1

    def run(self):
        lines = ["| from | minutes | lesson | what happens | computes |", "|--:|--:|---|---|--:|"]
        clock, computing = 0, 0
        for line in self.content:
            minutes, number, what = (part.strip() for part in line.split("|"))
            found = [name for name in LESSONS if name.startswith(number + "_")]
            busy = LESSONS[found[0]]["minutes_cpu"] if found else 0
            if busy > int(minutes):
                raise self.error(
                    f"lesson {number} computes for {busy} minutes and the schedule gives it {minutes}"
                )
            lesson = f"[lesson {number}](/lessons/{found[0]}.ipynb)" if found else number.strip("-")
            lines.append(
                f"| {clock // 60}:{clock % 60:02} | {minutes} | {lesson} | {what} | {busy if found else ''} |"
            )
            clock, computing = clock + int(minutes), computing + busy
        if clock != int(self.arguments[0]):
            raise self.error(f"the lines of the schedule make {clock} minutes and not {self.arguments[0]}")
        return self.parse(
            [*lines, "", f"Together {clock} minutes, of which notebooks compute for {computing}."]
        )


def _mathml(self, node, displaystyle):
    """MathML needs no script, no font and no network, and screen readers read it."""
    try:
        self.body.append(_to_mathml.convert_with_local_state(node.astext(), displaystyle=displaystyle))
    except LatexError as error:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def _plain_docstring(app, what, name, obj, options, lines):
    """Our docstrings are plain text with `code` in it, where indented lines keep their places; escape the
    rest but examples, and link to sections of the page of conventions."""

    def link(section):
        return f"`{section[1].replace('-', ' ')} <conventions.html#{section[1]}>`__"

    def plain(paragraph):
        parts = re.split(r"(`[^`]+`)", paragraph)
        text = "".join(
            f"`{part}`" if k % 2 else re.sub(r"([\\*_|`])", r"\\\1", part) for k, part in enumerate(parts)
        )
        text = re.sub(r"docs/conventions\.md#([\w-]+)", link, text)
        return re.sub("^", "| ", text, flags=re.M) if re.search(r"\n +", text) else text

    paragraphs = re.split(r"\n\n+", "\n".join(lines).strip())
    lines[:] = "\n\n".join(p if p.startswith(">>>") else plain(p) for p in paragraphs).split("\n")


def setup(app):
    app.add_html_math_renderer(
        "mathml",
        (lambda self, node: _mathml(self, node, False), None),
        (lambda self, node: _mathml(self, node, True), None),
    )
    app.add_directive("lessons", Lessons)
    app.add_directive("schedule", Schedule)
    app.connect("autodoc-process-docstring", _plain_docstring)
