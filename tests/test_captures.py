"""Captures in the NeRSemble layout: written small, read back, every fault named; and what nersemble_data
makes of them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from raf_lite._files import write_json, write_npz
from raf_lite.captures import Camera, Capture, open_capture, write_video
from raf_lite.captures.formats import nersemble as nersemble_module
from raf_lite.captures.formats.nersemble import SEQUENCES, write_calibration, write_metadata

FRONT, SIDE = "222200037", "222200046"
FRAMES = {"EXP-1-head": 6, "FREE": 4, "CROSS-901-FREE": 5}
K = np.array([[90.0, 0, 32], [0, 90, 24], [0, 0, 1]])


def make_cameras() -> dict[str, Camera]:
    cameras = {}
    for serial, yaw in ((FRONT, 0), (SIDE, 35)):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("yx", [yaw, 180], degrees=True).as_matrix()
        matrix[:3, 3] = [0.1, -0.2, 55]
        cameras[serial] = Camera(serial, matrix, K, 64, 48)
    return cameras


def picture(sequence: str, serial: str) -> np.ndarray:
    """uint8 [T, 48, 64, 3]: a gradient whose blue tells frame, camera and sequence."""
    t, y, x = np.mgrid[: FRAMES[sequence], :48, :64]
    offset = 20 * list(FRAMES).index(sequence) + 70 * (serial == SIDE)
    return np.stack([4 * x, 5 * y, offset + 12 * t], -1).astype(np.uint8)


def mask(sequence: str) -> np.ndarray:
    """uint8 [T, 48, 64]: a white box that moves right by 4 pixels a frame."""
    masks = np.zeros((FRAMES[sequence], 48, 64), np.uint8)
    for t in range(len(masks)):
        masks[t, 8:40, 8 + 4 * t : 36 + 4 * t] = 255
    return masks


def annotation(frames: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frames)
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(rng.uniform(-0.5, 0.5, (frames, 3))).as_matrix()
    blendshapes = rng.uniform(0, 1, (frames, 52)).astype(np.float16)
    found = np.ones(frames, bool)
    found[1] = False
    blendshapes[1] = 0
    return {
        "head_pose": poses,
        "landmarks68": rng.normal(0, 5, (frames, 68, 3)).astype(np.float32),
        "blendshapes": blendshapes,
        "landmarks_pca": rng.normal(size=(frames, 64)).astype(np.float16),
        "encoder_pose": poses,
        "face_found": found,
    }


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A dataset folder with one participant, 007, written once."""
    root = tmp_path_factory.mktemp("capture")
    person = root / "007"
    write_calibration(person, make_cameras())
    for sequence, frames in FRAMES.items():
        folder = person / "sequences" / sequence
        for serial in (FRONT, SIDE):
            write_video(folder / "images" / f"cam_{serial}.mp4", picture(sequence, serial), 24, crf=8)
            write_video(folder / "alpha_maps" / f"cam_{serial}.mp4", mask(sequence), 24, crf=8, gray=True)
        write_npz(person / "annotations" / f"{sequence}.npz", **annotation(frames))
        write_npz(person / "truth" / f"{sequence}.npz", weights=np.arange(frames, dtype=np.float32))
    write_json(
        person / "capture.json",
        {
            "fps": 24,
            "head_pose_source": "rig",
            "kind": "subject",
            "neutral": {"sequence": "EXP-1-head", "frame": 0},
        },
    )
    (person / "sequences" / "BACKGROUND").mkdir()
    (person / "sequences" / "BACKGROUND" / f"image_{FRONT}.jpg").write_bytes(b"")
    write_metadata(root)
    return root


@pytest.fixture
def person(pristine, tmp_path):
    """A copy of the participant's folder, to be damaged."""
    return shutil.copytree(pristine / "007", tmp_path / "007")


# -- what is read
# -----------------------------------------------------------------------------------------------------


def test_what_a_capture_says_of_itself(pristine):
    capture = open_capture(pristine / "007")
    assert isinstance(capture, Capture)
    assert (capture.subject, capture.fps, capture.head_pose_source) == ("007", 24, "rig")
    assert capture.neutral == ("EXP-1-head", 0) and capture.encoder_camera == FRONT
    assert capture.sequences == ("EXP-1-head", "FREE"), (
        "neither BACKGROUND nor CROSS-* is trained on or held out"
    )
    assert capture.cross_sequences == ("CROSS-901-FREE",)
    assert capture.cross_parts("CROSS-901-FREE") == ("901", "FREE")
    assert capture.cameras_of("FREE") == (FRONT, SIDE) and capture.n_frames("EXP-1-head") == 6
    capture.check()


def test_cameras_come_back_exactly(pristine):
    capture = open_capture(pristine / "007")
    for serial, camera in make_cameras().items():
        np.testing.assert_array_equal(capture.cameras[serial].world_to_camera, camera.world_to_camera)
        np.testing.assert_array_equal(capture.cameras[serial].K, camera.K)
        assert (capture.cameras[serial].width, capture.cameras[serial].height) == (64, 48)


@pytest.mark.parametrize("sequence", FRAMES)
@pytest.mark.parametrize("serial", [FRONT, SIDE])
def test_frames_and_masks(pristine, sequence, serial):
    capture = open_capture(pristine / "007")
    frames, masks = capture.frames(sequence, serial), capture.masks(sequence, serial)
    assert frames.dtype == np.uint8 and masks.dtype == np.float32
    assert np.abs(frames.astype(int) - picture(sequence, serial)).mean() < 2
    assert np.abs(masks - mask(sequence) / 255.0).mean() < 0.01 and 0 <= masks.min() and masks.max() <= 1
    images = capture.images(sequence, serial, np.array([2, 0]))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, frames[[2, 0]] / 255.0, atol=1e-6)
    np.testing.assert_array_equal(capture.masks(sequence, serial, 3), masks[3])


def test_annotations(pristine):
    capture, stored = open_capture(pristine / "007"), annotation(4)
    np.testing.assert_allclose(capture.head_poses("FREE"), stored["head_pose"])
    np.testing.assert_allclose(capture.landmarks68("FREE"), stored["landmarks68"])
    np.testing.assert_array_equal(capture.face_found("FREE"), [True, False, True, True])
    rows = capture.descriptors("FREE", "blendshapes")
    assert rows.dtype == np.float32 and np.isnan(rows[1]).all(), (
        "a frame without a face must not pass for a face of zeros"
    )
    np.testing.assert_array_equal(rows[[0, 2, 3]], stored["blendshapes"][[0, 2, 3]].astype(np.float32))
    assert capture.descriptors("EXP-1-head", "landmarks_pca").shape == (6, 64)


def test_only_truth_opens_the_truth(person):
    for sequence in FRAMES:
        (person / "truth" / f"{sequence}.npz").write_bytes(b"whoever opens this fails")
    capture = open_capture(person)
    capture.check()
    for sequence in FRAMES:
        capture.frames(sequence, FRONT), capture.masks(sequence, FRONT), capture.annotations(sequence)
    with pytest.raises(ValueError, match=r"truth.FREE.npz"):
        capture.truth("FREE")


def test_missing_head_poses_are_named_with_the_way_to_make_them(person):
    stored = annotation(4)
    np.testing.assert_allclose(open_capture(person).require_head_poses("FREE"), stored["head_pose"])
    stored.pop("head_pose")
    write_npz(person / "annotations" / "FREE.npz", **stored)
    capture = open_capture(person)
    assert capture.head_poses("FREE") is None
    with pytest.raises(
        ValueError, match="sequence FREE has no head poses; .*raf-lite encode.*fit_head_poses"
    ) as error:
        capture.require_head_poses("FREE")
    assert str(error.value).startswith(str(person))


def test_truth(pristine):
    np.testing.assert_array_equal(open_capture(pristine / "007").truth("FREE")["weights"], [0, 1, 2, 3])


def test_each_video_is_decoded_once(pristine, monkeypatch):
    decoded = []
    real = nersemble_module.iter_video
    monkeypatch.setattr(
        nersemble_module, "iter_video", lambda path, **kw: decoded.append(path.parts[-3:]) or real(path, **kw)
    )
    capture = open_capture(pristine / "007")
    for _ in range(3):
        for serial in (FRONT, SIDE):
            capture.frames("FREE", serial), capture.masks("FREE", serial)
    assert len(decoded) == 4 == len(set(decoded))
    with pytest.raises(ValueError, match="read-only"):
        capture.frames("FREE", FRONT)[:] = 0


def test_cache_keeps_the_last_used_within_its_bound(pristine, monkeypatch):
    decoded = []
    real = nersemble_module.iter_video
    monkeypatch.setattr(
        nersemble_module, "iter_video", lambda path, **kw: decoded.append(path.stem) or real(path, **kw)
    )
    video = 4 * 48 * 64 * 3
    capture = open_capture(pristine / "007", cache_bytes=video)
    (
        capture.frames("FREE", FRONT),
        capture.frames("FREE", FRONT),
        capture.frames("FREE", SIDE),
        capture.frames("FREE", FRONT),
    )
    assert decoded == [f"cam_{FRONT}", f"cam_{SIDE}", f"cam_{FRONT}"]
    decoded.clear()
    tight = open_capture(pristine / "007", cache_bytes=video - 1)
    assert tight.frames("FREE", FRONT).shape == tight.frames("FREE", FRONT).shape == (4, 48, 64, 3)
    assert len(decoded) == 2, "a video larger than the cache is not kept"


@pytest.mark.parametrize(
    "indices",
    [np.array([3, 0, 3]), slice(1, 3), np.int64(2), np.array([], int), np.arange(4) % 2 == 0, slice(None)],
    ids=["any order", "slice", "one", "none", "chosen", "all"],
)
def test_some_frames_are_the_same_whether_or_not_the_video_fits_into_the_cache(pristine, indices):
    whole = open_capture(pristine / "007")
    for kept in (0, 4 * 48 * 64):  # nothing, masks
        some = open_capture(pristine / "007", cache_bytes=kept)
        for what in (Capture.over_white, Capture.images, Capture.masks):
            shown = what(some, "FREE", SIDE, indices)
            np.testing.assert_array_equal(shown, what(whole, "FREE", SIDE, indices))
            assert shown.dtype == what(whole, "FREE", SIDE).dtype
    rows = np.unique(np.arange(4)[indices]).tolist()
    each = list(open_capture(pristine / "007", cache_bytes=0).each_over_white("FREE", SIDE, rows))
    assert len(each) == len(rows)
    for frame, row in zip(each, rows):
        np.testing.assert_array_equal(frame, whole.over_white("FREE", SIDE, row))


def test_downscale_and_crop_move_pictures_and_cameras_together(pristine):
    """The box's corner, seen in pixels and projected from the world, stays the same point."""
    full = open_capture(pristine / "007")
    small = open_capture(pristine / "007", crop=(8, 4, 48, 36), downscale=2)
    camera = small.cameras[FRONT]
    assert small.frames("FREE", FRONT).shape == (4, 18, 24, 3) == (4, camera.height, camera.width, 3)
    assert small.masks("FREE", FRONT).shape == (4, 18, 24)
    small.check()
    # The mask's box covers columns 8 to 36 and rows 8 to 40, that is (0..14, 2..20) after the crop and the
    # halving.
    column, row = small.masks("FREE", FRONT, 0)[8], small.masks("FREE", FRONT, 0)[:, 6]
    np.testing.assert_array_equal(column > 0.5, np.arange(24) < 14)
    np.testing.assert_array_equal(row > 0.5, np.arange(18) >= 2)
    corner = full.cameras[FRONT]
    in_camera = np.append(np.linalg.inv(K) @ [36, 8, 1] * 50, 1)
    world = (np.linalg.inv(corner.world_to_camera) @ in_camera)[:3]
    np.testing.assert_allclose(camera.project(world)[0], [14, 2], atol=1e-9)


# -- splits
# -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_person(tmp_path_factory):
    """A participant with all of NeRSemble's sequences and four cameras, each video two frames long."""
    person = tmp_path_factory.mktemp("all") / "017"
    serials = (FRONT, SIDE, "222200039", "220700191")
    base = make_cameras()[FRONT]
    write_calibration(person, {s: Camera(s, base.world_to_camera, K, 16, 16) for s in serials})
    write_video(person / "clip.mp4", np.zeros((2, 16, 16, 3), np.uint8), 73)
    for name in (*SEQUENCES[1:], "CROSS-901-SEN-09-frown_events_bad"):
        for serial in serials:
            path = person / "sequences" / name / "images" / f"cam_{serial}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(person / "clip.mp4", path)
    return person


def test_raw_folder_without_our_notes(whole_person):
    capture = open_capture(whole_person)
    assert capture.fps == 73 and capture.neutral is None and capture.head_pose_source is None
    assert (
        capture.head_poses("FREE") is None
        and capture.landmarks68("FREE") is None
        and capture.face_found("FREE").all()
    )
    assert capture.sequences == SEQUENCES[1:]
    with pytest.raises(FileNotFoundError, match=r"no masks .*FREE.alpha_maps.cam_222200037.mp4"):
        capture.masks("FREE", FRONT)
    with pytest.raises(ValueError, match="FREE has no stored descriptors 'blendshapes'"):
        capture.descriptors("FREE", "blendshapes")
    with pytest.raises(FileNotFoundError, match="truth"):
        capture.truth("FREE")


HELD_OUT = ("FREE", "EMO-1-shout+laugh", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey")


def test_default_split(whole_person):
    split = open_capture(whole_person).split("default")
    assert split.holdout_sequences == HELD_OUT
    assert len(split.train_sequences) == 20 and not {"GLASSES", "HAIR", *HELD_OUT} & set(
        split.train_sequences
    )
    assert split.train_cameras == (FRONT, "220700191") and split.holdout_cameras == (SIDE, "222200039")


def test_mono_split_is_the_benchmarks(whole_person):
    split = open_capture(whole_person).split("mono")
    assert split.holdout_sequences == HELD_OUT and len(split.train_sequences) == 18, (
        "18 train, 4 test in the benchmark"
    )
    assert not any("tongue" in name for name in split.train_sequences)
    assert split.train_cameras == (FRONT,) and split.holdout_cameras == (SIDE, "220700191", "222200039")


def test_nvs_split_holds_out_cameras_only(whole_person):
    split = open_capture(whole_person).split("nvs")
    assert split.holdout_sequences == () and split.train_sequences == SEQUENCES[1:]
    assert split.train_cameras == ("220700191",) and split.holdout_cameras == (SIDE, FRONT, "222200039")


def test_no_split_trains_on_an_answer(whole_person):
    capture = open_capture(whole_person)
    for name in ("default", "nvs", "mono"):
        split = capture.split(name)
        sequences, cameras = (
            (*split.train_sequences, *split.holdout_sequences),
            (*split.train_cameras, *split.holdout_cameras),
        )
        assert not any(s.startswith("CROSS-") for s in sequences)
        assert len(set(sequences)) == len(sequences) and len(set(cameras)) == len(cameras)
    with pytest.raises(ValueError, match="no split 'random'.*default.*nvs.*mono"):
        capture.split("random")


# -- the benchmark's calibration
# --------------------------------------------------------------------------------------


def test_intrinsics_per_serial_and_a_hidden_camera(person):
    cameras = make_cameras()
    hidden = Camera("222200039", cameras[FRONT].world_to_camera, K * [[2], [2], [1]], 64, 48)
    write_calibration(person, {**cameras, "222200039": hidden})
    (person / "capture.json").unlink()
    written = json.loads((person / "calibration" / "camera_params.json").read_text())
    assert set(written["intrinsics"]) == {FRONT, SIDE, "222200039"}
    capture = open_capture(person)
    np.testing.assert_array_equal(capture.cameras["222200039"].K, hidden.K)
    assert (capture.cameras["222200039"].width, capture.cameras["222200039"].height) == (64, 48)
    assert capture.fps == 24, "the benchmark's videos say their rate"
    capture.check()
    with pytest.raises(ValueError, match="FREE has no video of camera '222200039'"):
        capture.frames("FREE", "222200039")


# -- every fault is named
# ----------------------------------------------------------------------------------------------


def edit_calibration(person, change) -> None:
    path = person / "calibration" / "camera_params.json"
    params = json.loads(path.read_text())
    change(params)
    path.write_text(json.dumps(params))


def set_pose(value):
    return lambda params: params["world_2_cam"].update({SIDE: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["world_2_cam"].pop(SIDE), "has no camera 222200046, of which there is a video"),
        (
            lambda p: p.update(intrinsics={FRONT: K.tolist()}),
            "has no camera 222200046, of which there is a video",
        ),
        (
            lambda p: (
                p["world_2_cam"].update({"9": np.eye(4).tolist()})
                or p.update(intrinsics={FRONT: K.tolist(), SIDE: K.tolist()})
            ),
            "intrinsics has no camera 9",
        ),
        (set_pose(np.eye(3).tolist()), r"camera 222200046: world_to_camera has shape \[3, 3\]"),
        (set_pose(np.diag([1, 2, 1, 1]).tolist()), "camera 222200046: world_to_camera.*no rotation"),
        (set_pose(np.diag([1, 1, -1, 1]).tolist()), "camera 222200046: world_to_camera.*mirrors"),
        (set_pose((np.eye(4) * np.nan).tolist()), "camera 222200046: world_to_camera.*not finite"),
        (lambda p: p.update(intrinsics=np.eye(4).tolist()), r"K has shape \[4, 4\]"),
        (lambda p: p.pop("intrinsics"), "needs the fields"),
        (lambda p: p.update(world_2_cam=3), "needs the fields"),
    ],
)
def test_faulty_calibration(person, change, message):
    edit_calibration(person, change)
    with pytest.raises(ValueError, match=message) as error:
        open_capture(person)
    assert "camera_params.json" in str(error.value)


@pytest.mark.parametrize("name", ["capture.json", "calibration/camera_params.json"])
def test_json_that_is_none(person, name):
    (person / name).write_text("{'fps': ")
    with pytest.raises(ValueError, match=f"{name.split('/')[-1]} is not JSON"):
        open_capture(person)


@pytest.mark.parametrize(
    "notes",
    [
        {"neutral": {"sequence": "FREE"}},
        {"fps": "fast"},
        {"neutral": 3},
        [],
        {"neutral": {"sequence": "EXP-9-jaw-2", "frame": 0}},
    ],
)
def test_notes_of_another_shape(person, notes):
    (person / "capture.json").write_text(json.dumps(notes))
    with pytest.raises(ValueError, match="capture.json"):
        open_capture(person)


def test_missing_video(person):
    capture = open_capture(person)
    path = person / "sequences" / "FREE" / "images" / f"cam_{SIDE}.mp4"
    path.unlink()
    with pytest.raises(ValueError, match="FREE has no video of camera '222200046'"):
        open_capture(person).frames("FREE", SIDE)
    with pytest.raises(ValueError, match="FREE has no video of camera '222200046'"):
        capture.frames("FREE", SIDE)


@pytest.mark.parametrize("serial", [FRONT, SIDE])
@pytest.mark.parametrize("kind", ["images", "alpha_maps"])
def test_truncated_video(person, serial, kind):
    path = person / "sequences" / "FREE" / kind / f"cam_{serial}.mp4"
    path.write_bytes(path.read_bytes()[:-40])
    capture = open_capture(person)
    with pytest.raises(ValueError, match=rf"FREE.{kind}.cam_{serial}.mp4: only \d of 4 frames"):
        (capture.frames if kind == "images" else capture.masks)("FREE", serial)


def rewrite(person, kind: str, frames: int, height: int, width: int):
    shape = (frames, height, width) if kind == "alpha_maps" else (frames, height, width, 3)
    write_video(
        person / "sequences" / "FREE" / kind / f"cam_{SIDE}.mp4",
        np.full(shape, 90, np.uint8),
        24,
        gray=len(shape) == 3,
    )


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("alpha_maps", (4, 48, 62), "the masks are 62x48.*takes images of 64x48"),
        ("alpha_maps", (3, 48, 64), "there are 3 masks, but camera 222200037 has 4 images"),
        ("images", (4, 32, 64), "the images are 64x32.*takes images of 64x48"),
        ("images", (5, 48, 64), "there are 5 images, but camera 222200037 has 4 images"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"downscale": 2, "crop": (0, 0, 32, 32)}])
def test_sizes_and_counts_that_do_not_match(person, kind, shape, message, options):
    """On disk, that is: a crop or a downscale must not hide it."""
    rewrite(person, kind, *shape)
    capture = open_capture(person, **options)
    with pytest.raises(ValueError, match=rf"FREE.{kind}.cam_{SIDE}.mp4: {message}"):
        (capture.frames if kind == "images" else capture.masks)("FREE", SIDE)
    with pytest.raises(ValueError, match=message):
        capture.check()


def change_annotation(person, **changes) -> None:
    write_npz(person / "annotations" / "FREE.npz", **(annotation(4) | changes))


def broken_pose(frame: int) -> np.ndarray:
    poses = annotation(4)["head_pose"]
    poses[frame, 0, 0] += 0.1
    return poses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (annotation(5), "'head_pose' of FREE has shape .5, 4, 4., but the videos have 4 frames"),
        ({"head_pose": np.zeros((4, 3, 4))}, "'head_pose' of FREE has shape"),
        ({"head_pose": broken_pose(2)}, "head pose of FREE frame 2 .*no rotation"),
        ({"landmarks68": np.zeros((4, 60, 3))}, "'landmarks68' of FREE has shape"),
        ({"landmarks68": np.full((4, 68, 3), np.nan)}, "'landmarks68' of FREE frame 0"),
        ({"face_found": np.ones((4, 2), bool)}, "'face_found' of FREE has shape"),
    ],
)
def test_faulty_annotations(person, changes, message):
    change_annotation(person, **changes)
    with pytest.raises(ValueError, match=message):
        open_capture(person).check()


def test_faulty_descriptors(person):
    rows = annotation(4)["blendshapes"]
    rows[1] = np.nan  # no face was found there: allowed
    rows[3, 7] = np.nan
    change_annotation(person, blendshapes=rows)
    with pytest.raises(ValueError, match="'blendshapes' of FREE frame 3"):
        open_capture(person).descriptors("FREE", "blendshapes")
    with pytest.raises(
        ValueError, match=r"'face_found' of FREE has shape \[4\], which is not \[frames, dimensions\]"
    ):
        open_capture(person).descriptors("FREE", "face_found")


def test_a_sequence_with_no_face(person):
    change_annotation(person, face_found=np.zeros(4, bool))
    with pytest.raises(ValueError, match="no face in any frame of FREE"):
        open_capture(person).descriptors("FREE", "blendshapes")


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"x" * 900])
def test_damaged_annotations(person, damage):
    path = person / "annotations" / "FREE.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="FREE.npz cannot be read"):
        open_capture(person).annotations("FREE")


def test_wrong_names(pristine):
    capture = open_capture(pristine / "007")
    for call in (capture.n_frames, capture.annotations, capture.truth, capture.head_poses):
        with pytest.raises(ValueError, match="no sequence 'SEN-99'.*EXP-1-head"):
            call("SEN-99")
    with pytest.raises(ValueError, match="no video of camera '1'.*222200037"):
        capture.masks("FREE", "1")
    with pytest.raises(ValueError, match="no cross sequence"):
        capture.cross_parts("FREE")


def test_wrong_folders(pristine, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_capture(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="several participants .007."):
        open_capture(pristine)
    with pytest.raises(ValueError, match="no format known here"):
        open_capture(tmp_path)
    with pytest.raises(ValueError, match="downscale 0"):
        open_capture(pristine / "007", downscale=0)
    with pytest.raises(ValueError, match=r"camera 222200037: the crop .*64x48"):
        open_capture(pristine / "007", crop=(0, 0, 65, 48))
    write_calibration(tmp_path / "008", make_cameras())
    with pytest.raises(FileNotFoundError, match=r"008 has no video"):
        open_capture(tmp_path / "008")


# -- NeRSemble's own reader
# -------------------------------------------------------------------------------------------


@pytest.fixture
def nersemble_data():
    return pytest.importorskip(
        "nersemble_data.data.nersemble_data",
        reason="missing package: nersemble_data, which needs dreifus besides",
    )


def test_nersemble_data_agrees(pristine, nersemble_data):
    assert nersemble_data.NeRSembleDataManager(str(pristine)).list_participants() == [7]
    manager, capture = (
        nersemble_data.NeRSembleParticipantDataManager(str(pristine), 7),
        open_capture(pristine / "007"),
    )
    assert set(manager.list_sequences()) == {*capture.sequences, *capture.cross_sequences, "BACKGROUND"}
    params = manager.load_camera_calibration()
    assert set(params.world_2_cam) == set(capture.cameras)
    for serial, camera in capture.cameras.items():  # its matrices are float32
        np.testing.assert_array_equal(
            np.asarray(params.world_2_cam[serial]), camera.world_to_camera.astype(np.float32)
        )
        np.testing.assert_array_equal(np.asarray(params.intrinsics), camera.K.astype(np.float32))
    for sequence in FRAMES:
        assert sorted(manager.list_cameras(sequence)) == list(capture.cameras_of(sequence))
        assert manager.list_timesteps(sequence) == list(range(capture.n_frames(sequence)))
        for serial in capture.cameras:
            ours = capture.frames(sequence, serial)
            for t in manager.list_timesteps(sequence):
                theirs = manager.load_image(sequence, serial, t, as_uint8=True)
                assert np.abs(theirs.astype(int) - ours[t]).max() <= 2
    corrected = manager.load_image("FREE", FRONT, 0, apply_color_correction=True)
    np.testing.assert_allclose(corrected, capture.images("FREE", FRONT, 0), atol=0.02)


def test_nersemble_data_reads_the_metadata(pristine, nersemble_data, monkeypatch):
    metadata = pytest.importorskip("nersemble_data.util.metadata")
    monkeypatch.setattr(metadata, "NERSEMBLE_DATA_URL", str(pristine))
    table = metadata.NeRSembleMetadata()
    assert table.list_participants() == [7] and table.list_sequences() == list(SEQUENCES)
    assert table.list_sequences_for_participant(7) == ["EXP-1-head", "FREE"]


def test_names_are_nersembles(nersemble_data):
    constants = pytest.importorskip("nersemble_data.constants")
    assert tuple(constants.SEQUENCE_NAMES) == SEQUENCES
    assert {FRONT, SIDE, "222200039", "220700191"} <= set(constants.SERIALS)
