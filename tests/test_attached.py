"""Head poses and descriptors attached to captures of every format, by hand and by `raf-lite encode`."""

from __future__ import annotations

from dataclasses import replace

import format_writers as writers
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_fuzz import PARSERS, tiny_scene

from raf_lite._files import write_npz
from raf_lite.captures import FORMATS, Camera, annotate, attach_head_poses, open_capture
from raf_lite.captures.formats.plain import assumed_camera
from raf_lite.cli import main
from raf_lite.descriptors.detections import Detections
from raf_lite.descriptors.encode_capture import _seen_by
from raf_lite.descriptors.forms import raw_descriptors
from raf_lite.training import PRESETS, TrainingSet


def masked_scene():
    """Noise with the head in the left half."""
    scene = tiny_scene()
    masks = scene.masks.copy()
    masks[..., 8:] = 0
    return replace(scene, masks=masks)


@pytest.fixture(params=FORMATS)
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", masked_scene)
    return PARSERS[request.param][0](tmp_path)


def turned(frames):
    """As many head poses, each turned a little further."""
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.linspace([0, 0, 0], [0, 0.6, 0], frames)).as_matrix()
    poses[:, :3, 3] = 1, 2, 3
    return poses


def test_head_poses_attach_to_every_format(folder):
    capture = open_capture(folder)
    for sequence in capture.sequences:
        files = capture.source.files(sequence, capture.cameras_of(sequence)[0])
        poses = turned(capture.n_frames(sequence))
        file = attach_head_poses(capture, sequence, poses)
        assert file.parent.name == "annotations" and file.name in (f"{sequence}.npz", "clip.mp4.npz")
        again = open_capture(folder)
        np.testing.assert_array_equal(again.require_head_poses(sequence), poses)
        assert again.head_pose_source is not None
        assert set(again.source.files(sequence, capture.cameras_of(sequence)[0])) == {
            *files,
            file,
        }  # a change is noticed
        assert (
            again.annotations(sequence).keys() >= capture.annotations(sequence).keys()
        )  # what the format has stays


def test_a_frame_without_a_pose_is_left_out(folder):
    capture = open_capture(folder)
    sequence = capture.sequences[0]
    poses, before = turned(capture.n_frames(sequence)), capture.face_found(sequence)
    poses[1] = np.nan
    attach_head_poses(capture, sequence, poses)
    again = open_capture(folder)
    np.testing.assert_array_equal(again.head_poses(sequence)[1], poses[0])
    expected = before.copy()
    expected[1] = False
    np.testing.assert_array_equal(again.face_found(sequence), expected)


def test_what_does_not_fit_is_refused(folder):
    capture = open_capture(folder)
    sequence = capture.sequences[0]
    frames = capture.n_frames(sequence)
    with pytest.raises(ValueError, match=r"head poses of .* have shape \[1, 4, 4\]; give \["):
        attach_head_poses(capture, sequence, turned(1))
    with pytest.raises(ValueError, match="no head pose of .* is finite"):
        attach_head_poses(capture, sequence, turned(frames) * np.nan)
    with pytest.raises(ValueError, match=f"'codes' has shape .*; give a row for each of the {frames} frames"):
        annotate(capture, sequence, {"codes": np.zeros((frames + 1, 4))})
    write_npz(capture.source.annotation_file(sequence), head_pose=turned(frames + 1))
    with pytest.raises(
        ValueError,
        match=f"the annotation 'head_pose' of {sequence} has shape .* annotate this sequence again",
    ):
        open_capture(folder).head_poses(sequence)


@pytest.mark.parametrize(
    "write, descriptor", [(writers.write_vhap, "flame_expr"), (writers.write_imavatar, "flame_exp")]
)
def test_formats_without_head_poses_say_where_and_then_train(write, descriptor, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "scene", masked_scene)
    folder, config = write(tmp_path), PRESETS["fast"].with_(descriptor=descriptor, size=12)
    capture = open_capture(folder)
    named = (
        r"has no head poses; write them with raf-lite encode.*head_pose \[T, 4, 4\] in .*annotations/.*\.npz"
    )
    with pytest.raises(ValueError, match=named):
        TrainingSet.from_capture(capture, config, progress=False)
    for sequence in capture.sequences:  # by hand, as the sentence says
        (folder / "annotations").mkdir(exist_ok=True)
        np.savez(folder / f"annotations/{sequence}.npz", head_pose=turned(capture.n_frames(sequence)))
    data = TrainingSet.from_capture(open_capture(folder), config, progress=False)
    np.testing.assert_array_equal(data.head_poses, turned(len(data.names)))


# ---------------------------------------------------------------------------- what raf-lite encode attaches


def seen(poses):
    count = len(poses)
    return Detections(
        np.zeros((count, 52), np.float32),
        np.zeros((count, 478, 3), np.float32),
        poses.astype(np.float32),
        np.ones(count, bool),
    )


def test_a_pose_moves_from_the_assumed_camera_to_the_real_one():
    """Through the assumed camera nothing changes; through twice the focal length the head is twice as far;
    off the middle it stays on its pixel and turns with the ray."""
    opengl = turned(3)
    opengl[:, :3, 3] = 2, 1, -40
    flip = np.diag([1.0, -1, -1, 1])
    assumed = assumed_camera(640, 480)
    np.testing.assert_allclose(_seen_by(assumed, seen(opengl)), flip @ opengl, atol=1e-5)
    K = assumed.K.copy()
    K[[0, 1], [0, 1]] *= 2
    far = _seen_by(Camera("0", np.eye(4), K, 640, 480), seen(opengl))
    np.testing.assert_allclose(far[:, :3, 3], [[2, -1, 80]] * 3, atol=1e-4)
    K[:2, 2] += 100, -50
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = Rotation.from_rotvec([0.3, -0.2, 0.1]).as_matrix(), (5, 6, 7)
    camera = Camera("0", world, K, 640, 480)
    poses = _seen_by(camera, seen(opengl))
    pixels = camera.project(poses[:, :3, 3])[0]
    np.testing.assert_allclose(pixels, assumed.project((flip @ opengl)[:, :3, 3])[0], atol=1e-3)
    for pose, old in zip(
        world @ poses, flip @ opengl, strict=True
    ):  # how the head is turned against the ray that sees it
        ray, before = pose[:3, 3] / np.linalg.norm(pose[:3, 3]), old[:3, 3] / np.linalg.norm(old[:3, 3])
        np.testing.assert_allclose(pose[:3, :3].T @ ray, old[:3, :3].T @ before, atol=1e-5)


@pytest.mark.parametrize("write", [writers.write_vhap, writers.write_imavatar])
def test_encode_gives_a_capture_descriptors_and_head_poses(write, ict_pack, tmp_path, capsys):
    """Rendered heads of 96x80 pixels: how the head turns from the first frame on is found better than by
    half."""
    folder, scene = write(tmp_path), writers.scene()
    assert main(["encode", str(folder)]) == 0
    capture = open_capture(folder)
    out = capsys.readouterr().out
    assert (
        all(f"{name}.npz" in out for name in capture.sequences) and capture.head_pose_source == "annotations/"
    )
    found = np.concatenate(
        [capture.head_poses(s) for s in sorted(capture.sequences, key=lambda s: s.endswith("test"))]
    )
    truth = scene.poses if write is writers.write_vhap else scene.cameras[0].world_to_camera @ scene.poses
    turns = [
        Rotation.from_matrix(p[1:, :3, :3]) * Rotation.from_matrix(p[0, :3, :3]).inv() for p in (found, truth)
    ]
    assert (turns[0] * turns[1].inv()).magnitude().mean() < 0.5 * turns[1].magnitude().mean()
    for sequence in capture.sequences:
        assert capture.descriptors(sequence, "blendshapes").shape == (capture.n_frames(sequence), 52)
        assert capture.encoder_of(sequence, "blendshapes").startswith("mediapipe")
        landmarks = raw_descriptors(capture, sequence, "landmarks-mean")
        assert landmarks.shape == (capture.n_frames(sequence), 64)
        np.testing.assert_array_equal(np.isfinite(landmarks).all(1), capture.face_found(sequence))
    assert main(["encode", str(folder), "--smooth", "1"]) == 2
    assert "are for videos, and" in capsys.readouterr().err
