"""What every lesson must have on disk; that its cells run and give what they gave is nbval's part of `make test`."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MARKER = "# NBVAL_CHECK_OUTPUT"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def cells(notebook, kind):
    return [cell | {"text": "".join(cell["source"])} for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(notebook):
    """Every piece of HTML or text that a committed output shows."""
    for cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            for kind, value in (output.get("data") or {"text/plain": output.get("text", "")}).items():
                yield kind, "".join(value)


def test_there_are_lessons():
    assert NOTEBOOKS


def test_committed_executed_without_errors_and_small(notebook, request):
    path = ROOT / "notebooks" / f"{request.node.callspec.id}.ipynb"
    assert path.stat().st_size <= 1_000_000
    assert "widgets" not in notebook["metadata"]  # the state of widgets can be megabytes
    for number, cell in enumerate(cells(notebook, "code"), start=1):
        assert cell["execution_count"] == number, "run all cells in order, in full mode, before committing"
        assert all(output["output_type"] != "error" for output in cell["outputs"])


def test_checked_facts_have_an_output(notebook):
    """nbval compares nothing where the committed cell has no output."""
    checked = [cell for cell in cells(notebook, "code") if cell["text"].startswith(MARKER)]
    assert len(checked) >= 5
    for cell in checked:
        assert any(output.get("text") or output.get("data") for output in cell["outputs"]), cell["text"]


def test_committed_in_full_mode_and_without_paths_of_a_machine(notebook):
    shown = list(outputs(notebook))
    assert any("mode: full" in text for _, text in shown)
    for _, text in shown:
        assert not re.search(r"/(root|home|work|Users|tmp)/", text), text[:200]


def test_pictures_have_alternatives(notebook):
    for kind, text in outputs(notebook):
        assert kind not in ("image/png", "image/jpeg"), "show pictures with raf_lite.viewing, which adds an alternative"
        for tag in re.findall(r"<(?:img|video|svg)\b[^>]*>", text):
            assert re.search(r'(alt|aria-label)="[^"]{3,}"', tag), tag[:80]
    for cell in cells(notebook, "markdown"):
        assert not re.search(r"!\[\]\(", cell["text"])


def test_anatomy(notebook):
    """One claim, a card, one short set-up cell, predictions, a quiz that explains, a recap."""
    text, code = cells(notebook, "markdown"), cells(notebook, "code")
    assert re.match(r"# \d\d · \w", text[0]["text"]) and "By the end you will have shown" in text[0]["text"]
    for row in ("**You will**", "**You need**", "**Time**", "**Download**"):
        assert row in text[0]["text"]
    assert "raf_lite.setup(" in code[0]["text"] and len(code[0]["text"].splitlines()) <= 6
    assert sum("raf_lite.setup(" in cell["text"] for cell in code) == 1
    whole = "\n".join(cell["text"] for cell in text)
    assert whole.count("**Predict:**") >= 2 and "## Recap" in whole and "**Next:**" in whole
    answers = re.findall(r"<details><summary>.*?</summary>(.*?)</details>", whole, re.S)
    assert len(answers) >= 3 and all(len(answer.split()) >= 10 for answer in answers)
    assert all(len(cell["text"].splitlines()) <= 25 for cell in code), "a cell longer than a screen belongs in the package"
