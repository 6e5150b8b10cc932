"""The zip for the NeRSemble benchmark: what is written passes our check and the benchmark's own reader,
faults are named."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from raf_lite.avatar import GaussianAvatar, Similarity
from raf_lite.captures import open_capture, read_video
from raf_lite.captures.submission import (
    CAMERAS,
    PARTICIPANTS,
    SEQUENCES,
    SIZE,
    check_submission,
    video_name,
    write_submission,
)
from raf_lite.evaluation.submission import submit_avatars


def pictures(participant: int, sequence: str, serial: str, count: int):
    """A grey of its own for each video, a little lighter with every frame."""
    grey = (
        40 + 30 * PARTICIPANTS.index(participant) + 8 * SEQUENCES.index(sequence) + 2 * CAMERAS.index(serial)
    )
    for t in range(count):
        yield np.full((SIZE, SIZE, 3), grey + 20 * t, np.uint8)


FRAMES = {(p, s): 2 + (p + len(s)) % 2 for p in PARTICIPANTS for s in SEQUENCES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All eighty videos that the benchmark asks for, two or three frames each."""
    videos = {(p, s, c): pictures(p, s, c, n) for (p, s), n in FRAMES.items() for c in CAMERAS}
    return write_submission(tmp_path_factory.mktemp("submission") / "mono.zip", videos, FRAMES)


@pytest.fixture
def small():
    """One sequence, as the arguments of write_submission."""
    key = (393, "FREE")
    return {(*key, serial): list(pictures(*key, serial, 2)) for serial in CAMERAS}, {key: 2}


def test_a_whole_submission_passes_and_holds_what_was_given(whole, tmp_path):
    assert check_submission(whole) == [] and check_submission(whole, FRAMES) == []
    with zipfile.ZipFile(whole) as archive:
        assert (
            len(archive.namelist()) == 80 and "404/EMO-1-shout+laugh/cam_222200046.mp4" in archive.namelist()
        )
        archive.extractall(tmp_path)
    key = (477, "SEN-09-frown_events_bad", "220700191")
    read = read_video(tmp_path / video_name(*key))
    given = np.stack(list(pictures(*key, FRAMES[key[:2]])))
    assert read.shape == given.shape and np.abs(read.astype(int) - given).max() <= 3
    assert not list(whole.parent.glob(".*"))


def test_the_same_pictures_give_the_same_bytes(small, tmp_path):
    first, second = (write_submission(tmp_path / name, *small).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second


def missing(videos, frames):
    del videos[393, "FREE", "220700191"]


def stranger(videos, frames):
    videos[393, "EXP-1-head", "222200037"] = []


def short(videos, frames):
    videos[393, "FREE", "222200039"].pop()


def long(videos, frames):
    videos[393, "FREE", "222200039"] *= 3


def little(videos, frames):
    videos[393, "FREE", "222200046"][1] = np.zeros((256, 256, 3), np.uint8)


def floating(videos, frames):
    videos[393, "FREE", "222200046"][0] = np.zeros((SIZE, SIZE, 3), np.float32)


@pytest.mark.parametrize(
    "fault, message",
    [
        (missing, "participant 393, sequence FREE, camera 220700191 is missing"),
        (stranger, "participant 393, sequence EXP-1-head, camera 222200037 is not asked for"),
        (short, "participant 393, sequence FREE, camera 222200039 has 1 frames where 2 are asked for"),
        (long, "participant 393, sequence FREE, camera 222200039 has more frames where 2 are asked for"),
        (
            little,
            (
                r"frame 1 of the video of participant 393, sequence FREE, camera 222200046 is uint8 \[256,"
                r" 256, 3\]"
            ),
        ),
        (floating, "frame 0 of the video of participant 393, sequence FREE, camera 222200046 is float32"),
    ],
)
def test_faults_are_named_and_leave_the_old_file_alone(small, tmp_path, fault, message):
    path = tmp_path / "mono.zip"
    path.write_bytes(b"before")
    fault(*small)
    with pytest.raises(ValueError, match=message):
        write_submission(path, *small)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_a_faulty_zip_is_told_video_by_video(whole, small, tmp_path):
    one = write_submission(tmp_path / "one.zip", *small)
    problems = check_submission(one)
    assert len(problems) == 76 and all("is missing" in problem for problem in problems)
    assert check_submission(one, small[1]) == []
    assert len(check_submission(one, {(393, "FREE"): 3})) == 4
    broken, other = tmp_path / "broken.zip", video_name(477, "FREE", "222200046")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"no video" if name == other else old.read(name))
    assert [re.sub(";.*", "", p) for p in check_submission(broken)] == [
        "the video of participant 477, sequence FREE, camera 222200046 cannot be read as a video"
    ]
    flipped = bytearray(whole.read_bytes())
    flipped[1000] ^= 1
    broken.write_bytes(bytes(flipped))
    assert "participant 393, sequence FREE, camera 222200037 cannot be read" in check_submission(broken)[0]
    broken.write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="broken.zip is no zip"):
        check_submission(broken)
    with pytest.raises(FileNotFoundError, match="no submission"):
        check_submission(tmp_path / "nothing.zip")


# -- an avatar's submission
# ----------------------------------------------------------------------------------------------------


def avatar_of(capture) -> GaussianAvatar:
    """An untrained head of 60 grey Gaussians, as large as the capture's."""
    generator = torch.Generator().manual_seed(0)
    radius = np.ptp(capture.landmarks68("EXP-1-head")[0], axis=0).max()
    points = torch.randn(60, 3, generator=generator) * 0.3
    return GaussianAvatar(
        points,
        torch.full((60, 3), 0.4),
        0.15,
        Similarity(np.zeros(3), float(radius)),
        descriptor="blendshapes",
        descriptor_mean=torch.zeros(52),
        descriptor_scale=1.0,
    )


@pytest.fixture(scope="module")
def short_person(data_dir, tmp_path_factory):
    """The shipped subject with one hold-out sequence and one that trains."""
    source, folder = data_dir / "mini_nersemble/001", tmp_path_factory.mktemp("capture") / "001"
    shutil.copytree(source / "calibration", folder / "calibration")
    shutil.copy(source / "capture.json", folder)
    for sequence in ("EMO-1-shout+laugh", "EXP-1-head"):
        shutil.copytree(source / "sequences" / sequence, folder / "sequences" / sequence)
        (folder / "annotations").mkdir(exist_ok=True)
        shutil.copy(source / f"annotations/{sequence}.npz", folder / "annotations")
    return folder


def lose_faces(folder, frames):
    """Mark frames of the hold-out sequence as without a face."""
    path = folder / "annotations/EMO-1-shout+laugh.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["face_found"][frames] = False
    np.savez(path, **arrays)


def test_an_avatar_is_rendered_into_a_submission(short_person, tmp_path):
    capture = open_capture(short_person)
    driven = []

    class Spy(GaussianAvatar):
        def render(self, descriptors, head_poses, cameras, background=1.0):
            driven.append((descriptors[0], cameras[0].serial))
            assert (cameras[0].width, cameras[0].height) == (SIZE, SIZE)
            return super().render(descriptors, head_poses, cameras, background)

    avatar = avatar_of(capture)
    avatar.__class__ = Spy
    lose_faces(short_person, [0, 5, 6])
    capture = open_capture(short_person)
    path = submit_avatars(tmp_path / "mono.zip", [(avatar, capture)], progress=False)
    count = capture.n_frames("EMO-1-shout+laugh")
    assert check_submission(path, {(1, "EMO-1-shout+laugh"): count}) == []
    stored = capture.descriptors("EMO-1-shout+laugh", "blendshapes")
    front = [descriptor for descriptor, serial in driven if serial == CAMERAS[0]]
    assert len(driven) == 4 * count and len(front) == count
    for t, row in (
        (0, 1),
        (1, 1),
        (4, 4),
        (5, 4),
        (6, 4),
        (7, 7),
    ):  # frames without a face keep the last expression
        np.testing.assert_array_equal(front[t], stored[row])
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "front.mp4").write_bytes(archive.read(video_name(1, "EMO-1-shout+laugh", CAMERAS[0])))
    frames = read_video(tmp_path / "front.mp4")
    assert (frames[:, :20, :20] > 250).all()  # white behind
    head = (frames[0].min(-1) < 200).nonzero()
    mask = (np.kron(capture.masks("EMO-1-shout+laugh", CAMERAS[0])[0], np.ones((2, 2))) > 0.5).nonzero()
    for drawn, real in zip(head, mask):  # the head stands where the camera saw it, at twice the size
        assert abs(drawn.mean() - real.mean()) < 60


def test_captures_that_cannot_be_submitted_are_named(short_person, data_dir, tmp_path):
    capture = open_capture(short_person)
    avatar = avatar_of(capture)
    with pytest.raises(ValueError, match="participant 1 is there twice"):
        submit_avatars(tmp_path / "a.zip", [(avatar, capture), (avatar, capture)], progress=False)
    with pytest.raises(ValueError, match="camera 222200037 takes pictures of 256x200 .* square"):
        submit_avatars(
            tmp_path / "a.zip", [(avatar, open_capture(short_person, crop=(0, 0, 256, 200)))], progress=False
        )
    driver = open_capture(data_dir / "mini_nersemble/101")
    with pytest.raises(ValueError, match="101 has no camera"):
        submit_avatars(tmp_path / "a.zip", [(avatar, driver)], progress=False)
    assert not (tmp_path / "a.zip").exists()


# -- the benchmark's own reader
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The module nersemble_benchmark.data.submission_data (PyPI, 0.2.0), with the frame counts of its server
    told by a file.

    tools/setup.sh installs it without its dependencies, which bring Open3D. What it imports for its other
    tasks (point clouds, meshes) and for writing is not needed to read a zip, and stands empty if absent.
    """
    pytest.importorskip(
        "nersemble_benchmark", reason="nersemble_benchmark 0.2.0 is missing; run tools/setup.sh"
    )
    for name, within in (
        ("open3d", ()),
        ("mediapy", ()),
        ("trimesh", ("Trimesh",)),
        ("trimesh.exchange", ()),
        ("trimesh.exchange.ply", ("load_ply",)),
    ):
        try:
            __import__(name)
        except ImportError:
            empty = types.ModuleType(name)
            for attribute in within:
                setattr(empty, attribute, object)
            monkeypatch.setitem(sys.modules, name, empty)
    module = pytest.importorskip("nersemble_benchmark.data.submission_data")
    counts = {
        str(p): {"sequences_metadata": {s: {"n_frames": FRAMES[p, s]} for s in SEQUENCES}}
        for p in PARTICIPANTS
    }
    (tmp_path / "metadata.json").write_text(json.dumps({"participants_metadata": counts}))
    monkeypatch.setattr(
        "nersemble_benchmark.util.metadata.NERSEMBLE_BENCHMARK_URL_MONO_FLAME_AVATAR", tmp_path.as_uri()
    )
    # Left to choose, imageio 2.38 lets Pillow look first and PyAV go on from where Pillow stopped: no mp4 in
    # a zip is read then.
    monkeypatch.setattr(module.iio, "improps", functools.partial(module.iio.improps, plugin="pyav"))
    return module


def test_the_benchmarks_reader_accepts_it(benchmark, whole, tmp_path):
    reader = benchmark.MonoFlameAvatarSubmissionDataReader(str(whole))
    assert reader.validate_submission() == {} and reader.is_complete()
    for key in ((393, "FREE", "222200037"), (486, "SEN-10-port_strong_smokey", "222200039")):
        theirs = np.stack(list(reader.load_video(*key)))
        given = np.stack(list(pictures(*key, FRAMES[key[:2]])))
        assert theirs.shape == given.shape and np.abs(theirs.astype(int) - given).max() <= 3
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "less.zip", "w") as new:
        for name in old.namelist()[1:]:
            new.writestr(name, old.read(name))
    problems = benchmark.MonoFlameAvatarSubmissionDataReader(str(tmp_path / "less.zip")).validate_submission()
    assert list(problems) == ["missing_files"] and len(check_submission(tmp_path / "less.zip")) == 1


def test_the_benchmarks_rules_are_ours(benchmark):
    constants = pytest.importorskip("nersemble_benchmark.constants")
    assert tuple(constants.BENCHMARK_MONO_FLAME_AVATAR_IDS) == PARTICIPANTS
    assert tuple(constants.BENCHMARK_MONO_FLAME_AVATAR_SEQUENCES_TEST) == SEQUENCES
    assert tuple(constants.BENCHMARK_MONO_FLAME_AVATAR_SERIALS) == CAMERAS
    assert benchmark.MonoFlameAvatarSubmissionDataReader.get_expected_resolution(None) == (SIZE, SIZE)
