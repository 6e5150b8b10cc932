"""Captures with something missing, twice or in an odd order: trained with what is there, or named in a
sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import format_writers as writers
import numpy as np
import pytest
import torch
from test_attached import masked_scene, turned
from test_fuzz import PARSERS
from test_training import CONFIG, toy_set

from raf_lite._files import write_npz
from raf_lite.captures import attach_head_poses, open_capture
from raf_lite.captures.capture import SplitRule
from raf_lite.evaluation.protocols import driving_cases
from raf_lite.training import PRESETS, Trainer, TrainingSet

FRONT, SIDE = "222200037", "222200046"


@pytest.fixture(autouse=True)
def scene(monkeypatch):
    monkeypatch.setattr(writers, "scene", masked_scene)


def nersemble(tmp_path, monkeypatch):
    """Two sequences of two cameras, all for training; the second sequence lacks the side camera."""
    monkeypatch.setattr("test_fuzz.tiny_scene", masked_scene)
    folder = PARSERS["nersemble"][0](tmp_path)
    (folder / "sequences/CROSS-101-FREE").rename(folder / "sequences/EXP-1-head")
    for kind in ("annotations", "truth"):
        (folder / kind / "CROSS-101-FREE.npz").rename(folder / kind / "EXP-1-head.npz")
    for sequence in ("FREE", "EXP-1-head"):
        masks = folder / "sequences" / sequence / "alpha_maps"
        (masks / f"cam_{SIDE}.mp4").write_bytes((masks / f"cam_{FRONT}.mp4").read_bytes())
        stored = dict(np.load(folder / f"annotations/{sequence}.npz"))
        write_npz(
            folder / f"annotations/{sequence}.npz", **{k: v for k, v in stored.items() if k != "landmarks68"}
        )
    (folder / f"sequences/EXP-1-head/images/cam_{SIDE}.mp4").unlink()
    return folder


def training(folder):
    return replace(open_capture(folder), split_rules={"default": SplitRule()})


def test_a_sequence_without_one_camera_trains_with_the_others(tmp_path, monkeypatch, capsys):
    capture = training(nersemble(tmp_path, monkeypatch))
    data = TrainingSet.from_capture(capture, PRESETS["fast"].with_(size=12), progress=False)
    assert (
        f"EXP-1-head was not filmed by camera(s) {SIDE}: trained with the others" in capsys.readouterr().out
    )
    assert [c.serial for c in data.cameras] == [FRONT, SIDE] and len(data.names) == 4
    lacking = [sequence == "EXP-1-head" for sequence, _ in data.names]
    np.testing.assert_array_equal(data.seen, [[True, not missing] for missing in lacking])
    assert not data.images[lacking, 1].any() and data.images[lacking, 0].any()
    assert capture.neutral[0] == "FREE" and data.names[data.neutral] == ("FREE", 0)


def test_cameras_and_sequences_of_which_there_is_nothing_are_left_out(tmp_path, monkeypatch, capsys):
    folder = nersemble(tmp_path, monkeypatch)
    (folder / f"sequences/FREE/images/cam_{SIDE}.mp4").unlink()
    data = TrainingSet.from_capture(training(folder), PRESETS["fast"].with_(size=12), progress=False)
    assert [c.serial for c in data.cameras] == [FRONT] and data.seen is None
    assert f"camera {SIDE} has filmed no training sequence and is left out" in capsys.readouterr().out
    rule = {"default": SplitRule(train_cameras=(SIDE,))}
    with pytest.raises(ValueError, match="no training camera has filmed a training sequence"):
        TrainingSet.from_capture(
            replace(open_capture(folder), split_rules=rule), PRESETS["fast"], progress=False
        )


def test_evaluation_asks_only_for_what_was_filmed(tmp_path, monkeypatch):
    capture = replace(
        open_capture(nersemble(tmp_path, monkeypatch)),
        split_rules={"default": SplitRule(("FREE",), holdout_cameras=(SIDE,))},
    )
    cases = {
        (case.protocol, case.sequence): case.serials for case in driving_cases(capture, {}, "blendshapes")
    }
    assert cases == {("training views", "EXP-1-head"): (FRONT,), ("self", "FREE"): (FRONT, SIDE)}


def test_training_never_looks_at_pictures_that_nobody_took(tmp_path):
    """What stands in their place does not matter, and frames that are whole are drawn as ever."""
    data, avatars = toy_set(), []
    seen = np.ones((len(data.names), 3), bool)
    seen[3:, 1] = False
    for filling in (0, 200):
        images = data.images.copy()
        images[~seen] = filling
        masks = np.where(seen[..., None, None], data.masks, filling).astype(np.uint8)
        some = replace(data, images=images, masks=masks, seen=seen)
        avatars.append(Trainer(some, CONFIG, tmp_path / str(filling), device="cpu", progress=False).train())
    assert all(
        torch.equal(a, b) for a, b in zip(avatars[0].parameters(), avatars[1].parameters(), strict=True)
    )
    whole, told = (
        Trainer(replace(data, seen=s), CONFIG, tmp_path / f"whole{k}", device="cpu", progress=False).train()
        for k, s in enumerate((None, np.ones_like(seen)))
    )
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), told.parameters(), strict=True))


def test_the_first_gaussians_are_carved_from_cameras_that_filmed(tmp_path):
    data = toy_set()
    seen = np.ones((len(data.names), 3), bool)
    seen[data.neutral, 1] = False
    black = data.masks.copy()
    black[data.neutral, 1] = 0  # an empty mask would carve everything away
    avatar = Trainer(
        replace(data, masks=black, seen=seen), CONFIG, tmp_path, device="cpu", progress=False
    ).avatar
    assert len(avatar.means) == CONFIG.gaussians


# --------------------------------------------------------------------------------------- once, and in order


def rename_steps(folder, names):
    for kind in ("images", "cameras", "params"):
        for old in sorted(names, reverse=True):
            (folder / kind / old).rename(folder / kind / names[old])


def test_gha_past_frame_9999_and_with_a_step_twice(tmp_path):
    folder = writers.write_gha(tmp_path)
    rename_steps(folder, {f"{t:04d}": f"{9997 + t}" for t in range(writers.FRAMES)})
    capture = open_capture(folder)
    assert [int(p.parent.name) for p in capture.source.pictures("all", "22220")] == list(range(9997, 10003))
    np.testing.assert_array_equal(capture.descriptors("all", "bfm_exp"), writers.made_up(64))
    rename_steps(folder, {"9998": "09999"})
    with pytest.raises(
        ValueError, match=r"holds the folders 0?9999 and 0?9999, which are one time step twice; remove one"
    ):
        open_capture(folder)


def test_gha_names_a_camera_that_lacks_its_first_frame(tmp_path):
    folder = writers.write_gha(tmp_path)
    (folder / "images/0000/image_22221.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="there is no image .*0000/image_22221.jpg"):
        open_capture(folder)


@pytest.mark.parametrize("split", ["train", "test"])
def test_vhap_with_a_time_step_twice(tmp_path, split):
    folder = writers.write_vhap(tmp_path)
    file = folder / f"transforms_{split}.json"
    frames = json.loads(file.read_text())
    frames["frames"].append(json.loads((folder / "transforms_train.json").read_text())["frames"][1])
    file.write_text(json.dumps(frames))
    twice = f"transforms_{split}.json frame .*: time step 0 of 306_EMO-1, camera 01, stands a second"
    with pytest.raises(ValueError, match=twice):
        open_capture(folder)


@pytest.mark.parametrize(
    "write, file, sequence, code",
    [
        (writers.write_insta, "transforms_train.json", "train", "flame_exp"),
        (writers.write_imavatar, "yufeng/MVI_1810/flame_params.json", "MVI_1810", "flame_exp"),
    ],
)
def test_one_cameras_frames_are_ordered_by_the_number_in_their_name(tmp_path, write, file, sequence, code):
    folder = write(tmp_path)
    before = open_capture(folder)
    content = json.loads((folder / file).read_text())
    content["frames"].reverse()
    (folder / file).write_text(json.dumps(content))
    after = open_capture(folder)
    assert after.source.pictures(sequence, "0") == before.source.pictures(sequence, "0")
    np.testing.assert_array_equal(after.descriptors(sequence, code), before.descriptors(sequence, code))
    content["frames"].append(content["frames"][2])
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match="its frames name .* and .*, which are one time step twice; remove one of them"
    ):
        open_capture(folder)


def test_images_of_one_number(tmp_path):
    folder = writers.write_images(tmp_path)
    (folder / "frame09.png").write_bytes((folder / "frame9.png").read_bytes())
    (folder / "masks/frame09.png").write_bytes((folder / "masks/frame9.png").read_bytes())
    with pytest.raises(
        ValueError, match="holds the images frame0?9 and frame0?9, which are one time step twice"
    ):
        open_capture(folder)


def test_videos_of_imavatar_are_in_natural_order(tmp_path):
    folder = writers.write_imavatar(tmp_path)
    for old, new in (("MVI_1810", "take9"), ("MVI_1814", "take10")):
        (folder / "yufeng" / old).rename(folder / "yufeng" / new)
    capture = open_capture(folder)
    assert capture.sequences == ("take9", "take10") and capture.split().holdout_sequences == ("take10",)
    attach_head_poses(capture, "take9", turned(capture.n_frames("take9")))
