"""A blind test of retrieval: which of two faces makes the same expression as a third? Answers stay in a file
on this machine.

The classroom's version of the paper's user study. One of the two is the nearest row of the bank, the other a
random one; sides are shuffled, and nothing on the page tells which is which.
"""

from __future__ import annotations

import csv
import html
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from scipy import stats

from raf_lite._names import clean_name
from raf_lite.bank import ExpressionBank
from raf_lite.viewing.figures import strip_html

COLUMNS = ("rater", "trial", "query", "nearest", "random", "nearest_side", "answer", "seconds", "time")
SIDES = ("A", "B")
SIMULATED = "simulated"


@dataclass(frozen=True)
class Trial:
    """One question: rows of a bank, and the side ("A" or "B") on which the nearest one stands."""

    query: int
    nearest: int
    random: int
    nearest_side: str

    @property
    def shown(self) -> tuple[int, int]:
        """The rows on the sides A and B."""
        return (self.nearest, self.random) if self.nearest_side == "A" else (self.random, self.nearest)


def draw_trials(
    bank: ExpressionBank, count: int, rng: np.random.Generator, *, centred: bool = False
) -> list[Trial]:
    """Questions about rows that have a picture: query, its nearest row of another person, a random row of a
    third person.

    centred: search on descriptors minus each person's own mean, instead of raw ones. Neutral rows are not
    asked about. Raises ValueError where fewer than `count` rows can be asked about, or fewer than three
    people have pictures.

    >>> from raf_lite.manifest import find_data
    >>> bank = ExpressionBank.load(find_data() / "bank")
    >>> trials = draw_trials(bank, 5, np.random.default_rng(0))
    >>> len(trials), trials[0].nearest_side in "AB"
    (5, True)
    """
    pictured = bank.thumbnail_rows
    if len(np.unique(bank.donors[pictured])) < 3:
        raise ValueError("fewer than three people of this bank have pictures; a question needs three")
    keys = bank.centred() if centred else bank
    searched = ExpressionBank.from_arrays(keys.descriptors[pictured], bank.donors[pictured])
    asked = np.flatnonzero(~bank.neutral[pictured])
    if len(asked) < count:
        raise ValueError(
            f"{count} questions were asked for, and {len(asked)} rows have a picture; ask for fewer"
        )
    trials = []
    for k in rng.choice(asked, count, replace=False):
        own = searched.donors[k]
        near = int(searched.search(searched.descriptors[k][None], 1, (own,)).rows[0, 0])
        others = np.flatnonzero(~np.isin(searched.donors, (own, searched.donors[near])))
        rows = pictured[[k, near, rng.choice(others)]]
        query, nearest, other = map(int, rows)
        trials.append(Trial(query, nearest, other, SIDES[int(rng.integers(2))]))
    return trials


def is_simulated(rater: str) -> bool:
    """Whether a rater's name says that a machine answered."""
    return rater.casefold().startswith(SIMULATED)


def read_answers(path: str | os.PathLike) -> pd.DataFrame:
    """The answers in a file, one a row. A last line that a kill has torn is left out.

    Raises FileNotFoundError, or ValueError naming the file for one of another kind and the line that is
    damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no answers at {path}; answer the questions first, or correct the path"
        )
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    if lines[0].strip() != ",".join(COLUMNS):
        raise ValueError(
            f"{path} does not hold answers of the blind test; name the CSV file that it has written"
        )
    rows = []
    for number, line in enumerate(lines[1:-1], start=2):  # what stands after the last line's end was torn
        try:
            # pandas takes the byte 0 for an end.
            (row,) = csv.reader([line] if "\0" not in line else [], strict=True)
        except (csv.Error, ValueError):
            row = []
        if (
            len(row) != len(COLUMNS)
            or row[5] not in SIDES
            or row[6] not in SIDES
            or not re.fullmatch("[0-9]{1,9}", row[1])
        ):
            raise ValueError(f"{path}, line {number} is damaged; delete that line")
        try:
            row[0] = clean_name(row[0], "a rater")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        rows.append(dict(zip(COLUMNS, row)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"trial": int})


def append_answer(path: Path, rater: str, number: int, trial: Trial, answer: str, seconds: float) -> None:
    """Add one whole line to a file of answers, which is made where there is none; a torn last line is dropped
    first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = b""
    if path.is_file():
        read_answers(path)  # another kind of file is not written to
        whole = path.read_bytes()
        if not whole.endswith(b"\n"):
            with open(path, "r+b") as file:
                file.truncate(whole.rfind(b"\n") + 1)
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not whole:
            writer.writerow(COLUMNS)
        writer.writerow(
            [
                rater,
                number,
                trial.query,
                trial.nearest,
                trial.random,
                trial.nearest_side,
                answer,
                f"{seconds:.1f}",
                datetime.now(UTC).isoformat(timespec="seconds"),
            ]
        )
        file.flush()
        os.fsync(file.fileno())


class BlindTest(widgets.VBox):
    """The questions as a widget: three faces, two buttons, a line that says how far one is. Works by
    keyboard.

    rater: a name that begins with a letter or a digit; "simulated" is kept for simulated raters. path: the
    CSV file that every answer is added to at once; the same rater goes on where they stopped. Raises
    ValueError for such a name, or a file of another kind.
    """

    def __init__(
        self, bank: ExpressionBank, trials: Sequence[Trial], rater: str, path: str | os.PathLike
    ) -> None:
        rater = clean_name(rater, "a rater")
        # A spreadsheet takes what begins with = + - or @ for a formula.
        if not rater[0].isalnum() or is_simulated(rater):
            raise ValueError(
                f"'{rater}' cannot be a rater's name; use one that begins with a letter or a digit, and not"
                f" with '{SIMULATED}'"
            )
        self.bank, self.trials, self.rater, self.path = bank, list(trials), rater, Path(path)
        self.number = int((read_answers(path)["rater"] == self.rater).sum()) if self.path.is_file() else 0
        self.question, self.status = widgets.HTML(), widgets.HTML()
        self.buttons = [
            widgets.Button(description=f"Face {side}", tooltip=f"Face {side} makes the same expression")
            for side in SIDES
        ]
        for side, button in zip(SIDES, self.buttons):
            button.on_click(lambda _, side=side: self.answer(side))
        super().__init__([self.question, widgets.HBox(self.buttons), self.status])
        self._ask()

    def answer(self, side: str) -> None:
        """What a button does: write the answer down, ask the next question."""
        if self.number < len(self.trials):
            append_answer(
                self.path,
                self.rater,
                self.number,
                self.trials[self.number],
                side,
                time.monotonic() - self._since,
            )
            self.number += 1
            self._ask()

    def _ask(self) -> None:
        done = self.number >= len(self.trials)
        for button in self.buttons:
            button.disabled = done
        if done:
            self.question.value = "<p>That was the last question. The cell below counts your answers.</p>"
        else:
            trial = self.trials[self.number]
            faces = []
            for row in (trial.query, *trial.shown):
                face = self.bank.thumbnail(row)
                if face is None:
                    raise ValueError(
                        f"row {row} of the bank has no picture to ask about; use questions made for this bank"
                    )
                faces.append(face)
            self.question.value = strip_html(
                faces,
                ["this face", "face A", "face B"],
                "Which of the two makes the same expression as this face, A or B?",
                height=128,
            )
        self.status.value = (
            f'<p role="status" aria-live="polite">{html.escape(self.rater)}: {self.number} of '
            f"{len(self.trials)} answered.</p>"
        )
        self._since = time.monotonic()


def simulate(
    trials: Sequence[Trial], path: str | os.PathLike, name: str, accuracy: float, rng: np.random.Generator
) -> None:
    """Answers of a machine that picks the nearest row with a given probability (0.5: a coin), to show the
    analysis with.

    They are written under the name "simulated {name}", and are never evidence.

    >>> simulate(
    ...     [Trial(0, 1, 2, "A"), Trial(3, 4, 5, "B")], "answers.csv", "sure", 1.0, np.random.default_rng(0)
    ... )
    >>> read_answers("answers.csv")["answer"].tolist()
    ['A', 'B']
    """
    for number, trial in enumerate(trials):
        other = SIDES[trial.nearest_side == "A"]
        side = trial.nearest_side if rng.random() < accuracy else other
        append_answer(Path(path), f"{SIMULATED} {name}", number, trial, side, 0.0)


def analyse(*paths: str | os.PathLike) -> pd.DataFrame:
    """How often the nearest row was chosen: a row a rater, then all people together, then the mean over
    people.

    Columns: answers; nearest (share that chose it); low, high (95 %: Clopper-Pearson of the answers, for the
    mean over people a t-interval); p (two-sided binomial test against guessing; t-test for the mean). Answers
    of one person are not independent of each other, so with three raters or more the mean over people is the
    one to look at. Simulated raters stand in rows of their own and in no sum. Raises what `read_answers`
    raises, and ValueError where nobody has answered.

    >>> simulate([Trial(0, 1, 2, "A"), Trial(3, 4, 5, "B")], "own.csv", "sure", 1.0, np.random.default_rng(0))
    >>> analyse("own.csv")
                    answers  nearest       low  high    p
    simulated sure        2      1.0  0.158114   1.0  0.5
    """
    answers = pd.concat([read_answers(path) for path in paths], ignore_index=True)
    if answers.empty:
        raise ValueError(f"{', '.join(map(str, paths))}: nobody has answered yet; answer the questions first")
    hits = answers["answer"] == answers["nearest_side"]
    rows = {rater: _binomial(hits[answers["rater"] == rater]) for rater in answers["rater"].unique()}
    people = [rater for rater in rows if not is_simulated(rater)]
    if len(people) > 1:
        rows["all answers of people"] = _binomial(hits[answers["rater"].isin(people)])
    if len(people) > 2:
        shares = np.array([rows[rater]["nearest"] for rater in people])
        half = stats.t.ppf(0.975, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares))
        p = float(stats.ttest_1samp(shares, 0.5).pvalue) if np.ptp(shares) > 0 else float("nan")
        rows["mean over people"] = {
            "answers": sum(rows[r]["answers"] for r in people),
            "nearest": shares.mean(),
            "low": shares.mean() - half,
            "high": shares.mean() + half,
            "p": p,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _binomial(hits: pd.Series) -> dict[str, float]:
    test = stats.binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(method="exact")
    return {
        "answers": len(hits),
        "nearest": hits.mean(),
        "low": interval.low,
        "high": interval.high,
        "p": test.pvalue,
    }
