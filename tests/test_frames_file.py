"""What a film's frames were found to show is found once, and again where anything it depends on changes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from test_one_camera import FPS, WhiteSegmenter, film  # noqa: F401  (the film is a fixture)

from raf_lite.captures import matting, read_video, write_video
from raf_lite.captures.matting import matte_file
from raf_lite.captures.video import video_tags, write_lossless
from raf_lite.course import film_frames as rules
from raf_lite.course import frames_file, own_video
from raf_lite.course.film_frames import HIDES, MISSES
from raf_lite.course.own_video import used_frames
from raf_lite.descriptors.encode_video import find_encoding

STEPS = ("find_cuts", "hidden_faces", "missed_faces")


@pytest.fixture
def own(film, tmp_path, monkeypatch):  # noqa: F811
    """A film of which frame 3 is hidden and frame 25 missed by the matte, and the list of steps that looked
    at it."""
    for name in ("me.mp4", "me.mp4.encoding.npz"):
        shutil.copy(film[0].with_name(name), tmp_path)
    whole = read_video(matte_file(film[0]), gray=True)
    whole[25] = 0
    write_lossless(tmp_path / "me.mp4.matte.mkv", whole, FPS, tags=video_tags(matte_file(film[0])))
    monkeypatch.setattr(rules, "JUDGED", 20)
    monkeypatch.setattr(rules, "occlusion_scores", lambda colours, *_: np.arange(len(colours)) == 3)
    monkeypatch.setattr(rules, "HIDDEN", 0.5)
    monkeypatch.setattr(matting, "SelfieSegmenter", WhiteSegmenter)
    looked = []

    def watched(name, step):
        def look(*args, **options):
            looked.append(name)
            return step(*args, **options)

        return look

    for name in STEPS:
        monkeypatch.setattr(own_video, name, watched(name, getattr(own_video, name)))
    return tmp_path / "me.mp4", looked


def choose(path, **options):
    encoding = find_encoding(path, progress=False)
    options = {"size": 64, "held_out": 0.2} | options
    return used_frames(path, encoding, path.parent / "out", progress=False, **options)


def test_a_second_run_looks_for_nothing(own, capsys):
    path, looked = own
    first = choose(path)
    assert looked == list(STEPS)
    assert first.left_out == {HIDES: (3,), MISSES: (25,)} and first.trained == (0, 1, 2, *range(4, 24))
    written = (path.parent / "out" / "frames.json").read_bytes()
    told = json.loads(written)
    assert told["film"] == "me.mp4" and told["trained"] == "0-2,4-23" and told["held_out"] == "24,26-29"
    looked.clear()
    capsys.readouterr()
    assert choose(path) == first and looked == []
    assert capsys.readouterr().out == "" and (path.parent / "out" / "frames.json").read_bytes() == written


def test_a_run_that_was_stopped_while_it_matted_goes_on_from_there(own, monkeypatch):
    path, looked = own
    monkeypatch.setattr(own_video, "matte_video", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        choose(path)
    monkeypatch.setattr(own_video, "matte_video", matting.matte_video)
    looked.clear()
    assert choose(path).left_out == {HIDES: (3,), MISSES: (25,)} and looked == ["missed_faces"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 32}, "was made with other settings"),
        ({"held_out": 0.3}, "was made with other settings"),
        ({}, "was made with other settings"),  # another rule
    ],
)
def test_other_settings_look_again(own, monkeypatch, capsys, options, says):
    path, looked = own
    choose(path)
    if not options:
        monkeypatch.setattr(frames_file, "RULE", "film-frames-0")
    looked.clear()
    choose(path, **options)
    assert looked == list(STEPS) and f"frames.json {says}: looking through" in capsys.readouterr().out


def test_another_film_is_looked_through_and_a_new_matte_asked_again(own, film, capsys):  # noqa: F811
    path, looked = own
    choose(path)
    looked.clear()
    shutil.copy(matte_file(film[0]), matte_file(path))  # one that misses no face
    assert choose(path).left_out == {HIDES: (3,)} and looked == ["missed_faces"]
    looked.clear()
    pictures = read_video(path)
    write_video(path, np.concatenate([pictures[5:], pictures[:5]]), FPS, crf=8)
    frames = choose(path)
    assert looked == list(STEPS) and frames.total == 30
    assert "frames.json was made from another film, or another encoding" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: text.replace('"made_from"', '"made_of"'),
        lambda text: text.replace('"found"', '"lost"'),
        lambda text: text.replace('"frames": "3"', '"frames": "3-x"'),
        lambda text: text.replace('"frames": "3"', '"frames": "0-99999999999"'),
        lambda text: text.replace('"frames": "3"', '"frames": "5,3"'),
        lambda text: text.replace('"frames": "3"', '"frames": 3'),
        lambda text: text.replace('"source_state": "', '"source_state": 1, "other": "'),
    ],
)
def test_a_damaged_file_is_made_anew_with_a_sentence(own, capsys, damage):
    path, looked = own
    first = choose(path)
    file = path.parent / "out" / "frames.json"
    whole = file.read_text()
    assert damage(whole) != whole
    file.write_text(damage(whole))
    looked.clear()
    capsys.readouterr()
    assert choose(path) == first and looked == list(STEPS) and file.read_text() == whole
    said = capsys.readouterr().out
    assert str(file) in said and said.endswith(f"looking through {path} again\n") and said.count("\n") == 1
