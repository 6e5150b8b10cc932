"""What every lesson must have on disk; that its cells run and give what they gave is nbval's part of `make
test`."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import raf_lite

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_SPEC = importlib.util.spec_from_file_location("course", ROOT / "tools" / "course.py")
course = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(course)
MARKER = "# NBVAL_CHECK_OUTPUT"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def cells(notebook, kind):
    return [
        cell | {"text": "".join(cell["source"])} for cell in notebook["cells"] if cell["cell_type"] == kind
    ]


def outputs(notebook):
    """Every piece of HTML or text that a committed output shows."""
    for cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            for kind, value in (output.get("data") or {"text/plain": output.get("text", "")}).items():
                yield kind, "".join(value)


def test_there_are_lessons():
    assert [path.stem for path in NOTEBOOKS] == course.sources() == list(course.read_manifest()["lessons"])


@pytest.mark.parametrize("solved", [False, True])
def test_both_versions_are_those_of_the_source(notebook, request, solved):
    """`python tools/course.py` writes them; outputs aside, nothing may have been changed by hand."""
    name = request.node.callspec.id.split("-")[0]
    kept = json.loads(course.target(name, solved).read_text(encoding="utf-8"))
    built = course.build(name, solved)
    assert [(c["cell_type"], "".join(c["source"])) for c in kept["cells"]] == [
        (c.cell_type, c.source) for c in built.cells
    ]


def test_exercises(notebook, request):
    """At least two, each checked in the very next cell, with a hint and its solution folded; learners get no
    solution's code."""
    code = cells(notebook, "code")
    asked = [k for k, cell in enumerate(code) if "exercise" in cell["metadata"].get("tags", [])]
    assert len(asked) >= 2
    for number, k in enumerate(asked, start=1):
        assert "raise NotImplementedError" in code[k]["text"]
        assert f"raf_lite.exercise({number})" in code[k + 1]["text"] and code[k + 1]["text"].startswith(
            MARKER
        )
        shown = "".join("".join(o.get("text", "")) for o in code[k + 1]["outputs"])
        assert shown == f"Exercise {number}: not written yet; the lesson goes on without it\n"
    text = "\n".join(cell["text"] for cell in cells(notebook, "markdown"))
    assert len(re.findall(r"### Exercise \d · .+ \((easy|medium|hard), \d+ minutes\)", text)) == len(asked)
    assert (
        text.count("<details><summary>Solution</summary>")
        == len(asked)
        <= text.count("<details><summary>Hint")
    )
    solved = course.build(request.node.callspec.id, True)
    assert "NotImplementedError" not in "".join(
        cell.source for cell in solved.cells if cell.cell_type == "code"
    )


def test_the_check_under_an_exercise(capsys):
    with raf_lite.exercise(1):
        raise NotImplementedError
    with raf_lite.exercise(2):
        pass
    assert (
        capsys.readouterr().out
        == "Exercise 1: not written yet; the lesson goes on without it\nExercise 2: passed\n"
    )
    with pytest.raises(AssertionError, match="wrong"), raf_lite.exercise(3):
        raise AssertionError("wrong")


def test_cards_say_what_the_manifest_says(notebook, request):
    lesson = course.read_manifest()["lessons"][request.node.callspec.id]
    card = cells(notebook, "markdown")[0]["text"]
    assert (
        f"about {lesson['minutes_cpu']} minute" in card
        and f"{lesson['memory_gb']} GB" in card
        and lesson["download"] in card
    )
    assert f"minutes_cpu={lesson['minutes_cpu']})" in cells(notebook, "code")[0]["text"]
    assert lesson["minutes_cpu"] <= 8 and lesson["seconds_fast"] <= 80
    assert sum(other["minutes_cpu"] for other in course.read_manifest()["lessons"].values()) <= 32


def test_links_to_other_lessons_resolve(notebook):
    for cell in cells(notebook, "markdown"):
        for link in re.findall(r"\]\(([^)#]+\.ipynb)\)", cell["text"]):
            assert (ROOT / "notebooks" / link).is_file() or link.startswith("https://"), link


def test_committed_executed_without_errors_and_small(notebook, request):
    path = course.target(request.node.callspec.id, False)
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
        assert kind not in ("image/png", "image/jpeg"), (
            "show pictures with raf_lite.viewing, which adds an alternative"
        )
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
    assert all(len(cell["text"].splitlines()) <= 40 for cell in code), (  # as the formatter lays it out
        "a cell longer than a screen belongs in the package"
    )
