"""Training frames: the same in memory and on disk, resumed after a kill, bounded, over white, from one camera
or many."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, posix

from raf_lite._files import write_npz
from raf_lite.captures import Camera, open_capture, write_video
from raf_lite.captures.capture import SplitRule
from raf_lite.captures.formats.nersemble import NersembleSource, write_calibration
from raf_lite.manifest import find_data
from raf_lite.training import PRESETS, Trainer, TrainingSet, training_set

CONFIG = PRESETS["fast"].with_(size=64, steps=2)
MOMENTS = ("EXP-1-head", "EXP-8-jaw-1")


@pytest.fixture
def capture(data_dir, tmp_path, monkeypatch):
    """Two sequences of the shipped capture, and a cache of its own."""
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    whole = open_capture(data_dir / "mini_nersemble" / "001")
    return replace(whole, sequences=MOMENTS)


def test_on_disk_and_in_memory_are_the_same(capture, monkeypatch):
    memory = TrainingSet.from_capture(capture, CONFIG, progress=False)
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    disk = TrainingSet.from_capture(capture, CONFIG, progress=False)
    assert isinstance(disk.images, np.memmap) and disk.fingerprint and not memory.fingerprint
    np.testing.assert_array_equal(disk.images, memory.images)
    np.testing.assert_array_equal(disk.masks, memory.masks)
    assert memory.images.shape == (52, 4, 64, 64, 3) and disk.names == memory.names
    # What was decoded frame by frame is what the capture shows, averaged over blocks.
    full = capture.images("EXP-8-jaw-1", disk.cameras[1].serial, np.array([3]))[0]
    factor = full.shape[0] // 64
    blocks = full.reshape(64, factor, 64, factor, 3).mean((1, 3))
    assert np.abs(disk.images[disk.names.index(("EXP-8-jaw-1", 3)), 1] / 255 - blocks).max() < 0.6 / 255


PEAK = """
import resource, sys
from pathlib import Path
from raf_lite.captures import open_capture
from raf_lite.training import PRESETS, TrainingSet, training_set
training_set.MEMORY_BYTES = 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = TrainingSet.from_capture(open_capture(Path(sys.argv[1])), PRESETS["fast"].with_(size=256),
                                 progress=False)
print(data.images.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@posix
def test_full_size_frames_stream(tmp_path):
    """NeRSemble's 3208x2200 pixels: 40 frames take 850 MB if they are all held, and a few frames' worth if
    they are not."""
    folder, front = tmp_path / "007", "222200037"
    camera = Camera(
        front,
        np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 100], [0, 0, 0, 1]]),
        np.array([[8000.0, 0, 1100], [0, 8000, 1604], [0, 0, 1]]),
        2200,
        3208,
    )
    write_calibration(folder, {front: camera})
    picture = np.full((3208, 2200, 3), 255, np.uint8)
    picture[800:2400, 500:1700] = 90
    for kind, frame in (("images", picture), ("alpha_maps", 255 - picture[..., 0])):
        write_video(
            folder / f"sequences/EXP-1-head/{kind}/cam_{front}.mp4",
            (frame for _ in range(40)),
            73,
            gray=frame.ndim == 2,
        )
    write_npz(
        folder / "annotations/EXP-1-head.npz",
        head_pose=np.tile(np.eye(4, dtype=np.float32), (40, 1, 1)),
        blendshapes=np.random.default_rng(0).uniform(size=(40, 52)).astype(np.float32),
    )
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAF_LITE_CACHE": str(tmp_path / "cache")},
    )
    assert run.returncode == 0, run.stderr
    shape, grown = run.stdout.rsplit(" ", 1)
    assert shape == "(40, 1, 267, 183, 3)" and int(grown) < 400, run.stdout


def test_a_killed_preparation_goes_on_and_a_finished_one_is_not_repeated(capture, monkeypatch):
    whole = TrainingSet.from_capture(capture, CONFIG, progress=False)
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    real, read = training_set._read_video, []

    def dies(capture, sequence, serial, *rest):
        if len(read) == 3:
            raise KeyboardInterrupt
        read.append((sequence, serial))
        real(capture, sequence, serial, *rest)

    monkeypatch.setattr(training_set, "_read_video", dies)
    with pytest.raises(KeyboardInterrupt):
        TrainingSet.from_capture(capture, CONFIG, progress=False)
    first = list(read)
    read.clear()
    monkeypatch.setattr(training_set, "_read_video", lambda *a: read.append(a[1:3]) or real(*a))
    resumed = TrainingSet.from_capture(capture, CONFIG, progress=False)
    assert len(first) == 3 and len(read) == 8 - 3 and not set(first) & set(read)
    np.testing.assert_array_equal(resumed.images, whole.images)
    read.clear()
    TrainingSet.from_capture(capture, CONFIG, progress=False)
    assert not read


def test_pictures_that_were_kept_and_are_damaged_are_read_again(capture, monkeypatch, capsys):
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    capture = replace(capture, sequences=MOMENTS[:1])
    before = TrainingSet.from_capture(capture, CONFIG, progress=False)
    images, masks = np.array(before.images), np.array(before.masks)
    folder = training_set.cache_dir("frames") / before.fingerprint
    del before
    whole = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(whole[:-1000])  # a map to be written would make it longer, in black
    again = TrainingSet.from_capture(capture, CONFIG, progress=False)
    said = capsys.readouterr().out
    assert re.fullmatch(
        rf"the training pictures kept in {folder} are damaged \(.*\) and are read again\n", said
    )
    np.testing.assert_array_equal(again.images, images)
    np.testing.assert_array_equal(again.masks, masks)
    TrainingSet.from_capture(capture, CONFIG, progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name, content",
    [
        ("done.json", b""),
        ("done.json", b"{}"),
        ("done.json", b"[3]"),
        ("done.json", b'[["FREE"]]'),
        ("done.json", b'[[["FREE"], {}]]'),
        ("done.json", b'[["another", "1"]]'),
        ("images.npy", None),
        ("images.npy", b""),
        ("images.npy", np.zeros((2, 1, 4, 5), np.uint8)),
        ("masks.npy", np.zeros((2, 1, 4, 5), np.float32)),
        ("masks.npy", np.zeros((1, 1, 4, 5), np.uint8)),
        ("masks.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64),
    ],
)
def test_kept_pictures_that_are_not_believed(tmp_path, capsys, name, content):
    def kept():
        shapes = {"images": (2, 1, 4, 5, 3), "masks": (2, 1, 4, 5)}
        return training_set._kept(tmp_path, shapes, [("FREE", "1"), ("FREE", "2")])

    assert kept() is None and capsys.readouterr().out == ""
    np.save(tmp_path / "images.npy", np.zeros((2, 1, 4, 5, 3), np.uint8))
    np.save(tmp_path / "masks.npy", np.zeros((2, 1, 4, 5), np.uint8))
    (tmp_path / "done.json").write_text('[["FREE", "1"]]')
    assert kept() == [("FREE", "1")]
    (tmp_path / name).unlink()
    if isinstance(content, np.ndarray):
        np.save(tmp_path / name, content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    assert kept() is None
    said = capsys.readouterr().out
    assert (
        said.startswith(f"the training pictures kept in {tmp_path} are damaged (") and said.count("\n") == 1
    )


def test_the_cache_is_bounded_by_dropping_what_was_not_used_for_longest(capture, monkeypatch):
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    sets = [TrainingSet.from_capture(capture, CONFIG.with_(size=size), progress=False) for size in (32, 64)]
    folder = training_set.cache_dir("frames")
    assert {f.name for f in folder.iterdir()} == {s.fingerprint for s in sets}
    size = sum(f.stat().st_size for f in (folder / sets[1].fingerprint).iterdir())
    monkeypatch.setattr(training_set, "CACHE_BYTES", int(size * 1.1))
    only = TrainingSet.from_capture(
        replace(capture, sequences=MOMENTS[1:], neutral=None), CONFIG, progress=False
    )
    assert [f.name for f in folder.iterdir()] == [only.fingerprint]
    monkeypatch.setattr(training_set, "CACHE_BYTES", 1000)
    with pytest.raises(ValueError, match="need 0.0 GB on disk, and .* may hold"):
        TrainingSet.from_capture(capture, CONFIG, progress=False)


def test_pictures_that_another_training_reads_on_windows_stay(capture, monkeypatch):
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    first, second = (
        TrainingSet.from_capture(capture, CONFIG.with_(size=size), progress=False) for size in (32, 48)
    )
    folder = training_set.cache_dir("frames")
    held = folder / first.fingerprint
    rename = Path.rename

    def as_windows_does(path, target):
        if path == held:
            raise PermissionError(
                13, "The process cannot access the file because it is being used by another process"
            )
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", as_windows_does)
    monkeypatch.setattr(training_set, "CACHE_BYTES", 2 * first.images.size)
    new = TrainingSet.from_capture(
        replace(capture, sequences=MOMENTS[1:], neutral=None), CONFIG.with_(size=32), progress=False
    )
    assert {f.name for f in folder.iterdir()} == {
        first.fingerprint,
        new.fingerprint,
    }  # the second went in its place
    assert {f.name for f in held.iterdir()} == {"images.npy", "masks.npy", "done.json"}


def test_an_avatar_trains_from_disk_and_a_finished_one_is_read(capture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    for _ in range(2):
        data = TrainingSet.from_capture(capture, CONFIG, progress=False)
        avatar = Trainer(data, CONFIG, tmp_path / "run", device="cpu", progress=False).train(resume=True)
    assert "is trained already" in capsys.readouterr().out
    np.testing.assert_array_equal(avatar.neutral_descriptor, data.descriptors[data.neutral])


@dataclass(frozen=True)
class Backdrop(NersembleSource):
    """A source whose pictures have a dark backdrop behind the head, as a studio's have."""

    def iter_frames(self, sequence, serial, rows=None):
        masks = self.iter_masks(sequence, serial, rows)
        for frame, mask in zip(super().iter_frames(sequence, serial, rows), masks):
            yield np.where(mask[..., None] > 127, frame, 30).astype(np.uint8)


def test_a_backdrop_becomes_white(capture):
    serial = capture.encoder_camera
    np.testing.assert_array_equal(
        capture.over_white("EXP-8-jaw-1", serial), capture.frames("EXP-8-jaw-1", serial)
    )
    studio = replace(capture, source=Backdrop(**vars(capture.source)))
    cut = studio.over_white("EXP-8-jaw-1", serial, np.array([0]))[0]
    mask = studio.masks("EXP-8-jaw-1", serial, np.array([0]))[0]
    assert (cut[mask == 0] == 255).all() and (studio.frames("EXP-8-jaw-1", serial)[0][mask == 0] == 30).all()
    np.testing.assert_array_equal(cut[mask == 1], capture.frames("EXP-8-jaw-1", serial)[0][mask == 1])
    data = TrainingSet.from_capture(studio, CONFIG, progress=False)
    assert data.images.shape[2:4] == (64, 64) and (data.images[data.masks == 0] == 255).all()


def test_one_camera_and_a_turning_head_are_enough_to_start(capture, tmp_path):
    front = capture.encoder_camera
    alone = replace(
        capture, split_rules={"default": SplitRule(train_cameras=(front,))}, sequences=("EXP-1-head",)
    )
    data = TrainingSet.from_capture(alone, CONFIG, progress=False)
    assert len(data.cameras) == 1 and data.landmarks is not None
    data = replace(data, landmarks=None)  # with them no turn is needed
    rotation = data.head_poses[:, :3, :3]
    angles = np.degrees(np.arccos(((rotation @ rotation[data.neutral].T).trace(axis1=1, axis2=2) - 1) / 2))
    if angles.max() < 15:
        with pytest.raises(ValueError, match="do not show its shape"):
            Trainer(data, CONFIG, tmp_path, device="cpu", progress=False)
    turned = _turning(data)
    trainer = Trainer(turned, CONFIG, tmp_path, device="cpu", progress=False)
    assert np.isfinite(trainer.avatar.means.detach().numpy()).all()
    assert (
        np.abs(trainer.avatar.similarity.centre - [0, 0.5, 2.0]).max() < 6
    )  # about where the head is, in cm


def _turning(data: TrainingSet) -> TrainingSet:
    """The neutral moment seen by four cameras, told as one camera before which a head turns."""
    capture = open_capture(find_data() / "mini_nersemble" / "001")
    many = TrainingSet.from_capture(replace(capture, sequences=("EXP-1-head",)), CONFIG, progress=False)
    n, first = many.neutral, many.cameras[0]
    poses = np.stack(
        [np.linalg.inv(first.world_to_camera) @ c.world_to_camera @ many.head_poses[n] for c in many.cameras]
    )
    camera = Camera(first.serial, first.world_to_camera, first.K, first.width, first.height)
    return TrainingSet(
        many.images[n, :, None],
        many.masks[n, :, None],
        np.repeat(many.descriptors[n : n + 1], 4, 0) + np.arange(4)[:, None] * 0.01,
        poses,
        [camera],
        [("EXP-1-head", t) for t in range(4)],
        0,
    )


def test_without_a_named_neutral_the_middle_expression_stands_in(capture):
    data = TrainingSet.from_capture(replace(capture, neutral=None), CONFIG, progress=False)
    distance = np.linalg.norm(data.descriptors - data.descriptors.mean(0), axis=1)
    assert distance[data.neutral] == distance.min()
    with pytest.raises(ValueError, match="no usable training frame"):
        TrainingSet.from_capture(replace(capture, neutral=("FREE", 0)), CONFIG, progress=False)
