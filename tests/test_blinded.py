"""The blind test: fair questions, nothing that gives the answer away, answers that survive a kill, and honest
counting."""

import re

import numpy as np
import pytest
from scipy import stats

from raf_lite.bank import ExpressionBank
from raf_lite.widgets.blinded import (
    BlindTest,
    Trial,
    analyse,
    append_answer,
    draw_trials,
    read_answers,
    simulate,
)


@pytest.fixture(scope="module")
def bank(data_dir):
    return ExpressionBank.load(data_dir / "bank", "blendshapes")


@pytest.fixture(scope="module")
def trials(bank):
    return draw_trials(bank, 60, np.random.default_rng(0))


def test_questions_are_fair(bank, trials):
    sides = [t.nearest_side for t in trials]
    assert 15 < sides.count("A") < 45
    assert len({t.query for t in trials}) == len(trials)
    for t in trials:
        people = [bank.donors[r] for r in (t.query, t.nearest, t.random)]
        assert len(set(people)) == 3 and not bank.neutral[t.query]
        distance = np.linalg.norm(bank.descriptors[bank.thumbnail_rows] - bank.descriptors[t.query], axis=1)
        distance[bank.donors[bank.thumbnail_rows] == people[0]] = np.inf
        assert bank.thumbnail_rows[distance.argmin()] == t.nearest
        assert t.shown == ((t.nearest, t.random) if t.nearest_side == "A" else (t.random, t.nearest))
    centred = draw_trials(bank, 60, np.random.default_rng(0), centred=True)
    assert [t.query for t in centred][0] == trials[0].query and any(
        a.nearest != b.nearest for a, b in zip(centred, trials)
    )
    with pytest.raises(ValueError, match="99999 questions were asked for"):
        draw_trials(bank, 99999, np.random.default_rng(0))
    with pytest.raises(ValueError, match="fewer than three people"):
        draw_trials(
            ExpressionBank.from_arrays(bank.descriptors[:9], bank.donors[:9]), 1, np.random.default_rng(0)
        )


def page(test):
    """Everything that the browser is given, without the pictures' bytes."""
    state = [w.get_state() for w in (test, test.question, test.status, *test.buttons)]
    text = re.sub(
        r"IPY_MODEL_\w+",
        "",
        repr([{k: v for k, v in s.items() if not k.startswith("_model_id")} for s in state]),
    )
    return re.sub(r"base64,[^\"]+", "", text)


def test_nothing_gives_the_answer_away(bank, trials, tmp_path):
    """The page is the same to the letter whichever side the nearest row is on, and whichever rows they
    are."""
    t = trials[0]
    other = Trial(trials[1].query, t.random, t.nearest, {"A": "B", "B": "A"}[t.nearest_side])
    pages = [page(BlindTest(bank, [x], "me", tmp_path / "none.csv")) for x in (t, other)]
    pages = [re.sub(r"height=\"\d+\"|max-width:\d+px", "", p) for p in pages]
    assert pages[0] == pages[1] and "nearest" not in pages[0] and str(t.nearest) not in pages[0]


def test_buttons_write_at_once_and_the_same_rater_goes_on(bank, trials, tmp_path):
    path = tmp_path / "answers" / "a.csv"
    test = BlindTest(bank, trials[:3], "Ana, 1", path)
    first = test.question.value
    test.buttons[0].click()
    assert (
        test.question.value != first
        and "1 of 3 answered" in test.status.value
        and 'aria-live="polite"' in test.status.value
    )
    answers = read_answers(path)
    assert answers[["rater", "trial", "answer"]].to_numpy().tolist() == [["Ana, 1", 0, "A"]]
    assert (
        answers["nearest_side"][0] == trials[0].nearest_side and int(answers["query"][0]) == trials[0].query
    )
    again = BlindTest(bank, trials[:3], "Ana, 1", path)
    assert again.number == 1 and BlindTest(bank, trials[:3], "Ben", path).number == 0
    again.buttons[1].click()
    again.buttons[1].click()
    assert all(b.disabled for b in again.buttons) and "last question" in again.question.value
    again.buttons[0].click()  # nothing more is written
    assert read_answers(path)["answer"].tolist() == ["A", "B", "B"]


def test_a_torn_line_is_dropped_and_other_files_are_refused(bank, trials, tmp_path):
    path = tmp_path / "a.csv"
    for k in range(2):
        append_answer(path, "x", k, trials[k], "A", 1.0)
    whole = path.read_bytes()
    path.write_bytes(whole + b"x,2,17,4")
    assert len(read_answers(path)) == 2
    append_answer(path, "x", 2, trials[2], "B", 1.0)
    assert path.read_bytes().startswith(whole) and read_answers(path)["trial"].tolist() == [0, 1, 2]
    path.write_bytes(whole.replace(b",A,", b",C,", 1) if b",A," in whole else whole)
    with pytest.raises(ValueError, match="a.csv, line 2 is damaged"):
        read_answers(path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for broken in (
        lambda: read_answers(other),
        lambda: append_answer(other, "x", 0, trials[0], "A", 1.0),
        lambda: BlindTest(bank, trials, "x", other),
    ):
        with pytest.raises(ValueError, match="other.csv does not hold answers of the blind test"):
            broken()
    assert other.read_text() == "a,b\n1,2\n"
    with pytest.raises(FileNotFoundError, match="no answers at"):
        read_answers(tmp_path / "none.csv")
    for name in ("", " ", "simulated me", "two\nlines"):
        with pytest.raises(ValueError, match="rater"):
            BlindTest(bank, trials, name, path)


def test_counting_by_hand(trials, tmp_path):
    def answered(name, right, wrong):
        for k, t in enumerate(trials[: right + wrong]):
            other = {"A": "B", "B": "A"}[t.nearest_side]
            append_answer(tmp_path / f"{name}.csv", name, k, t, t.nearest_side if k < right else other, 1.0)
        return tmp_path / f"{name}.csv"

    one = analyse(answered("one", 9, 1))
    assert one.loc["one", "nearest"] == 0.9 and list(one.index) == ["one"]
    assert one.loc["one", "p"] == pytest.approx(2 * 11 / 1024)  # 9 or 10 of 10 heads, or 0 or 1
    assert one.loc["one", "low"] == pytest.approx(stats.beta.ppf(0.025, 9, 2))
    assert one.loc["one", "high"] == pytest.approx(stats.beta.ppf(0.975, 10, 1))
    simulate(trials, tmp_path / "sim.csv", "coin", 0.5, np.random.default_rng(0))
    table = analyse(
        tmp_path / "one.csv", answered("two", 5, 5), answered("three", 7, 3), tmp_path / "sim.csv"
    )
    assert table.loc["all answers of people", ["answers", "nearest"]].tolist() == [30, 0.7]
    assert table.loc["mean over people", "nearest"] == pytest.approx(0.7)
    assert table.loc["mean over people", "high"] - 0.7 == pytest.approx(4.3027 * 0.2 / np.sqrt(3), abs=1e-4)
    assert list(table.index)[:4] == ["one", "two", "three", "simulated coin"]


def test_simulated_raters(trials, tmp_path):
    many = trials * 5
    simulate(many, tmp_path / "s.csv", "coin", 0.5, np.random.default_rng(1))
    simulate(many, tmp_path / "s.csv", "sharp eye", 0.9, np.random.default_rng(1))
    table = analyse(tmp_path / "s.csv")
    assert table.loc["simulated coin", "low"] < 0.5 < table.loc["simulated coin", "high"]
    assert table.loc["simulated sharp eye", "low"] > 0.8 and len(table) == 2  # in no sum
    (tmp_path / "empty.csv").write_text("rater,trial,query,nearest,random,nearest_side,answer,seconds,time\n")
    with pytest.raises(ValueError, match="nobody has answered yet"):
        analyse(tmp_path / "empty.csv")
