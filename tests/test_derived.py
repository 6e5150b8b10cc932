"""What is derived knows its source: an encoding its film, attached arrays their pictures, a bank its person
and its encoder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_training import CONFIG, toy_set

from raf_lite._files import write_npz
from raf_lite.bank import ExpressionBank, add_donor
from raf_lite.captures import annotate, open_capture, write_video
from raf_lite.captures.formats.encoding import encoding_file, encoding_problem, found_encoding, picture_files
from raf_lite.captures.origin import is_made_from, origin
from raf_lite.retrieval import RetrievalAugmentation
from raf_lite.training import Trainer


def film(path, seed=0, frames=4):
    write_video(path, np.random.default_rng(seed).integers(0, 256, (frames, 32, 32, 3), np.uint8), 12)
    return path


def encoded(path, file=None, frames=4, **more):
    """A made-up encoding, all rows `frames`, which says that it is of `path` unless `more` says otherwise."""
    more = more or origin(picture_files(path))
    file = file or encoding_file(path)
    write_npz(
        file,
        blendshapes=np.full((frames, 52), frames, np.float32),
        face_found=np.ones(frames, bool),
        head_pose=np.tile(np.eye(4), (frames, 1, 1)),
        encoder=np.array("mine"),
        **more,
    )
    return file


# -------------------------------------------------------------------------------------- encodings and films


def test_an_encoding_is_of_the_film_that_it_was_made_from(tmp_path):
    path = film(tmp_path / "take.mp4")
    file = encoded(path)
    assert file.name == "take.mp4.encoding.npz" and encoding_problem(path, file) is None
    os.utime(path, ns=(1, 1))
    assert encoding_problem(path, file) is None  # the same bytes, as a copy has them
    film(path, seed=1)
    assert "was made from other pictures than those of" in encoding_problem(path, file)
    capture = open_capture(path)
    assert capture.frames("video", "0").shape == (4, 32, 32, 3)  # its pictures can be looked at
    with pytest.raises(
        ValueError, match="take.mp4.encoding.npz was made from other pictures .*; encode .*take.mp4 again"
    ):
        capture.descriptors("video", "blendshapes")
    encoded(path)
    assert open_capture(path).descriptors("video", "blendshapes").shape == (4, 52)
    assert open_capture(path).encoder_of("video", "blendshapes") == "mine"


def test_films_of_one_stem_share_nothing(tmp_path):
    first, second = (
        film(tmp_path / "clip.mp4"),
        film(tmp_path / "clip.mov.mp4", seed=1).rename(tmp_path / "clip.mov"),
    )
    assert encoding_file(first) != encoding_file(second)
    encoded(first)
    assert found_encoding(second) is None and open_capture(second).annotations("video") == {}


def test_a_film_and_its_encoding_move_together(tmp_path):
    path = film(tmp_path / "a.mp4")
    file = encoded(path)
    (tmp_path / "b").mkdir()
    shutil.copy(path, tmp_path / "b/new.mp4")
    shutil.copy(file, tmp_path / "b/new.mp4.encoding.npz")
    assert "blendshapes" in open_capture(tmp_path / "b/new.mp4").annotations("video")


def test_old_encodings_are_believed_only_where_they_can_be_right(tmp_path):
    path = film(tmp_path / "clip.mp4")
    file = encoded(path, tmp_path / "clip.encoding.npz", fps=np.array(12.0))  # says nothing of its source
    assert found_encoding(path) == file and encoding_problem(path, file) is None
    os.utime(path, ns=(2**61, 2**61))
    assert "does not say what it was made from, and is older than" in encoding_problem(path, file)
    os.utime(path, ns=(1, 1))
    encoded(path, file, frames=3, fps=np.array(12.0))
    assert "has 3 frames and" in encoding_problem(path, file)
    encoded(path, file, fps=np.array(12.0))
    shutil.copy(path, tmp_path / "clip.mov")
    assert "from clip.mp4 or from clip.mov" in encoding_problem(path, file)


def test_a_folder_of_images_has_an_encoding_of_its_images(tmp_path):
    folder = tmp_path / "phone"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(folder / f"{k}.png")
    file = encoded(folder, frames=3)
    assert file.name == "phone.encoding.npz" and open_capture(folder).descriptors(
        "video", "blendshapes"
    ).shape == (3, 52)
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(folder / "1.png")
    with pytest.raises(ValueError, match="made from other pictures"):
        open_capture(folder).descriptors("video", "blendshapes")
    (folder / "1.png").rename(folder / "9.png")  # the same pictures in another order
    encoded(folder, frames=3, **origin(sorted(folder.iterdir(), key=lambda f: f.name, reverse=True)))
    assert not is_made_from(picture_files(folder), origin(picture_files(folder)[::-1]))


def test_what_encode_attached_is_void_once_the_pictures_change(tmp_path):
    path = film(tmp_path / "take.mp4")
    capture = open_capture(path)
    annotate(capture, "video", {"mine": np.zeros((4, 7))}, encoder="mine", pictures=[path])
    assert open_capture(path).descriptors("video", "mine").shape == (4, 7)
    assert (
        open_capture(path).encoder_of("video", "mine") == "mine"
        and open_capture(path).encoder_of("video", "other") is None
    )
    film(path, seed=1)
    with pytest.raises(
        ValueError, match="take.mp4.npz was made from other pictures .*; encode the capture again"
    ):
        open_capture(path).annotations("video")


# ----------------------------------------------------------------------------------------- bank and subject


def bank_with(rows, donor, encoder="mine"):
    rng = np.random.default_rng(1)
    donors = np.concatenate([np.repeat(["a", "b", "c"], 20), np.full(len(rows), donor)])
    return ExpressionBank.from_arrays(
        np.concatenate([rng.random((60, 4), np.float32), rows]), donors, encoder=encoder
    )


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_a_donor_with_the_subjects_frames_is_left_out_with_a_word(stored):
    own = np.random.default_rng(0).random((12, 4), np.float32)
    raf = RetrievalAugmentation(bank_with(own[3:6].astype(stored), "x"), k=2)
    with pytest.warns(
        UserWarning, match="frames of the subject itself, as donor x: nothing is taken of them"
    ):
        raf.fit(own)
    assert raf.excluded == ("x",) and raf.neighbours.max() < 60
    held_out = RetrievalAugmentation(bank_with(own[3:6].astype(stored), "x"), k=2)
    with pytest.warns(UserWarning, match="as donor x"):
        held_out.fit(own[6:], held_out=own[:6])
    assert held_out.neighbours.max() < 60 and len(held_out.neighbours) == 6  # of which nothing is learned
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raf.fit(own[8:])  # another person
        assert raf.excluded == ()
        RetrievalAugmentation(bank_with(own[3:6], "x"), subject="x").fit(own)  # named: no word is needed


def test_one_frame_that_is_everyones_makes_nobody_the_subject():
    own = np.random.default_rng(0).random((12, 4), np.float32)
    own[0] = 0
    rows = np.concatenate([np.zeros((3, 4)), np.random.default_rng(2).random((9, 4))])
    assert RetrievalAugmentation(bank_with(rows, "x")).fit(own).excluded == ()


def test_a_bank_of_the_subject_alone_is_refused():
    own = np.random.default_rng(0).random((12, 4), np.float32)
    with pytest.raises(ValueError, match="holds only the excluded donors"):
        RetrievalAugmentation(ExpressionBank.from_arrays(own, ["x"] * 12)).fit(own)
    bank = ExpressionBank.from_arrays(np.concatenate([own, own[:1] + 5]), ["x"] * 12 + ["y"])
    with pytest.raises(ValueError, match="as donor x, and 1 rows of others, fewer than k = 4"):
        RetrievalAugmentation(bank, k=4).fit(own)


def trainer(tmp_path, bank, **changes):
    retrieval = changes.pop("retrieval", "paper")
    data = replace(toy_set(), **{"subject": "ann", "encoder": "mine"} | changes)
    return Trainer(data, CONFIG.with_(retrieval=retrieval), tmp_path, bank=bank, device="cpu", progress=False)


def test_training_asks_by_whom_the_bank_was_encoded(tmp_path):
    rows = np.random.default_rng(5).random((3, 4))
    with pytest.raises(
        ValueError, match="come from encoder 'mine' and the bank from 'other'.*encode both with the same"
    ):
        trainer(tmp_path, bank_with(rows, "x", encoder="other"))
    with pytest.warns(UserWarning, match="the capture of ann does not say which encoder"):
        trainer(tmp_path, bank_with(rows, "x"), encoder=None)
    with pytest.warns(UserWarning, match="the bank does not say which encoder"):
        trainer(tmp_path, bank_with(rows, "x", encoder="unknown"))
    data = trainer(tmp_path, None, retrieval=None).data
    fitted = RetrievalAugmentation(bank_with(rows, "x", encoder="other")).fit(data.descriptors)
    with pytest.raises(ValueError, match="come from encoder 'mine' and the bank from 'other'"):
        Trainer(data, CONFIG, tmp_path, augmentation=fitted, progress=False)


def test_training_takes_nothing_of_the_subject(tmp_path):
    rows = np.random.default_rng(5).random((3, 4))
    with pytest.warns(UserWarning, match="a donor ann, as the subject is called: nothing is taken of them"):
        made = trainer(tmp_path, bank_with(rows, "ann"))
    assert made.augmentation.excluded == ("ann",) and made.augmentation.neighbours.max() < 60
    held_out = np.random.default_rng(6).random((5, 4), np.float32)
    with pytest.warns(UserWarning, match="as donor x"):
        made = trainer(tmp_path, bank_with(held_out[1:4], "x"), held_out=held_out)
    assert made.augmentation.neighbours.max() < 60
    fitted = RetrievalAugmentation(bank_with(rows, "ann")).fit(toy_set().descriptors)
    with pytest.raises(
        ValueError, match="donor ann of the bank is the subject .*; make it with subject='ann'"
    ):
        Trainer(made.data, CONFIG, tmp_path, augmentation=fitted, progress=False)
    Trainer(
        made.data,
        CONFIG,
        tmp_path,
        progress=False,
        augmentation=RetrievalAugmentation(bank_with(rows, "ann"), subject="ann").fit(toy_set().descriptors),
    )


def test_a_grown_bank_says_what_was_added_to_what(tmp_path):
    rng = np.random.default_rng(0)
    add_donor(tmp_path / "bank", {"d": rng.random((5, 4))}, encoder="mine", donor="ann", source="film 1")
    before = (tmp_path / "bank/bank.json").read_bytes()
    add_donor(tmp_path / "bank", {"d": rng.random((6, 4))}, encoder="mine", donor="bo")
    first, second = json.loads((tmp_path / "bank/bank.json").read_text())["added"]
    assert first == {"donor": "ann", "rows": 5, "source": "film 1", "bank": None}
    assert second == {"donor": "bo", "rows": 6, "source": None, "bank": hashlib.sha256(before).hexdigest()}
