"""Names are data: whatever people are called, pages, tables, archives and terminals show it and do not obey
it."""

import re
from html.parser import HTMLParser

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from raf_lite import cli
from raf_lite._names import clean_name, file_name
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank, encode_thumbnail
from raf_lite.captures.submission import video_name
from raf_lite.export import write_player
from raf_lite.viewing.report import write_report
from raf_lite.widgets import BlindTest, Explorer, Search, Trial, analyse, simulate
from raf_lite.widgets.blinded import read_answers
from raf_lite.widgets.explorer import static_explorer

MARKUP = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1)//",
    "</title><b>bold</b>",
    "a&lt;b",
    "$title ${script}",
]
UNSEEN = ["", "  ", "a\nb", "a\rb", "\u202egnp.exe", "a\x00b", "a\x1b[2Jb", "a\u2028b", "x" * 101]
FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", "\t=1+1"]


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.handlers, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def hostile_bank():
    rng = np.random.default_rng(0)
    return ExpressionBank.from_arrays(
        rng.normal(size=(60, 52)).astype("f4"),
        np.repeat(MARKUP, 10),
        descriptor="blendshapes",
        thumbnails={row: encode_thumbnail(np.zeros((8, 8, 3), np.uint8)) for row in range(60)},
    )


def html_of(widget):
    own = [widget.value] if isinstance(widget, ipywidgets.HTML) else []
    return own + [value for child in getattr(widget, "children", ()) for value in html_of(child)]


def test_donors_in_the_explorer():
    search = Search(hostile_bank())
    explorer = Explorer(search, "pca")
    for row in (0, 25, 45):
        explorer.select(row)
        page = Tags("".join(html_of(explorer)))
        assert not {"script", "b", "title"} & set(page.tags) and not page.handlers
        assert f"person {search.bank.donors[row]}" in page.text
    assert not [
        text for text in explorer.figure.data[0].text if "<" in text
    ]  # plotly takes hover texts for markup
    page = Tags(static_explorer(search, "pca"))
    assert not {"script", "b", "title"} & set(page.tags) and not page.handlers


def test_names_in_a_report_and_in_a_player(tmp_path):
    index = pd.MultiIndex.from_tuples([(name, name) for name in MARKUP])
    table, change = (
        pd.DataFrame({"psnr": np.ones(6)}, index=index),
        pd.DataFrame({"mae_face %": np.ones(6)}, index=index),
    )
    write_report(
        tmp_path / "report.html",
        table,
        change,
        {"size": 1, **{name: name for name in MARKUP}},
        tmp_path / 'v"#1.mp4',
        [(np.zeros((8, 8, 3), np.uint8), name) for name in MARKUP],
        notes=MARKUP,
    )
    page = Tags((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (
        "script" not in page.tags
        and "b" not in page.tags
        and not page.handlers
        and page.tags.count("img") == len(MARKUP)
    )
    assert 'src="v%22%231.mp4"' in (tmp_path / "report.html").read_text(encoding="utf-8")

    avatar = GaussianAvatar.load(ROOT / "data/checkpoints/001-centred.safetensors")
    plain, named = tmp_path / "plain.html", tmp_path / "named.html"
    moving = np.tile(avatar.descriptor_mean.numpy(), (3, 1))
    write_player({"a": avatar}, plain, sequences={"b": moving})
    write_player({MARKUP[0]: avatar}, named, sequences={name: moving for name in MARKUP}, title=MARKUP[3])
    assert Tags(named.read_text(encoding="utf-8")).tags == Tags(plain.read_text(encoding="utf-8")).tags


@pytest.mark.parametrize("name", UNSEEN)
def test_names_that_cannot_be_seen_are_refused(name, tmp_path):
    with pytest.raises(
        ValueError, match="a donor cannot be named .*; give 1 to 100 characters that can be seen"
    ):
        ExpressionBank.from_arrays(np.eye(2, 4), [name, "bo"])
    with pytest.raises(ValueError, match="a rater cannot be named"):
        BlindTest(hostile_bank(), [], name, tmp_path / "answers.csv")
    with pytest.raises(ValueError, match="cannot be named"):
        file_name(name, "a sequence")


@pytest.mark.parametrize("name", [*FORMULAS, "simulated bob", " Simulated", "SIMULATED"])
def test_raters_are_no_formulas_and_no_machines(name, tmp_path):
    with pytest.raises(ValueError, match="rater"):
        BlindTest(hostile_bank(), [], name, tmp_path / "answers.csv")


def test_names_are_stripped_before_they_are_compared(tmp_path):
    bank = ExpressionBank.from_arrays(np.eye(4, 4), [" ann", "ann ", "Rene\u0301", "Ren\u00e9"])
    assert bank.donors.tolist() == ["ann", "ann", "Ren\u00e9", "Ren\u00e9"]
    assert bank.search(np.eye(4, 4, dtype="f4")[:1], 1, ("ann",)).rows[0, 0] in (2, 3)
    path = tmp_path / "answers.csv"
    simulate([Trial(0, 1, 2, "A")], path, "coin", 0.5, np.random.default_rng(0))
    path.write_text(
        path.read_text().replace("simulated coin", " Simulated coin")
    )  # as another program may save it
    assert read_answers(path)["rater"].tolist() == ["Simulated coin"]
    assert "mean over people" not in analyse(path).index and analyse(path)["answers"].sum() == 1


@pytest.mark.parametrize("name", ["../../x", "/etc", "a/b", "a\\b", "C:x", "..", ".hidden", "a?", "con*"])
def test_names_stay_inside_an_archive(name):
    for sequence, serial in ((name, "1"), ("FREE", name)):
        with pytest.raises(ValueError, match="cannot be named .* files are named by it"):
            video_name(1, sequence, serial)
    assert video_name(1, "EMO-1-shout+laugh", "222200037") == "001/EMO-1-shout+laugh/cam_222200037.mp4"


def test_a_terminal_is_not_driven_by_a_name(capsys):
    assert cli.main(["check", "no\x1b[2J\x07such"]) == 2
    said = capsys.readouterr().err
    assert "\\x1b[2J\\x07such" in said and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)


def test_a_name_of_any_script_stays_as_it_is():
    for name in ("Ann", "José", "李雷", "أحمد", "Ана", "O'Neil, 2nd (left)"):
        assert clean_name(f" {name}\t", "x") == name
