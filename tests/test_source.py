"""Sources of captures: which files a sequence and camera are made from, in every format, and that a change of
any is noticed."""

from __future__ import annotations

import os
from dataclasses import replace

import format_writers as writers
import numpy as np
import pytest
from PIL import Image
from test_fuzz import PARSERS, tiny_scene

from raf_lite._files import write_npz
from raf_lite.captures import FORMATS, open_capture, read_video, write_video
from raf_lite.captures.capture import SplitRule
from raf_lite.training import PRESETS, TrainingSet, training_set

# What lies in each format's small folder and is read for no picture, mask, camera, descriptor or pose: ends
# of names.
UNRELATED = {
    "nersemble": ("truth/FREE.npz", "truth/CROSS-101-FREE.npz", "color_calibration.json"),
    "insta": ("transforms_val.json",),  # a part of test
    "gha": tuple(f"image_lowres_2222{c}.jpg" for c in range(3)),
}
FRONT = "222200037"


@pytest.fixture(params=FORMATS)
def opened(request, tmp_path, monkeypatch):
    """A format's name and its small capture, drawn from noise."""
    monkeypatch.setattr(writers, "scene", tiny_scene)
    return request.param, open_capture(PARSERS[request.param][0](tmp_path))


def cameras_of(capture):
    return [
        (sequence, serial)
        for sequence in (*capture.sequences, *capture.cross_sequences)
        for serial in capture.cameras_of(sequence)
    ]


def fingerprint(capture, downscale=1) -> str:
    found = {s: np.ones(capture.n_frames(s), bool) for s in (*capture.sequences, *capture.cross_sequences)}
    return training_set._fingerprint(capture, found, dict.fromkeys(capture.cameras, downscale))


def later(file) -> None:
    """The same bytes, written one nanosecond later."""
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def test_everything_but_the_unrelated_is_a_file_of_some_camera(opened, tmp_path):
    name, capture = opened
    listed = [capture.source.files(*key) for key in cameras_of(capture)]
    assert all(len(files) == len(set(files)) for files in listed)
    there = {path.resolve() for path in tmp_path.rglob("*") if path.is_file()}
    unrelated = {path for path in there if path.as_posix().endswith(UNRELATED.get(name, "/nothing"))}
    assert {file.resolve() for files in listed for file in files} == there - unrelated and len(there) > len(
        unrelated
    )


def test_any_file_that_changes_changes_the_fingerprint_and_no_other_does(opened, tmp_path):
    """Pictures, masks, calibration, descriptors, poses: every file in turn."""
    name, capture = opened
    (tmp_path / "notes.txt").write_text("read by nobody")
    (tmp_path / "notes.encoding.npz").write_text("of another video")
    seen = {fingerprint(capture)}
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        later(path)
        new = fingerprint(capture)
        assert (new in seen) == path.as_posix().endswith(
            (*UNRELATED.get(name, ()), "notes.txt", "notes.encoding.npz")
        ), path
        seen.add(new)
    assert fingerprint(capture) in seen


@pytest.mark.parametrize(
    "name, key, own, others",
    [
        (
            "nersemble",
            ("FREE", FRONT),
            "images/cam_222200037.mp4",
            ("cam_222200046.mp4", "CROSS-101-FREE.npz"),
        ),
        ("vhap", ("306_EMO-1-train", "01"), "fg_masks/00002_01.png", ("_00.png", "_02.png", "00005.npz")),
        (
            "gha",
            ("all", "22221"),
            "cameras/0003/camera_22221.npz",
            ("_22220.npz", "_22220.jpg", "_22222.jpg"),
        ),
        (
            "imavatar",
            ("MVI_1810", "0"),
            "MVI_1810/mask/2.png",
            ("MVI_1814/flame_params.json", "MVI_1814/image/1.png"),
        ),
        ("insta", ("train", "0"), "flame/exp/00002.txt", ("images/00005.png", "flame/exp/00005.txt")),
    ],
)
def test_other_sequences_and_cameras_do_not_count(tmp_path, monkeypatch, name, key, own, others):
    monkeypatch.setattr(writers, "scene", tiny_scene)
    files = [file.as_posix() for file in open_capture(PARSERS[name][0](tmp_path)).source.files(*key)]
    assert any(file.endswith(own) for file in files) and not any(file.endswith(others) for file in files)


def test_the_first_videos_camera_is_every_videos(tmp_path, monkeypatch):
    """IMavatar: the intrinsics that the reader keeps are the first file's."""
    monkeypatch.setattr(writers, "scene", tiny_scene)
    folder = writers.write_imavatar(tmp_path)
    names = [
        file.parent.name
        for file in open_capture(folder).source.files("MVI_1814", "0")
        if file.suffix == ".json"
    ]
    assert names == ["MVI_1810", "MVI_1814"]


def test_files_that_come_and_go_and_settings_count(tmp_path):
    folder = PARSERS["nersemble"][0](tmp_path)
    capture = open_capture(folder)
    seen = [
        fingerprint(capture),
        fingerprint(capture, 2),
        fingerprint(open_capture(folder, downscale=2)),
        fingerprint(open_capture(folder, crop=(0, 0, 12, 12))),
    ]
    mask = folder / "sequences/FREE/alpha_maps" / f"cam_{FRONT}.mp4"
    state = mask.stat()
    mask.write_bytes(mask.read_bytes() + b"\0")
    os.utime(mask, ns=(state.st_atime_ns, state.st_mtime_ns))
    seen.append(fingerprint(capture))  # longer at the same time
    mask.unlink()
    seen.append(fingerprint(capture))
    assert len(set(seen)) == len(seen)


def test_a_moved_capture_keeps_its_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", tiny_scene)
    (tmp_path / "here").mkdir()
    folder = writers.write_vhap(tmp_path / "here")
    before = fingerprint(open_capture(folder))
    monkeypatch.chdir(folder.parent)
    assert fingerprint(open_capture(folder.name)) == before
    (tmp_path / "here").rename(tmp_path / "there")
    assert fingerprint(open_capture(tmp_path / "there" / folder.name)) == before


def test_a_file_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", tiny_scene)
    capture = open_capture(writers.write_gha(tmp_path))
    (capture.root / "images/0003/mask_22221.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="there is no .*0003/mask_22221.jpg; copy the capture again"):
        fingerprint(capture)


def test_a_camera_that_did_not_film_has_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", tiny_scene)
    for name, sequence in (("nersemble", "FREE"), ("vhap", "306_EMO-1-train")):
        files = open_capture(PARSERS[name][0](tmp_path)).source.files(sequence, "99")
        assert not any(file.suffix in (".mp4", ".png") for file in files) and any(
            file.suffix == ".npz" for file in files
        )


# ---------------------------------------------------------------------------------- what training then sees


def test_new_masks_of_images_reach_the_training_set(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", tiny_scene)
    monkeypatch.setattr(
        training_set, "MEMORY_BYTES", 0
    )  # as if the pictures needed more than 2 GB: they are kept on disk
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    folder = writers.write_gha(tmp_path)
    config = PRESETS["fast"].with_(descriptor="bfm_exp", size=12)
    old = TrainingSet.from_capture(open_capture(folder), config, progress=False)
    again = TrainingSet.from_capture(open_capture(folder), config, progress=False)
    assert old.masks[..., 6:, :].min() > 245 and again.fingerprint == old.fingerprint
    for mask in folder.glob("images/*/mask_*.jpg"):
        Image.fromarray(np.asarray(Image.open(mask).convert("L")) // 4 * 3).save(mask, quality=98)
    new = TrainingSet.from_capture(open_capture(folder), config, progress=False)
    assert np.abs(new.masks[..., 6:, :].astype(int) - 190).max() < 6 and old.masks[..., 6:, :].min() > 245


def test_new_masks_of_videos_reach_the_training_set(tmp_path, monkeypatch):
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    folder = PARSERS["nersemble"][0](tmp_path)
    config = PRESETS["fast"].with_(size=12)

    def read():
        capture = replace(open_capture(folder), split_rules={"default": SplitRule(train_cameras=(FRONT,))})
        return TrainingSet.from_capture(capture, config, progress=False)

    before = read()
    video = folder / "sequences/FREE/alpha_maps" / f"cam_{FRONT}.mp4"
    masks = read_video(video, gray=True)
    video.unlink()
    write_video(video, masks // 4 * 3, 12, gray=True)
    after = read()
    assert (
        before.masks[..., 6:, :].min() > 245 and np.abs(after.masks[..., 6:, :].astype(int) - 190).max() < 6
    )
    poses = dict(np.load(folder / "annotations/FREE.npz"))
    poses["head_pose"][:, 0, 3] += 1
    write_npz(folder / "annotations/FREE.npz", **poses)
    moved = read()
    assert len({before.fingerprint, after.fingerprint, moved.fingerprint}) == 3
    np.testing.assert_array_equal(moved.head_poses[:, 0, 3], before.head_poses[:, 0, 3] + 1)


# ------------------------------------------------------------------------------------------ what they share


def test_every_source_is_reduced_alike(opened):
    """Twice as small, twice: pictures of the cameras' size, crop kept."""
    name, capture = opened
    small = (
        replace(
            capture,
            source=replace(capture.source, crop=(0, 0, 8, 8)),
            cameras={s: c.cropped(0, 0, 8, 8) for s, c in capture.cameras.items()},
        )
        .reduced(2)
        .reduced(2)
    )
    assert (
        small.source.downscale == 4
        and small.source.crop == (0, 0, 8, 8)
        and type(small.source) is type(capture.source)
    )
    sequence, serial = cameras_of(capture)[0]
    frame, camera = small.first_frame(sequence, serial), small.cameras[serial]
    assert frame.shape == (2, 2, 3) == (camera.height, camera.width, 3)
    blocks = capture.first_frame(sequence, serial)[:8, :8].reshape(2, 4, 2, 4, 3).mean((1, 3))
    assert np.abs(frame - blocks).max() <= 1


def test_only_rendered_captures_have_a_truth(opened):
    name, capture = opened
    sequence = cameras_of(capture)[0][0]
    if name == "nersemble":
        assert capture.truth(sequence)
    else:
        with pytest.raises(
            FileNotFoundError, match="of no rendered capture: nobody knows its truth"
        ) as error:
            capture.truth(sequence)
        assert str(capture.root) in str(error.value)
