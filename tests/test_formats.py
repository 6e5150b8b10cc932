"""Readers of other projects' layouts, each against rendered heads: what is read must reproject, and traps
must not spring."""

from __future__ import annotations

import json

import format_writers as writers
import numpy as np
import pytest
from conftest import posix
from PIL import Image

from raf_lite.captures import Camera, detect_format, open_capture, write_video
from raf_lite.captures.check import camera_problem, check_capture, common_target, contact_sheet, report
from raf_lite.captures.formats import encoding


@pytest.fixture(scope="session")
def scene(ict_pack):
    return writers.scene()


def reprojection_error(capture, sequence, serial, scene, frames, camera, root=None):
    """Largest distance in pixels between landmarks through what was read and through the renderer's own
    camera."""
    poses = capture.head_poses(sequence) if root is None else root
    worst = 0.0
    for row, t in enumerate(frames):
        points = scene.landmarks[t] @ poses[row][:3, :3].T + poses[row][:3, 3]
        seen, _ = capture.cameras[serial].project(points)
        worst = max(worst, float(np.abs(seen - scene.pixels[t, camera]).max()))
    return worst


# ----------------------------------------------------------------------------------------------------- VHAP


def test_vhap(scene, tmp_path):
    capture = open_capture(writers.write_vhap(tmp_path))
    assert detect_format(capture.root) == "vhap" and capture.subject == "306"
    assert capture.sequences == ("306_EMO-1-test", "306_EMO-1-train") and list(capture.cameras) == [
        "00",
        "01",
        "02",
    ]
    split = capture.split()
    assert split.train_sequences == ("306_EMO-1-train",) and split.holdout_sequences == ("306_EMO-1-test",)
    assert split.holdout_cameras == ("02",) and split.train_cameras == (
        "00",
        "01",
    )  # camera 2 is in val alone
    for c in range(3):
        error = reprojection_error(
            capture, "306_EMO-1-train", f"{c:02d}", scene, range(4), c, root=scene.poses[:4]
        )
        assert error < 1e-6
        np.testing.assert_array_equal(capture.frames("306_EMO-1-test", f"{c:02d}"), scene.images[4:, c])
        np.testing.assert_allclose(
            capture.masks("306_EMO-1-train", f"{c:02d}"), scene.masks[:4, c] / 255, atol=1e-6
        )
    np.testing.assert_array_equal(
        capture.descriptors("306_EMO-1-train", "flame_expr"), writers.made_up(100)[:4]
    )
    np.testing.assert_array_equal(
        capture.descriptors("306_EMO-1-test", "flame_expr_jaw"),
        np.concatenate([writers.made_up(100), writers.made_up(3, 1)], 1)[4:],
    )
    assert capture.head_poses("306_EMO-1-train") is None
    capture.check()


def test_vhap_union_orders_time_by_its_index_and_keeps_sequences_apart(scene, tmp_path):
    capture = open_capture(writers.write_vhap_union(tmp_path))
    assert capture.sequences == ("EMO-1", "FREE")
    split = capture.split()
    assert split.train_sequences == ("EMO-1",) and split.holdout_sequences == ("FREE",)
    for sequence in capture.sequences:
        assert capture.n_frames(sequence) == writers.FRAMES
        np.testing.assert_array_equal(capture.frames(sequence, "01"), scene.images[:, 1])


def test_vhap_without_the_axis_flip_is_named(scene, tmp_path):
    folder = writers.write_vhap(tmp_path)
    for file in folder.glob("transforms_*.json"):
        top = json.loads(file.read_text())
        for frame in top["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, 1:3] *= -1
            frame["transform_matrix"] = matrix.tolist()
        file.write_text(json.dumps(top))
    problems = check_capture(open_capture(folder)).problems
    assert any("OpenGL axes" in problem for problem in problems)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f.pop("camera_index"), "frame 0 has no field 'camera_index'"),
        (lambda f: f.update(timestep_index=0.5), "frame 0, timestep_index is 0.5, not a whole number"),
        (
            lambda f: f.update(transform_matrix=[[1, 2], [3, 4]]),
            r"transform_matrix has shape \[2, 2\], not 4x4",
        ),
        (
            lambda f: f.update(transform_matrix=np.full((4, 4), np.nan).tolist()),
            "transform_matrix has values that are not finite",
        ),
        (lambda f: f.update(file_path="../../../etc/passwd"), "which leads out of"),
        (lambda f: f.update(file_path=7), "file_path is 7, not a path"),
        (lambda f: f.update(fl_x="wide"), "fl_x is not an array of numbers"),
        (lambda f: f.update(fl_x=-1), "fx, fy > 0"),
    ],
)
def test_vhap_bad_frames_are_named(scene, tmp_path, change, message):
    folder = writers.write_vhap(tmp_path)
    file = folder / "transforms_train.json"
    top = json.loads(file.read_text())
    change(top["frames"][0])
    file.write_text(json.dumps(top))
    with pytest.raises(ValueError, match=message) as error:
        open_capture(folder, format="vhap")
    assert "transforms_train.json" in str(error.value)


def test_vhap_missing_and_moving(scene, tmp_path):
    folder = writers.write_vhap(tmp_path)
    file = folder / "transforms_train.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({"frames": whole["frames"][1:]}))
    with pytest.raises(ValueError, match="time step 0 of 306_EMO-1-train has no image of camera.* 00"):
        open_capture(folder)
    moved = json.loads(json.dumps(whole))
    moved["frames"][2]["transform_matrix"][0][3] += 1
    file.write_text(json.dumps(moved))
    with pytest.raises(ValueError, match="camera 00 stands elsewhere"):
        open_capture(folder)
    file.write_text(json.dumps(whole))
    (folder / "flame_param" / "00001.npz").unlink()
    with pytest.raises(FileNotFoundError, match="00001.npz"):
        open_capture(folder)
    np.savez(
        folder / "flame_param" / "00001.npz", expr=np.array([{}], object), jaw_pose=1, rotation=1, neck_pose=1
    )
    with pytest.raises(ValueError, match="00001.npz: the array .expr. holds object"):
        open_capture(folder)


# -------------------------------------------------------------------------------------- NeRSemble benchmark


def test_nersemble_benchmark(scene, tmp_path):
    folder = writers.write_nersemble_benchmark(tmp_path)
    capture = open_capture(folder)
    assert detect_format(folder) == "nersemble" and capture.fps == pytest.approx(24.3, abs=0.01)
    assert capture.head_pose_source == "FLAME" and capture.split("mono").holdout_sequences == (
        "FREE",
        "SEN-09-frown_events_bad",
    )
    hidden = "SEN-09-frown_events_bad"
    assert capture.cameras_of(hidden) == () and capture.n_frames(hidden) == writers.FRAMES
    assert (
        capture.descriptors(hidden, "flame_expr").shape == (writers.FRAMES, 100)
        and len(capture.head_poses(hidden)) == 6
    )
    with pytest.raises(ValueError, match="has no video of camera"):
        capture.frames(hidden, "222200037")
    sequence = "EXP-8-jaw-1"
    np.testing.assert_allclose(
        capture.descriptors(sequence, "flame_expr_jaw"),
        np.concatenate([writers.made_up(100), writers.made_up(3, 1)], 1),
    )
    assert reprojection_error(capture, sequence, "222200037", scene, range(writers.FRAMES), 0) < 1
    assert not [p for p in check_capture(capture).problems if "camera" in p or "pose" in p]
    path = folder / "sequences" / sequence / "tracking" / "flame2023_tracking_v2.npz"
    tracking = dict(np.load(path))
    np.savez(path, **(tracking | {"jaw": tracking["jaw"][:, :2]}))
    with pytest.raises(ValueError, match=r"flame2023_tracking_v2.npz: jaw has shape \[6, 2\], not 6x3"):
        open_capture(folder).descriptors(sequence, "flame_expr")


# ---------------------------------------------------------------------------------------------------- INSTA


def test_insta(scene, tmp_path):
    capture = open_capture(writers.write_insta(tmp_path))
    assert detect_format(capture.root) == "insta"
    assert capture.sequences == ("train", "test") and capture.split().holdout_sequences == ("test",)
    assert capture.n_frames("test") == 2  # validation lies inside test and is no third sequence
    assert reprojection_error(capture, "train", "0", scene, range(4), 0) < 1e-6
    assert reprojection_error(capture, "test", "0", scene, range(4, 6), 0) < 1e-6
    np.testing.assert_allclose(capture.descriptors("test", "flame_exp"), writers.made_up(100)[4:], atol=1e-7)
    np.testing.assert_allclose(capture.masks("train", "0"), scene.masks[:4, 0] / 255, atol=1e-6)
    assert (
        np.abs(capture.frames("train", "0").astype(int) - scene.images[:4, 0]).max() <= 255
    )  # over white, by its alpha
    inside = scene.masks[:4, 0] == 255
    np.testing.assert_array_equal(capture.frames("train", "0")[inside], scene.images[:4, 0][inside])
    outside = scene.masks[:4, 0] == 0
    assert (capture.frames("train", "0")[outside] == 255).all()
    assert not check_capture(capture).problems


def test_insta_with_the_axes_of_a_nerf_is_named(scene, tmp_path):
    problems = check_capture(open_capture(writers.write_insta(tmp_path, flip=True))).problems
    assert any("OpenGL axes" in problem and "train" in problem for problem in problems)


def test_insta_bad_files(scene, tmp_path):
    folder = writers.write_insta(tmp_path)
    (folder / "flame/exp/00001.txt").write_text("0.5\nhalf\n")
    with pytest.raises(ValueError, match="00001.txt is not one number a line"):
        open_capture(folder)
    (folder / "flame/exp/00001.txt").unlink()
    with pytest.raises(FileNotFoundError, match="00001.txt"):
        open_capture(folder)


@posix
def test_a_link_that_leads_out_of_a_capture(scene, tmp_path):
    folder = writers.write_insta(tmp_path)
    (folder / "flame/exp/00001.txt").unlink()
    (folder / "flame/exp/00001.txt").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="leads out of"):
        open_capture(folder)


# ------------------------------------------------------------------------------------------------------ GHA


def test_gha(scene, tmp_path):
    capture = open_capture(writers.write_gha(tmp_path))
    assert detect_format(capture.root) == "gha" and list(capture.cameras) == ["22220", "22221", "22222"]
    for c in range(3):
        assert (
            reprojection_error(capture, "all", f"2222{c}", scene, range(writers.FRAMES), c) < 1e-3
        )  # poses are kept as float32
        assert np.abs(capture.images("all", f"2222{c}") - scene.images[:, c] / 255).mean() < 0.02
    np.testing.assert_array_equal(capture.descriptors("all", "bfm_exp"), writers.made_up(64))
    found = check_capture(capture)
    problems = found.problems
    assert report(capture, found).splitlines()[-len(problems) :] == [
        f"problem: {problem}" for problem in problems
    ]
    assert "landmarks on mask" not in found.table()
    assert len(problems) == 1 and "nothing is held out" in problems[0]


def test_gha_bad_files(scene, tmp_path):
    folder = writers.write_gha(tmp_path)
    (folder / "images/0003/mask_22221.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no mask .*0003/mask_22221.jpg"):
        open_capture(folder)
    for mask in folder.glob("images/*/mask_22221.jpg"):
        mask.unlink()
    assert open_capture(folder).source.mask_shape("all", "22221") is None
    np.savez(folder / "cameras/0002/camera_22220.npz", extrinsic=np.eye(4)[:3], intrinsic=scene.cameras[0].K)
    with pytest.raises(ValueError, match="camera 22220 differs from that of frame 0000"):
        open_capture(folder)
    np.savez(folder / "cameras/0002/camera_22220.npz", intrinsic=scene.cameras[0].K)
    with pytest.raises(ValueError, match="camera_22220.npz has no array 'extrinsic'"):
        open_capture(folder)
    (folder / "images/0002/image_22220.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="0002/image_22220.jpg"):
        open_capture(folder)


# ------------------------------------------------------------------------------------------------- IMavatar


@pytest.mark.parametrize("pixels", [False, True])
def test_imavatar(scene, tmp_path, pixels):
    capture = open_capture(writers.write_imavatar(tmp_path, pixels=pixels))
    assert detect_format(capture.root) == "imavatar"
    assert capture.sequences == ("MVI_1810", "MVI_1814") and capture.split().holdout_sequences == (
        "MVI_1814",
    )
    assert capture.cameras["0"].K[0, 0] > 0
    for sequence, rows in (("MVI_1810", range(4)), ("MVI_1814", range(4, 6))):
        root = capture.annotations(sequence)["tracked_root"]
        assert reprojection_error(capture, sequence, "0", scene, rows, 0, root=root) < 1e-6
        np.testing.assert_array_equal(capture.frames(sequence, "0"), scene.images[list(rows), 0])
        np.testing.assert_allclose(capture.masks(sequence, "0"), scene.masks[list(rows), 0] / 255, atol=1e-6)
    jaw = writers.made_up(15, 1)[:, 6:9]
    np.testing.assert_allclose(
        capture.descriptors("MVI_1810", "flame_exp_jaw"),
        np.concatenate([writers.made_up(50), jaw], 1)[:4],
        atol=1e-6,
    )
    assert capture.head_poses("MVI_1810") is None


def test_imavatar_wrong_conventions_are_named(scene, tmp_path):
    folder = writers.write_imavatar(tmp_path)
    file = folder / "yufeng/MVI_1810/flame_params.json"
    top = json.loads(file.read_text())
    positive = json.loads(json.dumps(top))
    positive["intrinsics"][0] *= -1
    file.write_text(json.dumps(positive))
    with pytest.raises(ValueError, match="which is negative in this format"):
        open_capture(folder)
    opencv = json.loads(json.dumps(top))
    for frame in opencv["frames"]:
        frame["world_mat"] = (writers.OPENGL @ np.vstack([frame["world_mat"], [0, 0, 0, 1]]))[:3].tolist()
    file.write_text(json.dumps(opencv))
    with pytest.raises(ValueError, match="puts the head behind the camera"):
        open_capture(folder)


# ----------------------------------------------------------------------------------- plain video and images


def test_a_folder_of_images_in_natural_order(scene, tmp_path):
    capture = open_capture(writers.write_images(tmp_path))
    assert detect_format(capture.root) == "images"
    np.testing.assert_array_equal(
        capture.frames("video", "0"), scene.images[:, 0]
    )  # frame8, frame9, frame10, ...
    np.testing.assert_allclose(capture.masks("video", "0"), scene.masks[:, 0] / 255, atol=1e-6)
    (capture.root / "masks" / "frame9.png").unlink()
    with pytest.raises(FileNotFoundError, match="no mask for frame9.png"):
        open_capture(capture.root)


def test_a_plain_video(scene, tmp_path):
    path = tmp_path / "me.mp4"
    write_video(path, scene.images[:, 0], 25, crf=4)
    capture = open_capture(path, downscale=2)
    assert capture.fps == 25 and capture.n_frames("video") == writers.FRAMES
    assert capture.frames("video", "0").shape == (writers.FRAMES, 40, 48, 3)
    with pytest.raises(FileNotFoundError, match="has no masks"):
        capture.masks("video", "0")
    with pytest.raises(ValueError, match="no stored descriptors"):
        capture.descriptors("video", "blendshapes")
    np.savez(
        encoding.encoding_file(path),
        blendshapes=np.zeros((writers.FRAMES, 52)),
        face_found=np.ones(writers.FRAMES, bool),
        head_pose=np.tile(np.eye(4) + np.eye(4, k=1) * [[0], [0], [50], [0]], (writers.FRAMES, 1, 1)),
    )
    capture = open_capture(path)
    assert capture.descriptors("video", "blendshapes").shape == (writers.FRAMES, 52)
    assert not [p for p in check_capture(capture).problems if "held out" not in p]


def test_unknown_folders_and_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="is in no format known here"):
        open_capture(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor a video"):
        open_capture(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="no capture format 'vhop'"):
        open_capture(tmp_path, format="vhop")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_capture(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="as the 'video' format needs it"):
        open_capture(tmp_path, format="video")


def test_damaged_and_giant_images(scene, tmp_path):
    folder = writers.write_images(tmp_path, masks=False)
    file = folder / "frame9.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="frame9.png cannot be decoded"):
        open_capture(folder).frames("video", "0")
    file.write_bytes(b"no image at all")
    with pytest.raises(ValueError, match="frame9.png is no readable image"):
        open_capture(folder).frames("video", "0")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    with pytest.raises(ValueError, match="frame9.png is 8x8"):
        open_capture(folder).frames("video", "0")
    header = bytearray(whole)
    header[16:24] = (60_000).to_bytes(4, "big") + (60_000).to_bytes(4, "big")
    (folder / "frame8.png").write_bytes(bytes(header))
    with pytest.raises(ValueError, match="frame8.png"):
        open_capture(folder)


# ---------------------------------------------------------------------------------------------------- check


def test_cameras_round_a_head_have_a_common_target(scene):
    target = common_target(scene.cameras)
    assert np.linalg.norm(target - [0, 0.5, 2.0]) < 1e-6  # where the studio's cameras look
    assert camera_problem(scene.cameras) is None and common_target(scene.cameras[:1]) is None
    for name, matrix in (
        ("OpenGL axes", lambda m: writers.OPENGL @ m),
        ("camera-to-world matrices", np.linalg.inv),
        ("camera-to-world matrices with OpenGL", lambda m: np.linalg.inv(m) @ writers.OPENGL),
    ):
        wrong = [Camera(c.serial, matrix(c.world_to_camera), c.K, c.width, c.height) for c in scene.cameras]
        assert f"seems to hold {name}" in camera_problem(wrong)


def test_the_shipped_capture_passes(data_dir, tmp_path):
    capture = open_capture(data_dir / "mini_nersemble" / "001")
    found = check_capture(capture)
    assert not found.problems and len(found.rows) == len(capture.sequences) + len(capture.cross_sequences)
    assert min(found.reprojection.values()) > 0.95
    table = found.table()
    assert table["sequence"].tolist() == [*capture.sequences, *capture.cross_sequences]
    assert table["landmarks on mask"].tolist() == [
        f"{100 * found.reprojection[s]:.0f} %" for s in table["sequence"]
    ]
    head, names, *rows = report(capture, found).splitlines()
    assert head == "6 camera(s), 12 frames a second, head poses from rig"
    assert names.split()[:3] == ["sequence", "frames", "cameras"] and len(rows) == len(table)
    first = capture.sequences[0]
    assert rows[0].split()[:3] == [first, str(capture.n_frames(first)), "6"]
    sheet = np.asarray(Image.open(contact_sheet(capture, tmp_path / "sheet.png", height=100)))
    assert sheet.shape == (100, 600, 3) and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000
