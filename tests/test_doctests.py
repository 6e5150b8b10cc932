"""Examples in docstrings and on the page of conventions: what they print is what they say."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from conftest import ROOT

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                 for path in (ROOT / "raf_lite").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def printed_as_usual():
    """Packages that other tests import change how arrays are printed."""
    with np.printoptions(legacy=False, sign="-", precision=8, suppress=False):
        yield


def test_examples_in_docstrings():
    results = {name: doctest.testmod(importlib.import_module(name), optionflags=OPTIONS) for name in MODULES}
    assert not [name for name, result in results.items() if result.failed or not result.attempted]


def test_the_page_of_conventions():
    result = doctest.testfile(str(ROOT / "docs" / "conventions.md"), module_relative=False, optionflags=OPTIONS, encoding="utf-8")
    assert result.attempted > 15 and not result.failed
