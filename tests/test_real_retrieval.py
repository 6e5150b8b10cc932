"""Whether retrieval helps real people is asked as `benchmarks/real_retrieval.py` says: of made-up
films and lines, whose numbers are known."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy.spatial.transform import Rotation

from raf_lite.course.film_frames import FilmFrames
from raf_lite.descriptors.encode_video import VideoDetections
from raf_lite.descriptors.forms import landmark_basis
from raf_lite.study.variants import matched_noise

sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package: run as `python benchmarks/NAME.py`

import real_films  # noqa: E402
import real_neighbours  # noqa: E402
import real_retrieval  # noqa: E402
import real_retrieval_report as page  # noqa: E402


def film(blendshapes, coefficients, degrees=0.0, unseen=()):
    """A film of these descriptors, the head turned; frames `unseen` show no face."""
    frames = len(blendshapes)
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
    found = ~np.isin(np.arange(frames), unseen)
    arrays = [np.asarray(blendshapes, np.float32), landmark_basis().inverse(coefficients), poses]
    for array in arrays:
        array[~found] = np.nan
    return VideoDetections(*arrays, found, faces=found.astype(np.uint8), fps=25.0, size=(64, 64))


def drawn_film(seed, unseen=()):
    rng = np.random.default_rng(seed)
    return film(rng.random((30, 52)), 0.1 * rng.standard_normal((30, 64)), unseen=unseen)


# ----------------------------------------------------------------------------------------------------- banks


def test_nobody_is_in_the_bank_of_their_own_avatar():
    films = {name: drawn_film(seed, unseen=(3, 4)) for seed, name in enumerate("abc")}
    rows = real_films.rows_for("b", films, "others")
    assert rows.donors.tolist() == ["a"] * 28 + ["c"] * 28
    seen = np.delete(films["c"].blendshapes, (3, 4), 0)
    np.testing.assert_array_equal(rows.bank("blendshapes").descriptors[28:], seen)
    centred = rows.bank("landmarks-mean").descriptors[:28]
    own = np.delete(landmark_basis().encode_landmarks(films["a"].landmarks), (3, 4), 0)
    np.testing.assert_allclose(centred, own - own.mean(0), atol=1e-5)
    both, rendered = (real_films.rows_for("b", films, bank) for bank in ("both", "rendered"))
    assert not {"a", "b", "c"} & set(rendered.donors) and "b" not in both.donors
    assert len(both.donors) == len(rendered.donors) + 56


# ------------------------------------------------------------------------------------------------------ cuts


def blobs(sizes, places):
    """Frames about places on the axes of 8 numbers, blob after blob."""
    rng = np.random.default_rng(0)
    centres = np.zeros((len(sizes), 8))
    centres[np.arange(len(sizes)), np.arange(len(sizes))] = places
    return np.repeat(centres, sizes, 0) + 0.01 * rng.standard_normal((sum(sizes), 8))


def test_the_farthest_expression_of_middling_size_is_missing():
    # Of 200 frames: 60 and 6 are farther away but too many and too few, 20 nearer; so the 24 go.
    places = blobs((30, 60, 6, 24, 20, 60), (0.0, 90, 300, 80, 30, 20))
    assert real_films.missing_expression(places).tolist() == list(range(96, 120))
    with pytest.raises(ValueError, match="no expression has 5% to 25% of the frames"):
        real_films.missing_expression(blobs((50, 50, 3, 3, 3, 3), (1.0, 9, 2, 3, 4, 5)))


def test_frames_beside_the_missing_ones_are_left_out(monkeypatch):
    monkeypatch.setattr(real_films, "missing_expression", lambda places: np.array([8, 9, 10, 30]))
    numbers = [t for t in range(60) if t != 12]  # one of them is of no use
    frames = FilmFrames(60, tuple(numbers[:40]), tuple(numbers[40:]), {"show no face": (12,)})
    cut = real_films.cut_out(frames, np.zeros((60, 2)))
    assert cut.held_out == (8, 9, 10, 31)  # the 30th of use is frame 31
    assert cut.left_out[real_films.NEAR] == (3, 4, 5, 6, 7, 11, 13, 14, 15, *range(26, 31), *range(32, 37))
    assert cut.trained == (0, 1, 2, *range(16, 26), *range(37, 60))


# ------------------------------------------------------------------------------------------------ neighbours


def test_what_is_retrieved_is_judged():
    """Another person makes the same four faces, of a face that differs everywhere, turned by ten degrees."""
    rng = np.random.default_rng(0)
    shapes, faces = rng.random((4, 52)), 0.1 * rng.standard_normal((4, 64))
    other = 3 * rng.standard_normal(52)
    films = {
        "a": film(np.repeat(shapes, 2, 0), np.repeat(faces, 2, 0)),
        "b": film(np.repeat(shapes + other, 16, 0), np.repeat(faces, 16, 0), degrees=10.0),
    }
    line = real_neighbours.neighbours_line("a", "blendshapes", "others", films, ("paper-k16", "centred"))
    found = line["found"]
    assert found["centred"] == {"landmarks": 0, "blendshapes": 0, "degrees": 10}
    assert found["paper-k16"]["blendshapes"] > 0.05 and found["paper-k16"]["degrees"] == 10
    assert found["random rows"]["landmarks"] > 1 and found["random rows"]["blendshapes"] > 0.1
    away = np.abs(shapes - shapes.mean(0)).mean()
    assert found["own mean"]["blendshapes"] == pytest.approx(away, abs=1e-4)
    assert line["frames"] == 8 and line["bank_rows"] == 64


# ----------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("name", real_retrieval.PLANS)
def test_a_plan_that_is_stopped_is_balanced_over_people(name):
    runs = real_retrieval.PLANS[name](["a", "b", "c"])
    assert len({run.key for run in runs}) == len(runs)
    settings = [{k: v for k, v in vars(run).items() if k != "clip"} for run in runs]
    for setting in settings:  # everybody has all of a stage before anybody has the next
        assert {run.clip for run, other in zip(runs, settings, strict=True) if other == setting} == set("abc")
    if name == "prior":
        return
    assert [run.variant for run in runs[:6]] == ["none"] * 6
    for first, (p, bank) in enumerate(real_retrieval.STAGES):
        stage = runs[6 + 24 * first : 30 + 24 * first]
        assert {(run.p, run.bank) for run in stage} == {(p, bank)} and {r.clip for r in stage} == set("abc")
        for run in stage:
            noise = matched_noise(run.variant)
            assert noise is None or any(
                r.variant == noise and (r.clip, r.descriptor) == (run.clip, run.descriptor) for r in stage
            )
    assert not any(r.variant == "centred" and r.descriptor == "landmarks-mean" for r in runs)


def test_what_is_done_is_not_run_again(tmp_path):
    runs = real_retrieval.stages(["a"], "end")[:3]
    asked = []

    def stub(run):
        asked.append(run.key)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"key": run.key}

    with pytest.raises(KeyboardInterrupt):
        real_retrieval.execute("real", runs, tmp_path, stub, 1)
    with open(tmp_path / "real.jsonl", "a") as file:
        file.write('{"key": "half a li')  # as a kill leaves it
    assert real_retrieval.execute("real", runs, tmp_path, stub, 1) == 1
    assert asked == [run.key for run in (*runs, runs[2])]
    assert [json.loads(line)["key"] for line in open(tmp_path / "real.jsonl")] == [run.key for run in runs]
    # Another plan asks for the same avatar: landmarks without retrieval.
    assert real_retrieval.execute("prior", real_retrieval.PLANS["prior"](["a"])[:2], tmp_path, stub, 1) == 1


def test_what_cannot_be_done_says_so(tmp_path, monkeypatch):
    def none(*args):
        raise ValueError("no expression has 5% to 25% of the frames")

    monkeypatch.setattr(real_retrieval, "opened", none)
    run = real_retrieval.Run("a", "blendshapes", cut="missing")
    line = real_retrieval.line_of(run, tmp_path, tmp_path)
    assert line["failed"] == "no expression has 5% to 25% of the frames" and line["key"] == run.key


# ---------------------------------------------------------------------------------------------------- report


def lines(clip, values):
    """A person's lines: without retrieval, centred, and its noise; one error, PSNR and identity each."""
    for (variant, p, bank), (error, psnr, identity) in zip(
        (("none", 0.0, "none"), ("centred", 0.2, "others"), ("centred-gaussian", 0.2, "others")),
        values,
        strict=True,
    ):
        run = real_retrieval.Run(clip, "blendshapes", variant, p, bank)
        graded = {"landmarks": error, "psnr": psnr, "identity": identity}
        yield {
            "key": run.key,
            "spec": vars(run),
            "frames": {"gap": 2.0},
            "seconds": {"train": 50.0, "grade": 30.0},
            "outcomes": {"tracked": graded, "aligned": graded, "driven": {"aed": 0.1}},
        }


def test_the_report_is_what_a_hand_finds(tmp_path):
    made = [
        *lines("a", [(4.0, 20, 0.90), (3.0, 21, 0.92), (4.0, 22, 0.9)]),
        *lines("b", [(4.0, 30, 0.90), (3.6, 31, 0.91), (4.0, 30, 0.9)]),
        *lines("c", [(5.0, 40, 0.90), (4.5, 41.5, 0.89), (4.5, 41, 0.9)]),
        next(lines("d", [(9.0, 10, 0.5)] * 3)),  # whom nothing is compared with yet
        {"key": "e", "spec": {}, "failed": "too dark"},
    ]
    (tmp_path / "real.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    text = page.write_report(tmp_path).read_text(encoding="utf-8")
    assert "10 runs of 4 people, 80 s each" in text and "e could not be done: too dark" in text
    parts = text.split("\n\n")
    table = {said: after for said, after in zip(parts, parts[1:], strict=False) if after.startswith("| ")}
    aligned = table["Against no retrieval, aligned:"]
    noise = table["Against the matched noise, aligned:"]
    narrow = next(after for said, after in table.items() if said.startswith("How narrow"))
    row = {
        name: next(line for line in aligned.split("\n") if line.startswith(f"| {name}, p = 0.2, others |"))
        for name in ("centred", "centred-gaussian")
    }
    # Changes of -25, -10 and -10 %: sd 8.66, t 4.303, so 15 -+ 21.5; (4.303 * 8.66 / 3)^2 is 154.3 people.
    assert "| -15.0 % [-36.5, +6.5], 3/3 |" in row["centred"]
    assert "| +1.2 dB [+0.4, +1.9], 3/3 |" in row["centred"]
    assert "| +0.7 points [-3.1, +4.5], 2/3 |" in row["centred"]
    assert "| ±21.5; 155 |" in narrow
    # Against the noise: -25, -10 and 0 %.
    assert "| -11.7 % [-42.9, +19.6], 2/3 |" in noise and "centred-gaussian" not in noise
    assert table["Against no retrieval, tracked:"] == aligned
    assert "| +0.0 % [+0.0, +0.0], 0/3 |" in table["Against no retrieval, driven:"]
