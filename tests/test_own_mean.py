"""What a driver's own mean is expected to be while few frames were seen."""

from __future__ import annotations

import numpy as np
import pytest

from raf_lite import open_capture
from raf_lite.bank import ExpressionBank, OwnMean, expected_mean
from raf_lite.bank.own_mean import LEAST, RIDGE, _shipped

COLUMNS = {"landmarks-mean": "landmarks_pca", "blendshapes-mean": "blendshapes"}


def people(rng, count=400, rows=30):
    """Descriptors [count * rows, 3] of people whose means vary by B and whose frames by W; and of whom."""
    between, within = np.diag([4.0, 1.0, 0.25]), np.array([[1.0, 0.5, 0], [0.5, 1.0, 0], [0, 0, 1.0]])
    means = rng.multivariate_normal([1, 2, 3], between, count)
    frames = means.repeat(rows, 0) + rng.multivariate_normal(np.zeros(3), within, count * rows)
    return frames, np.arange(count).repeat(rows), between, within


def test_it_is_the_best_linear_prediction():
    frames, donors, between, within = people(np.random.default_rng(0))
    own = OwnMean.of(frames, donors)
    seen = np.array([3.0, 1.0, 4.0])
    for count in (1, 7, 1000):
        gain = between @ np.linalg.inv(between + (within + RIDGE * np.eye(3)) / count)
        wanted = np.array([1, 2, 3]) + gain @ (seen - [1, 2, 3])
        np.testing.assert_allclose(own.expected(seen, count), wanted, atol=0.12)
    np.testing.assert_allclose(own.expected(seen, 10**6), seen, atol=1e-4)


def test_new_people_are_nearer_than_by_their_frames_alone():
    rng = np.random.default_rng(1)
    own, (frames, donors, _, _) = OwnMean.of(*people(rng)[:2]), people(rng, 200, 400)
    for count in (1, 5, 50):
        errors = {"frames": [], "expected": []}
        for donor in range(200):
            mine = frames[donors == donor]
            seen = mine[:count].mean(0)
            errors["frames"].append(np.linalg.norm(seen - mine.mean(0)))
            errors["expected"].append(np.linalg.norm(own.expected(seen, count) - mine.mean(0)))
        assert np.mean(errors["expected"]) < np.mean(errors["frames"]) * (0.8 if count == 1 else 1)


@pytest.mark.parametrize("descriptor", COLUMNS)
def test_three_drivers_begin_nearer_to_their_own_mean(data_dir, descriptor):
    """The shipped bank against three people that it has never seen, wherever one begins to look."""
    left = {1: [], 12: []}
    for name in ("101", "102", "103"):
        capture = open_capture(data_dir / "mini_nersemble" / name)
        film = capture.descriptors("FREE", COLUMNS[descriptor])
        film = film[np.isfinite(film).all(1)]
        for count, ratios in left.items():
            for first in range(0, len(film) - count, 8):
                seen = film[first : first + count].mean(0)
                errors = [
                    np.linalg.norm(m - film.mean(0)) for m in (expected_mean(descriptor, seen, count), seen)
                ]
                ratios.append(errors[0] / errors[1])
    assert np.mean(left[1]) < 0.65 and np.mean(left[12]) < 0.85


def test_a_dimension_in_which_nobody_differs_does_no_harm():
    frames, donors, _, _ = people(np.random.default_rng(2))
    own = OwnMean.of(np.c_[frames, np.zeros(len(frames))], donors)
    assert np.abs(own.expected([1, 2, 3, 0.1], 1) - [1, 2, 3, 0]).max() < 0.2
    assert own.ratios.min() == LEAST


def test_what_tells_nothing_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="2 rows of 2 people do not tell"):
        OwnMean.of(np.zeros((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match="4 rows of 1 people do not tell"):
        OwnMean.of(np.zeros((4, 3)), ["a"] * 4)
    with pytest.raises(ValueError, match="every person's rows are the same"):
        OwnMean.of(np.zeros((4, 3)), ["a", "a", "b", "b"])
    own = OwnMean.of(np.eye(4), ["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="give at least one"):
        own.expected(np.zeros(4), 0)
    with pytest.raises(
        ValueError, match="3 dimensions and the descriptors of those it was learned from have 4"
    ):
        own.expected(np.zeros(3), 1)


def test_without_data_it_is_the_mean_of_what_was_seen(monkeypatch):
    def nowhere(*_, **__):
        raise FileNotFoundError("no data here")

    _shipped.cache_clear()
    monkeypatch.setattr(ExpressionBank, "load", nowhere)
    assert expected_mean("landmarks-mean", [1.0, 2.0], 1).tolist() == [1, 2]
    _shipped.cache_clear()
