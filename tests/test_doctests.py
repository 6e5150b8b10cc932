"""Examples in docstrings and on the page of conventions: what they print is what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re

import numpy as np
import pytest
from conftest import ROOT

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "raf_lite").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


ROOMS = (
    "raf_lite",
    *(f"raf_lite.{path.parent.name}" for path in sorted((ROOT / "raf_lite").glob("*/__init__.py"))),
)
# They need a notebook, a browser or minutes; or are made by a function of theirs, whose example shows them.
WITHOUT = {
    "show_figure",
    "show_strip",
    "show_video",
    "write_report",
    "comparison_video",
    "drive_video",
    "mirror",
    "BlindTest",
    "Explorer",
    "LiveTraining",
    "Mirror",
    "Player",
    "Trial",
    "Webcam",
    "PackedAvatar",
    "PlacedGaussians",
    "SearchResult",
    "Replacements",
    "Session",
    "Effect",
    "long_table",
    "write_study_report",
    "player_script",
    "face_landmarker_path",
    "VideoDetections",
    "report",
}


@pytest.fixture(autouse=True)
def printed_as_usual(tmp_path, monkeypatch):
    """In a folder of its own, where examples write; packages that other tests import change how arrays are
    printed."""
    monkeypatch.chdir(tmp_path)
    with np.printoptions(legacy=False, sign="-", precision=8, suppress=False):
        yield


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_offered_has_an_example(room):
    face = importlib.import_module(room)
    offered = {name: getattr(face, name) for name in getattr(face, "__all__", ())}
    assert not [
        name
        for name, thing in offered.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and name not in WITHOUT
        and not has_example(thing)
    ]


def has_example(thing):
    parts = [thing, *vars(thing).values()] if inspect.isclass(thing) else [thing]
    return any(">>> " in (inspect.getdoc(part) or "") for part in parts)


def test_docstrings_name_sections_that_the_page_of_conventions_has():
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8"), re.M)
    sections = {re.sub(r"[^\w ]", "", heading).lower().replace(" ", "-") for heading in headings}
    named = [
        (path.name, name)
        for path in (ROOT / "raf_lite").rglob("*.py")
        for name in re.findall(r"docs/conventions\.md#([\w-]+)", path.read_text(encoding="utf-8"))
    ]
    assert len(named) > 20 and not [(file, name) for file, name in named if name not in sections]


def test_the_page_of_conventions():
    result = doctest.testfile(
        str(ROOT / "docs" / "conventions.md"), module_relative=False, optionflags=OPTIONS, encoding="utf-8"
    )
    assert result.attempted > 15 and not result.failed
