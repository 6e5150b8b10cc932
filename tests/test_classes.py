"""Hair, skin and clothes beside a matte: what is head where the plane across the neck does not decide."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_one_camera import film  # noqa: F401  (a fixture)

from raf_lite._files import cache_path
from raf_lite._models import model_path
from raf_lite.captures import matting, open_capture, read_video, write_video
from raf_lite.captures.classes import (
    BACKGROUND,
    BODY_SKIN,
    CLASSES,
    CLOTHES,
    FACE_SKIN,
    HAIR,
    OTHERS,
    classes_file,
    head_share,
)
from raf_lite.captures.matting import (
    MULTICLASS_MATTING,
    MULTICLASS_SEGMENTER,
    SIDE,
    MulticlassSegmenter,
    classed_frames,
    iter_matte,
    matte_file,
    matte_problem,
    matte_video,
)
from raf_lite.captures.video import video_tags, write_lossless
from raf_lite.cli import main

GREY, RED, BLUE = (90, 100, 110), (200, 40, 40), (40, 40, 200)


def bust(height, width, x):
    """A red face over blue clothes before grey, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[(rows >= 0.55 * height) & (abs(columns - x) < 0.3 * height)] = BLUE
    picture[np.hypot(columns - x, rows - 0.35 * height) < 0.25 * height] = RED
    return picture


def by_colour(picture):
    """A segmenter that takes red for the face's skin and blue for clothes, float32 [6, H, W]."""
    red, green, blue = np.moveaxis(picture.astype(np.float32), -1, 0)
    answers = np.zeros((len(CLASSES), *picture.shape[:2]), np.float32)
    answers[FACE_SKIN], answers[CLOTHES] = red - green > 80, blue - green > 80
    answers[BACKGROUND] = 1 - answers.sum(0)
    return answers


class ByColour:
    """In the place of MulticlassSegmenter."""

    def __enter__(self):
        return by_colour

    def __exit__(self, *exc):
        pass


def test_a_pixels_class_is_where_the_picture_shows_it():
    picture = bust(400, 640, 300)
    ((alpha, classes),) = classed_frames([picture], by_colour)
    face, clothes = (picture == RED).all(-1), (picture == BLUE).all(-1)
    assert np.abs(alpha / 255.0 - (face | clothes)).mean() < 0.003
    assert classes.shape == (400, 640) and classes.dtype == np.uint8
    right = np.select([face, clothes], [FACE_SKIN, CLOTHES], BACKGROUND) == classes
    assert right.mean() > 0.985 and classes[140, 300] == FACE_SKIN and classes[380, 300] == CLOTHES


def test_a_class_that_is_mistaken_in_one_frame_of_a_still_picture_is_held():
    calls = 0

    def mistaken(picture):
        nonlocal calls
        calls += 1
        answers = by_colour(picture)
        return answers[[0, 1, 2, 4, 3, 5]] if calls == 6 else answers

    frames = list(classed_frames([bust(SIDE, SIDE, 128)] * 8, mistaken))
    assert calls > 6
    assert {classes[90, 128] for _, classes in frames} == {FACE_SKIN}


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(matting, "MulticlassSegmenter", ByColour)
    write_video(tmp_path / "clip.mp4", [bust(96, 128, 50 + 4 * t) for t in range(4)], 25, crf=4)
    return tmp_path / "clip.mp4"


def test_classes_lie_beside_the_matte_and_belong_to_its_film(clip, monkeypatch, capsys):
    matte = matte_video(clip, matting="multiclass", progress=False)
    classes = classes_file(clip)
    assert matte == matte_file(clip) and video_tags(matte) == video_tags(classes)
    assert video_tags(matte)["matting"] == MULTICLASS_MATTING
    shown = np.stack(list(iter_matte(classes)))
    assert shown.shape == (4, 96, 128) and set(np.unique(shown)) == {BACKGROUND, FACE_SKIN, CLOTHES}
    monkeypatch.setattr(matting, "MulticlassSegmenter", None)  # nobody is asked again
    assert matte_video(clip, [1, 2], matting="multiclass", progress=False) == matte
    assert capsys.readouterr().out == ""

    write_lossless(classes, shown[:3], 25, tags=video_tags(matte))
    assert matte_problem(clip, matte) == f"{classes} has 3 frames and {clip} has 4"
    classes.unlink()
    assert f"there is no video {classes}" in str(matte_problem(clip, matte))
    monkeypatch.setattr(matting, "MulticlassSegmenter", ByColour)
    matte_video(clip, [1, 2], matting="multiclass", progress=False)
    assert f"matting {clip} again" in capsys.readouterr().out
    (third,) = iter_matte(classes, [2])
    assert (third == shown[2]).mean() > 0.98  # but for what other frames before it have changed


def test_the_other_way_of_matting_makes_all_anew_and_leaves_no_classes(clip, monkeypatch, capsys):
    class Red(ByColour):
        def __enter__(self):
            return lambda picture: by_colour(picture)[FACE_SKIN]

    monkeypatch.setattr(matting, "SelfieSegmenter", Red)
    matte_video(clip, matting="multiclass", progress=False)
    assert next(iter_matte(matte_file(clip)))[90, 50] == 255
    matte = matte_video(clip, progress=False)
    assert f"was made in another way than '{matting.MATTING}'" in capsys.readouterr().out
    assert next(iter_matte(matte))[90, 50] == 0 and not classes_file(clip).exists()


def test_hair_is_head_below_the_neck_and_clothes_are_not_above_it(film, tmp_path):  # noqa: F811
    path = tmp_path / "me.mp4"
    shutil.copy(film[0], path)
    shutil.copy(film[0].with_name("me.mp4.encoding.npz"), tmp_path)
    person = read_video(matte_file(film[0]), gray=True)
    tags = video_tags(matte_file(film[0])) | {"matting": MULTICLASS_MATTING}
    write_lossless(matte_file(path), person, 12, tags=tags)
    shown = np.zeros_like(person)
    parts = {
        HAIR: slice(0, 60),
        FACE_SKIN: slice(60, 100),
        BODY_SKIN: slice(100, 140),
        OTHERS: slice(140, 180),
    }
    for kind, columns in {**parts, CLOTHES: slice(180, 256)}.items():
        shown[:, :, columns] = kind
    write_lossless(classes_file(path), shown, 12, tags=tags)

    plane, classed = open_capture(film[0]), open_capture(path)
    rows = np.array([17])
    alpha = person[17] / 255
    mask, counts = (read("video", "0", rows)[0] for read in (classed.masks, classed.counts))
    np.testing.assert_allclose(mask[:, :100], alpha[:, :100], atol=1 / 255)
    np.testing.assert_allclose(mask[:, 100:180], plane.masks("video", "0", rows)[0, :, 100:180], atol=1 / 255)
    np.testing.assert_array_equal(mask[:, 180:], 0)
    assert counts[:, :100].min() == 1
    np.testing.assert_array_equal(counts[:, 100:180], plane.counts("video", "0", rows)[0, :, 100:180])
    assert counts[:, 180:][alpha[:, 180:] == 1].max() == 0
    assert counts[:, 180:][alpha[:, 180:] == 0].min() == 1, "what is behind them counts"
    small = open_capture(path, downscale=4, crop=(42, 20, 160, 200)).masks("video", "0", rows)[0]
    assert np.abs(small - mask[20:220, 42:202].reshape(50, 4, 40, 4).mean((1, 3))).mean() < 0.004
    assert classes_file(path) in classed.source.files("video", "0")
    classes_file(path).unlink()
    with pytest.raises(
        ValueError, match=r"there is no video .*me\.mp4\.classes\.mkv; .* matte .*me\.mp4 again"
    ):
        open_capture(path).masks("video", "0")


def test_a_pixel_that_shows_several_is_head_by_its_shares():
    classes = np.array([[HAIR, CLOTHES], [CLOTHES, OTHERS]], np.uint8)
    assert head_share(classes, np.array([[0.5]]), 2)[0, 0] == pytest.approx(0.25 + 0.25 * 0.5, abs=0.01)


def test_without_the_model_it_is_told_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("RAF_LITE_MULTICLASS_SEGMENTER", raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"could not get selfie_multiclass_256x256\.tflite .*set RAF_LITE_MULTICLASS_SEGMENTER to a"
        r" local copy of https://storage\.googleapis\.com/mediapipe-models/",
    ):
        model_path(MULTICLASS_SEGMENTER, progress=False)
    (tmp_path / "mine.tflite").write_bytes(b"another model")
    monkeypatch.setenv("RAF_LITE_MULTICLASS_SEGMENTER", str(tmp_path / "mine.tflite"))
    with pytest.raises(
        ValueError, match=r"mine\.tflite \(from RAF_LITE_MULTICLASS_SEGMENTER\) is not the expe"
    ):
        model_path(MULTICLASS_SEGMENTER)


@pytest.mark.may_skip("needs the multi-class model, 16 MB, which `raf-lite train --matting multiclass` gets")
def test_the_models_answers_are_shares_of_its_classes(data_dir):
    pytest.importorskip("mediapipe")
    if not cache_path("models", MULTICLASS_SEGMENTER.name).is_file():
        pytest.skip("the multi-class model is not in the cache")
    capture = open_capture(data_dir / "mini_nersemble" / "001")
    picture = capture.first_frame("FREE", capture.encoder_camera)
    with MulticlassSegmenter() as segmenter:
        answers = segmenter(picture)
    assert answers.shape == (len(CLASSES), *picture.shape[:2])
    np.testing.assert_allclose(answers.sum(0), 1, atol=0.01)
    assert answers.argmax(0)[0, 0] == BACKGROUND and answers.argmax(0)[128, 128] == FACE_SKIN


def test_a_folder_is_not_matted(data_dir, tmp_path, capsys):
    folder = str(data_dir / "mini_nersemble" / "001")
    assert main(["train", folder, "--out", str(tmp_path), "--matting", "multiclass"]) == 2
    assert "--matting is for films" in capsys.readouterr().err
