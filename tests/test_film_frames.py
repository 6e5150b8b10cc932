"""Which frames of a film are trained on: cuts, faces that leave the picture or are hidden, films that are too
long, turned ones; and films of which no avatar comes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_one_camera import FPS, TINY, WhiteSegmenter, film  # noqa: F401  (the film is a fixture)
from test_presentation import with_matrix

from raf_lite.captures import matting, open_capture, read_video, write_video
from raf_lite.captures.formats.plain import open_video
from raf_lite.captures.matting import frame_spans, iter_matte, matte_file, matte_problem, matte_video
from raf_lite.captures.video import video_frames
from raf_lite.course import film_frames as module
from raf_lite.course.film_frames import (
    FilmFrames,
    check_film,
    film_frames,
    find_cuts,
    hidden_faces,
    missed_faces,
    probe_film,
    require_both,
    spread_rows,
)
from raf_lite.course.own_video import open_own
from raf_lite.descriptors.encode_video import find_encoding
from raf_lite.training import TrainingSet

ROOM = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).repeat(2, 0).repeat(2, 1).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(film):  # noqa: F811
    return read_video(film[0])


@pytest.mark.parametrize("numbers", [[0], [29], [3, 4, 5, 17, 29], range(12, 30)])
def test_chosen_frames_are_those_of_the_whole_film(film, pictures, tmp_path, numbers):  # noqa: F811
    asked = list(numbers)
    np.testing.assert_array_equal(np.stack(list(video_frames(film[0], numbers))), pictures[asked])
    part = np.stack(list(video_frames(matte_file(film[0]), numbers, gray=True, crop=(8, 4, 64, 32))))
    whole = read_video(matte_file(film[0]), gray=True)
    np.testing.assert_array_equal(part, whole[asked, 4:36, 8:72])


def test_frames_that_a_film_does_not_have_are_named(film):  # noqa: F811
    with pytest.raises(ValueError, match="frame 30 cannot be decoded"):
        list(video_frames(film[0], [2, 30]))
    with pytest.raises(ValueError, match="does not lie within"):
        list(video_frames(film[0], [2], crop=(0, 0, 999, 10)))


def test_a_capture_of_chosen_frames(film, pictures):  # noqa: F811
    capture = open_video(film[0], 1, None, frames={"video": (2, 5, 20), "held-out": (25, 29)})
    whole = open_capture(film[0])
    assert capture.n_frames("video") == 3 and capture.split().holdout_sequences == ("held-out",)
    np.testing.assert_array_equal(capture.frames("held-out", "0"), pictures[[25, 29]])
    np.testing.assert_array_equal(capture.masks("video", "0"), whole.masks("video", "0")[[2, 5, 20]])
    np.testing.assert_array_equal(capture.head_poses("video"), whole.head_poses("video")[[2, 5, 20]])
    other = open_video(film[0], 1, None, frames={"video": (2, 5, 21), "held-out": (25, 29)})
    assert capture.source.chosen("video") != other.source.chosen("video"), "cached pictures would be mixed up"


def test_a_matte_may_hold_chosen_frames_alone(film, tmp_path, monkeypatch):  # noqa: F811
    path = tmp_path / "me.mp4"
    shutil.copy(film[0], path)
    monkeypatch.setattr(matting, "SelfieSegmenter", WhiteSegmenter)
    matte = matte_video(path, [3, 4, 5, 20], progress=False)
    (four, twenty) = iter_matte(matte, [4, 20])
    whole = read_video(matte_file(film[0]), gray=True)
    assert (
        np.abs(four.astype(int) - whole[4]).mean() < 2 and np.abs(twenty.astype(int) - whole[20]).mean() < 2
    )
    before = matte.read_bytes()
    assert matte_video(path, [3, 20], progress=False).read_bytes() == before
    assert "4 frames, chosen among the 30" in (matte_problem(path, matte, [3, 6]) or "")
    matte_video(path, progress=False)
    assert matte_problem(path, matte) is None and len(list(iter_matte(matte))) == 30


# ------------------------------------------------------------------------------------------------- refusals


def test_a_film_is_refused_by_a_few_frames(pictures, tmp_path):
    def probed(name, frames):
        write_video(tmp_path / name, frames, FPS)
        probe_film(tmp_path / name)

    probed("fine.mp4", pictures[:14])
    with pytest.raises(ValueError, match="nobody.mp4: no face was found in 12 frames spread over it"):
        probed("nobody.mp4", np.full_like(pictures[:14], 90))
    with pytest.raises(ValueError, match="two.mp4: 1[012] of 12 frames spread over it show several faces"):
        probed("two.mp4", np.concatenate([pictures[:14]] * 2, 2))
    with pytest.raises(ValueError, match="still.mp4 shows a still picture"):
        probed("still.mp4", [pictures[0]] * 14)


def test_a_face_that_runs_out_of_the_picture(film, tmp_path):  # noqa: F811
    path, _ = film
    encoding = find_encoding(path, progress=False)

    def gone(count):
        landmarks = encoding.landmarks.copy()
        landmarks[:count, :, 0] -= landmarks[:count, :, 0].min(1, keepdims=True) + 20
        return replace(encoding, landmarks=landmarks)

    frames = film_frames(path, gone(4), 0.2, progress=False)
    assert frames.left_out == {module.OUT: (0, 1, 2, 3)} and frames.trained[0] == 4
    assert "4 frames have a face that runs out of the picture and are left out: 0-3" in frames.report(
        path, FPS
    )
    with pytest.raises(ValueError, match="runs out of the picture in 20 of 30 frames, first in frame 0"):
        check_film(gone(20), path)


def test_a_matte_that_misses_the_face(film, tmp_path):  # noqa: F811
    path, _ = film
    encoding = find_encoding(path, progress=False)
    assert missed_faces(encoding, range(30), matte_file(path)) == []
    whole = read_video(matte_file(path), gray=True)
    for count in (3, 20):
        wrong = whole.copy()
        wrong[:count, :, 100:] = 0
        matting.write_lossless(tmp_path / "m.mkv", wrong, FPS, tags={})
        if count == 3:
            assert missed_faces(encoding, range(30), tmp_path / "m.mkv") == [0, 1, 2]
    with pytest.raises(ValueError, match="m.mkv misses the face in 20 of 30 frames, first in frame 0"):
        missed_faces(encoding, range(30), tmp_path / "m.mkv")


# ------------------------------------------------------------------------------------------------ the choice


def test_the_longest_shot_is_used_and_said(film, pictures, tmp_path):  # noqa: F811
    path, _ = film
    assert find_cuts(path, progress=False) == []
    spliced = tmp_path / "spliced.mp4"
    other = np.clip(pictures[:12, ::-1].astype(int) // 2 + 20, 0, 255).astype(np.uint8)
    write_video(spliced, np.concatenate([pictures[:18], other]), FPS)
    assert find_cuts(spliced, progress=False) == [18]
    frames = film_frames(spliced, find_encoding(path, progress=False), 0.25, progress=False)
    assert frames.trained == tuple(range(14)) and frames.held_out == tuple(range(14, 18))
    assert frames.left_out == {module.SHOT: tuple(range(18, 30))}
    assert "is cut at frame 18 (1.5 s): its longest shot is used" in frames.report(spliced, FPS)


def test_of_a_long_film_the_frames_that_differ_are_taken(film, monkeypatch):  # noqa: F811
    path, _ = film
    monkeypatch.setattr(module, "TRAINED", 8)
    monkeypatch.setattr(module, "HELD_OUT", 3)
    encoding = find_encoding(path, progress=False)
    scores = np.repeat(encoding.blendshapes[:1], 30, 0)
    scores[[5, 9, 16, 20]] += np.array([[1], [2], [3], [4]])
    encoding = replace(encoding, blendshapes=scores, encoder_pose=np.repeat(encoding.encoder_pose[:1], 30, 0))
    frames = film_frames(path, encoding, 0.2, progress=False)
    assert (
        len(frames.trained) == 8 and {5, 9, 16, 20} < set(frames.trained) and frames.held_out == (27, 28, 29)
    )
    assert {0, 23} < set(frames.trained) and frames == film_frames(path, encoding, 0.2, progress=False)
    assert spread_rows(np.zeros((9, 2)), 9).tolist() == list(range(9)), "equal rows are taken once each"


def test_what_hides_the_face_is_found(film, tmp_path):  # noqa: F811
    rendered = film[1]
    pictures = rendered.frames("FREE", rendered.encoder_camera)[:60]
    path, hidden, crop = tmp_path / "free.mp4", tmp_path / "hidden.mp4", (0, 0, 256, 256)
    write_video(path, pictures, FPS, crf=8)
    encoding = find_encoding(path, progress=False)
    assert hidden_faces(path, encoding, range(60), crop, 1, progress=False) == []
    covered = pictures.copy()
    for t in (6, 7, 41):
        x, y = encoding.landmarks[t, 205, :2].astype(int)  # between nose and cheek
        covered[t, y - 25 : y + 25, x - 25 : x + 25] = (40, 60, 160)
    write_video(hidden, covered, FPS, crf=8)
    assert hidden_faces(hidden, encoding, range(60), crop, 1, progress=False) == [6, 7, 41]
    assert hidden_faces(hidden, encoding, range(40), crop, 1, progress=False) == [], "too few to judge"


def test_frames_that_are_too_many_are_no_occlusion(film, pictures, tmp_path, monkeypatch, capsys):  # noqa: F811
    path, _ = film
    monkeypatch.setattr(module, "occlusion_scores", lambda *_: np.arange(30.0))
    monkeypatch.setattr(module, "JUDGED", 30)
    encoding = find_encoding(path, progress=False)
    assert hidden_faces(path, encoding, range(30), (0, 0, 256, 256), 1, progress=False) == []
    assert "which cannot be told apart; none is left out" in capsys.readouterr().out


def test_too_little_that_is_left_is_told():
    frames = FilmFrames(20, tuple(range(15)), tuple(range(15, 20)), {})
    assert frames.without([], "x") is frames
    with pytest.raises(ValueError, match=r"15 frames to train on and 0 to hold out are left \(5 hide\)"):
        require_both(frames.without(range(15, 20), "hide"), "me.mp4")
    assert frames.without([3, 17], "hide").as_dict() == {
        "frames": 20, "trained": "0-2,4-14", "held_out": "15-16,18-19", "left_out": {"hide": "3,17"},
        "cuts": [],
    }  # fmt: skip
    assert frame_spans([]) == ""


# ------------------------------------------------------------------------------------------------ turned


def test_a_turned_film_gives_the_training_pictures_of_the_upright_one(pictures, tmp_path, monkeypatch):
    """A portrait that the phone stored lying, with the matrix that turns it back."""
    upright = pictures[:14, :, 32:224]
    write_video(tmp_path / "upright.mp4", upright, FPS, crf=1)
    write_video(tmp_path / "lying.mp4", np.rot90(upright, 1, (1, 2)), FPS, crf=1)
    with_matrix(tmp_path / "lying.mp4", 0, 1, -1, 0)
    monkeypatch.setattr(matting, "SelfieSegmenter", WhiteSegmenter)
    sets = []
    for name in ("upright.mp4", "lying.mp4"):
        path = tmp_path / name
        encoding = find_encoding(path, progress=False)
        assert encoding.size == (192, 256)
        probe_film(path)
        frames = film_frames(path, encoding, 0.2, progress=False)
        matte_video(path, progress=False)
        sets.append(TrainingSet.from_capture(open_own(path, encoding, 64, frames), TINY, progress=False))
    one, two = sets
    assert abs(one.images.shape[2] - two.images.shape[2]) <= 1
    rows, columns = (min(one.images.shape[k], two.images.shape[k]) for k in (2, 3))
    first, second = (s.images[:, 0, :rows, :columns].astype(int) for s in sets)
    assert np.abs(first - second).mean() < 3
    np.testing.assert_allclose(one.head_poses, two.head_poses, atol=0.3)
