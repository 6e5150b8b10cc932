"""One camera alone: a film's landmarks, neck and held-out end; the start over the landmarks; poses that are
learned; a film into an avatar in one command."""

from __future__ import annotations

import shutil
from dataclasses import replace

import av
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from raf_lite import ExpressionBank, GaussianAvatar, TrainConfig, Trainer, open_capture
from raf_lite.avatar import (
    Similarity,
    ViewRange,
    aligned_poses,
    frontal_camera,
    moved,
    resting_descriptor,
    turned,
    within_views,
)
from raf_lite.avatar.prior import PlacedPrior
from raf_lite.avatar.shell import BEHIND, REAR, shell_points
from raf_lite.avatar.unseen import FLAT, SEEN, WIDE, fill_unseen, pixels_made
from raf_lite.avatar.views import view_angles
from raf_lite.captures import Camera, matting, read_video, write_video
from raf_lite.captures.formats import plain
from raf_lite.captures.formats.plain import FACE_DEPTH, IBUG68, assumed_camera
from raf_lite.captures.neck import CHIN, HIGHEST, RAMP, above_neck, neck_top
from raf_lite.cli import main
from raf_lite.cli.commands import parse
from raf_lite.course.film_frames import check_film
from raf_lite.course.own_video import head_box, open_own, train_video
from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.descriptors.encode_video import find_encoding
from raf_lite.evaluation import Networks, evaluate
from raf_lite.evaluation.lpips import LPIPS
from raf_lite.training import PRESETS, TrainingSet, training_set
from raf_lite.training.film_corrections import PoseCorrections
from raf_lite.viewing import held_out_video

FPS = 12.0
TINY = PRESETS["video"].with_(steps=12, coarse_steps=6, size=64, gaussians=400, checkpoint_every=5)


class WhiteSegmenter:
    """In the place of SelfieSegmenter: the person is what is not white."""

    def __enter__(self):
        return lambda picture: (picture.mean(-1) < 250).astype(np.float32)

    def __exit__(self, *exc):
        pass


@pytest.fixture(scope="module")
def film(data_dir, tmp_path_factory):
    """A rendered person's frontal film of 30 frames, encoded and matted, and the capture that it is of."""
    capture = open_capture(data_dir / "mini_nersemble" / "001")
    path = tmp_path_factory.mktemp("film") / "me.mp4"
    write_video(path, capture.frames("FREE", capture.encoder_camera)[:60:2], FPS, crf=8)
    find_encoding(path, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matting, "SelfieSegmenter", WhiteSegmenter)
        matting.matte_video(path, progress=False)
    return path, capture


# ------------------------------------------------------------------------------------------------ the neck


def test_the_neck_is_where_a_plane_through_it_says():
    camera = assumed_camera(200, 200)
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 48.0  # the plane, two behind the origin, is 50 from the camera
    middle = 100 + camera.K[1, 1] * -(HIGHEST - RAMP / 2) / 50
    edge = above_neck(camera, pose)[:, 100]
    assert edge[int(middle)] == pytest.approx(0.5, abs=0.5 * 50 / camera.K[1, 1] / RAMP + 1e-6)
    assert (edge[: int(middle - camera.K[1, 1] * RAMP / 2 / 50) - 1] == 1).all() and edge[-1] == 0
    turned = pose.copy()
    turned[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix() @ pose[:3, :3]
    sideways = above_neck(camera, turned)
    np.testing.assert_allclose(sideways[100], edge[::-1], atol=1e-5)  # the neck lies to the left now


def test_no_chin_is_below_the_neck_however_long_the_face_and_however_it_nods():
    face = np.zeros((40, 478, 3))
    face[:, CHIN] = np.stack([np.zeros(40), np.linspace(-15, -11, 40), np.full(40, 4.0)], 1)
    face[0, CHIN, 1] = -40  # a landmark that is wrong
    poses = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (40, 1, 1))
    poses[:, 2, 3] = 50
    for t, pose in enumerate(poses):
        pose[:3, :3] = Rotation.from_euler("x", t % 20 - 10, degrees=True).as_matrix() @ pose[:3, :3]
    camera, top = assumed_camera(200, 200), neck_top(face, poses)
    assert -20 < top < -14, "the wrong one does not pull it down"
    whole = []
    for points, pose in zip(face[:, CHIN], poses, strict=True):
        u, v = np.floor(camera.project((pose[:3, :3] @ points + pose[:3, 3])[None])[0][0]).astype(int)
        whole.append(v < 200 and above_neck(camera, pose, top)[v, u] == 1)
    assert sum(whole) >= 38 and not whole[0]
    assert neck_top(face * 0.5, poses) == HIGHEST


def test_a_films_mask_is_the_person_above_the_neck(film):
    path, _ = film
    capture = open_capture(path)
    person = read_video(matting.matte_file(path), gray=True) / 255
    camera, poses = capture.cameras["0"], capture.head_poses("video")
    top = neck_top(capture.annotations("video")["landmarks_head"], poses)
    masks = capture.masks("video", "0")
    for t in (0, 17, 29):
        np.testing.assert_allclose(masks[t], person[t] * above_neck(camera, poses[t], top), atol=1 / 255)
    small = open_capture(path, downscale=4, crop=(40, 20, 160, 200)).masks("video", "0")
    block = masks[17, 20:220, 40:200].reshape(50, 4, 40, 4).mean((1, 3))
    assert np.abs(small[17] - block).mean() < 0.004 and small.shape == (30, 50, 40)


def test_a_film_says_that_the_person_below_the_neck_does_not_count(film):
    path, rendered = film
    capture = open_capture(path)
    person = read_video(matting.matte_file(path), gray=True)[17] / 255
    top = neck_top(capture.annotations("video")["landmarks_head"], capture.head_poses("video"))
    above = above_neck(capture.cameras["0"], capture.head_poses("video")[17], top)
    counts, mask = (read("video", "0", np.array([17]))[0] for read in (capture.counts, capture.masks))
    solid = (person == 0) | (person == 1)
    np.testing.assert_allclose(counts[solid], (1 - person * (1 - above))[solid], atol=1 / 255)
    np.testing.assert_allclose((mask + 1 - counts)[solid], person[solid], atol=2 / 255)
    assert counts[(person > 0.2) & (above == 0)].max(initial=0) == 0, "nor does the body's soft outline"
    assert counts[person == 0].min() == 1 and counts[above == 1].min() == 1, "background and head count"
    assert counts[(person == 1) & (above == 0)].max(initial=0) == 0
    data = TrainingSet.from_capture(open_capture(path, downscale=4), TINY, progress=False)
    assert data.counts.shape == data.masks.shape and data.counts.dtype == np.uint8
    # Of several cameras nothing is cut: there is no such map, and nothing is kept of it.
    assert rendered.counts("FREE", rendered.encoder_camera) is None
    assert (
        TrainingSet.from_capture(replace(rendered, sequences=("EXP-1-head",)), TINY, progress=False).counts
        is None
    )


def test_the_pictures_of_a_film_on_disk_are_those_in_memory(film, tmp_path, monkeypatch):
    path, _ = film
    read = lambda: TrainingSet.from_capture(open_capture(path, downscale=4), TINY, progress=False)  # noqa: E731
    memory = read()
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(training_set, "MEMORY_BYTES", 0)
    for disk in (read(), read()):
        assert disk.fingerprint
        for name in ("images", "masks", "counts"):
            np.testing.assert_array_equal(getattr(disk, name), getattr(memory, name))


def test_what_does_not_count_teaches_nothing(film, tmp_path):
    """Whatever is below the neck, training takes the same steps (SSIM aside, whose windows compare what is
    beside with what is beside); and no Gaussian is left to be seen there."""
    path, _ = film
    data = TrainingSet.from_capture(open_capture(path, downscale=4), TINY, progress=False)
    data.counts[..., 44:, :] = 0
    other = replace(data, images=data.images.copy())
    other.images[..., 44:, :, :] = 255 - other.images[..., 44:, :, :]
    config = TINY.with_(coarse_steps=0, ssim_weight=0.0)
    trainers = [
        Trainer(d, config, tmp_path / name, progress=False, device="cpu")
        for d, name in ((data, "a"), (other, "b"))
    ]
    trainers[1].avatar.load_state_dict(trainers[0].avatar.state_dict())  # its colours start from pictures
    one, two = (trainer.train() for trainer in trainers)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    shown = one.render(data.descriptors[:1], data.head_poses[:1], data.cameras)[0, 0]
    assert shown[:40].min() < 0.6 and shown[54:].min() > 0.95


def test_masks_that_are_not_there_or_of_another_film_are_told(film, tmp_path):
    path, capture = film
    shutil.copy(path, tmp_path / "me.mp4")
    find_encoding(tmp_path / "me.mp4", progress=False)
    with pytest.raises(FileNotFoundError, match="has no masks; `raf-lite train` makes them"):
        TrainingSet.from_capture(open_capture(tmp_path / "me.mp4"), TINY, progress=False)
    shutil.copy(matting.matte_file(path), tmp_path)
    assert open_capture(tmp_path / "me.mp4").masks("video", "0").max() == 1
    write_video(tmp_path / "me.mp4", capture.frames("FREE", capture.encoder_camera)[10:40], FPS)
    find_encoding(tmp_path / "me.mp4", progress=False)
    with pytest.raises(
        ValueError, match="matte.mkv was made from other pictures than those of .*me.mp4; matte"
    ):
        open_capture(tmp_path / "me.mp4").masks("video", "0")


# ------------------------------------------------------------------------------------------- its landmarks


def test_landmarks_lie_on_the_rays_of_their_pixels_and_at_ibugs_places(film):
    path, rendered = film
    capture, encoding = open_capture(path), find_encoding(path, progress=False)
    camera = capture.cameras["0"]
    for t in (0, 20):
        pixels = camera.project(capture.landmarks68("video")[t])[0]
        np.testing.assert_allclose(pixels, encoding.landmarks[t, IBUG68, :2], atol=0.02)
    head, poses = capture.annotations("video")["landmarks_head"], capture.head_poses("video")
    for t in (0, 20):
        pixels = camera.project(head[t] @ poses[t, :3, :3].T + poses[t, :3, 3])[0]
        np.testing.assert_allclose(pixels, encoding.landmarks[t, :, :2], atol=0.05)
    assert (np.abs(np.median(head[..., 2], axis=1) - FACE_DEPTH) < 1).all()
    front, ears = head[:, 4, 2], head[:, [127, 356], 2].mean(1)
    assert ((front - ears > 5) & (front - ears < 14)).all()  # cm, the tip of the nose before the temples
    # The rig knows where iBUG's landmarks are.
    serial = rendered.encoder_camera
    true = rendered.cameras[serial].project(rendered.landmarks68("FREE")[40])[0]
    found = camera.project(capture.landmarks68("video")[20])[0]
    eyes = np.linalg.norm(true[36] - true[45])
    off = np.linalg.norm(true - found, axis=1) / eyes
    assert off[17:].max() < 0.2 and off[17:].mean() < 0.08, "brows, nose, eyes and lips"
    assert off[:17].max() < 0.45, "a jaw's outline has no places of its own"


def test_the_end_of_a_film_can_be_held_out(film):
    path, _ = film
    whole, capture = open_capture(path), open_capture(path, held_out=0.2)
    split = capture.split()
    assert (split.train_sequences, split.holdout_sequences) == (("video",), ("held-out",))
    assert capture.n_frames("video") == 24 and capture.n_frames("held-out") == 6
    capture.check()
    np.testing.assert_array_equal(capture.frames("held-out", "0"), whole.frames("video", "0")[24:])
    np.testing.assert_array_equal(capture.masks("held-out", "0"), whole.masks("video", "0")[24:])
    for read in (lambda c, s: c.descriptors(s, "blendshapes"), lambda c, s: c.head_poses(s)):
        np.testing.assert_array_equal(read(capture, "held-out"), read(whole, "video")[24:])
    assert [t for t, _ in capture.source.sample_masks("held-out", "0", 2)] == [0, 5]
    with pytest.raises(ValueError, match="has 30 frames, of which 0.001 can't be held out"):
        open_capture(path, held_out=0.001)
    with pytest.raises(ValueError, match="is no video file, so no share"):
        open_capture(film[1].root, held_out=0.2)


# ------------------------------------------------------------------------------------------------ the start


def test_the_shell_is_closed_around_the_landmarks_and_evenly_covered():
    """A ball's front of landmarks, seen by a camera far away whose mask is twice as wide."""
    angles = np.stack(np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21)), -1).reshape(-1, 2)
    angles = angles[np.hypot(*angles.T) < 1]
    ball = np.concatenate([7 * angles, 7 * np.sqrt(1 - (angles**2).sum(1, keepdims=True))], 1)
    camera = Camera("0", np.eye(4), np.array([[4000.0, 0, 100], [0, 4000, 100], [0, 0, 1]]), 200, 200)
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 1000.0
    mask = (np.hypot(*(np.mgrid[:200, :200] - 99.5)) < 56).astype(np.float32)  # 14 cm
    image = np.zeros((200, 200, 3), np.float32)
    image[..., 0] = np.arange(200) / 200
    image[..., 1] = np.arange(200)[:, None] / 200
    points, colours = shell_points(ball, image, mask, camera, pose, 6000, np.random.default_rng(0))
    pixels, _ = camera.project(points @ pose[:3, :3].T + pose[:3, 3])
    assert (mask[tuple(pixels.astype(int).T[::-1])] == 1).all()
    width = np.ptp(ball[:, 0])
    outline = ball[[ball[:, 0].argmin(), ball[:, 0].argmax()], 2].mean() - BEHIND * width
    near, radius = points[:, 2] > outline, np.hypot(*points[:, :2].T)
    assert (np.diff(near.astype(int)) != 0).sum() < 20  # the near side comes first
    inner = near & (radius < 5)
    np.testing.assert_allclose(points[inner, 2], np.sqrt(49 - radius[inner] ** 2), atol=0.25)
    np.testing.assert_allclose(colours[inner, 0], np.floor(pixels[inner, 0]) / 200, atol=0.006)
    # Both sides meet where the mask ends, and the far one is as deep as a head behind the middle.
    rim = radius > 13.7
    assert np.abs(points[rim & near, 2].min() - outline) < 0.5
    assert np.abs(points[rim & ~near, 2].max() - outline) < 0.5
    assert points[:, 2].min() == pytest.approx(outline - REAR * width, abs=0.2)
    # As many points to a square centimetre where the picture sees the surface aslant as in the middle.
    gaps = cKDTree(points).query(points, k=2)[0][:, 1]
    above = points[:, 1] > 0  # of the jaw, where planes meet
    middle = np.median(gaps[near & (radius < 4)])
    assert 0.75 < np.median(gaps[near & above & (radius > 12)]) / middle < 1.35
    assert 0.75 < np.median(gaps[~near & above & (radius > 12)]) / middle < 1.35
    # What is hidden has the colours of the crown down to the chin, and below it those of the neck.
    rows = colours[~near, 1] * 200
    high = points[~near, 1] > ball[:, 1].min() + 0.2
    assert (rows[high] < 100 - 7 * 4).all() and (rows[points[~near, 1] < ball[:, 1].min() - 0.2] > 120).all()
    with pytest.raises(ValueError, match="mask of the neutral frame is empty"):
        shell_points(ball, image, 0 * mask, camera, pose, 10, np.random.default_rng(0))


def test_the_shell_goes_through_the_landmarks_however_near_the_camera_is():
    """A ball of 7 cm seen from 25 cm, as a phone at arm's length sees a face twice as large."""
    angles = np.stack(np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 31)), -1).reshape(-1, 2)
    angles = angles[np.hypot(*angles.T) < 0.9]
    ball = np.concatenate([7 * angles, 7 * np.sqrt(1 - (angles**2).sum(1, keepdims=True))], 1)
    camera = Camera("0", np.eye(4), np.array([[150.0, 0, 100], [0, 150, 100], [0, 0, 1]]), 200, 200)
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 25.0
    mask = (np.hypot(*(np.mgrid[:200, :200] - 99.5)) < 70).astype(np.float32)
    points, _ = shell_points(
        ball, np.zeros((200, 200, 3), np.float32), mask, camera, pose, 6000, np.random.default_rng(0)
    )
    middle = (points[:, 2] > 0) & (np.hypot(*points[:, :2].T) < 4)
    assert middle.sum() > 300
    np.testing.assert_allclose(np.linalg.norm(points[middle], axis=1), 7, atol=0.1)


def _wall(colors, opacities, z):
    """Round Gaussians in a row along x, at depths z, as an avatar."""
    n = len(z)
    means = torch.stack([torch.linspace(-0.5, 0.5, n), torch.zeros(n), torch.as_tensor(z)], 1)
    avatar = GaussianAvatar(
        means.float(),
        torch.as_tensor(colors, dtype=torch.float32),
        0.04,
        Similarity(np.zeros(3), 1.0),
        descriptor="blendshapes",
        descriptor_mean=torch.zeros(2),
        descriptor_scale=1.0,
    )
    with torch.no_grad():
        avatar.opacity_logits.copy_(torch.logit(torch.as_tensor(opacities, dtype=torch.float32)))
    return avatar


def test_a_gaussian_makes_as_many_pixels_as_it_covers_where_it_is_seen_best():
    avatar = _wall([[0.5] * 3], [0.8], [0.0])
    view = torch.eye(4)
    view[2, 3] = 2.0
    away = view.clone()  # sees nothing of it
    away[0, 3] = 50.0
    K = torch.tensor([[100.0, 0, 32], [0, 100, 32], [0, 0, 1]])
    with torch.no_grad():
        avatar.means.zero_()
    half = torch.ones(64, 64)
    half[:, :32] = 0
    everywhere, counted = (
        pixels_made(avatar, torch.zeros(2, 2), torch.stack([view, away]), K.repeat(2, 1, 1), [c, c])
        for c in (torch.ones(64, 64), half)
    )
    sigma = 0.04 * 100 / 2  # pixels
    assert everywhere.item() == pytest.approx(2 * np.pi * sigma**2 * 0.8, rel=0.1)
    assert counted.item() == pytest.approx(everywhere.item() / 2, rel=0.02)


def test_what_is_hidden_is_filled_from_beside_and_what_was_made_clear_stays_clear():
    n = 24
    colors = np.tile([0.2, 0.4, 0.6], (n, 1))
    colors[5], opacities = [0.9, 0.9, 0.1], np.full(n, 0.9)
    colors[9], opacities[5], opacities[9] = [0.9, 0.1, 0.9], 0.6, 0.1
    made = torch.full((n,), 10 * SEEN)
    made[[5, 9]] = 0.0
    avatar = _wall(colors, opacities, np.zeros(n))
    before = torch.sigmoid(avatar.color_logits).detach().clone()
    fill_unseen(avatar, made)
    after, shown = torch.sigmoid(avatar.color_logits).detach(), torch.sigmoid(avatar.opacity_logits).detach()
    np.testing.assert_allclose(after[5], [0.2, 0.4, 0.6], atol=1e-3)
    assert shown[5] == pytest.approx(0.85, abs=1e-3) and shown[9] == pytest.approx(0.1, abs=1e-3)
    rest = [i for i in range(n) if i != 5]
    assert torch.equal(after[rest], before[rest])


def test_what_is_filled_lies_flat_in_the_surface_around_it():
    """On a tilted plane: wide along it, thin across, and the others as they were."""
    rng = np.random.default_rng(0)
    turn = Rotation.from_euler("xy", [30, 50], degrees=True).as_matrix()
    plane = np.c_[rng.uniform(-1, 1, (200, 2)), np.zeros(200)] @ turn.T
    avatar = _wall(np.full((200, 3), 0.5), np.full(200, 0.9), np.zeros(200))
    made = torch.full((200,), 10 * SEEN)
    made[7] = 0.0
    with torch.no_grad():
        avatar.means.copy_(torch.as_tensor(plane, dtype=torch.float32))
        avatar.log_scales[7] = torch.log(torch.tensor([0.02, 0.04, 0.08]))
    quats, scales = avatar.quats.detach().clone(), avatar.log_scales.detach().clone()
    fill_unseen(avatar, made)
    axes = Rotation.from_quat(np.roll(avatar.quats[7].detach().numpy(), -1)).as_matrix()
    extents = avatar.log_scales[7].exp().detach().numpy()
    covariance = (axes * extents**2) @ axes.T
    across = turn[:, 2]
    assert np.sqrt(across @ covariance @ across) == pytest.approx(FLAT * 0.04, rel=1e-3)
    along = np.sqrt([turn[:, i] @ covariance @ turn[:, i] for i in (0, 1)])
    np.testing.assert_allclose(along, WIDE * 0.04, rtol=1e-3)
    rest = [i for i in range(200) if i != 7]
    assert torch.equal(avatar.quats[rest], quats[rest]) and torch.equal(avatar.log_scales[rest], scales[rest])


def test_a_head_that_does_not_turn_trains_from_one_camera(film, tmp_path):
    _, rendered = film
    rules = {"default": replace(rendered.split_rules["default"], train_cameras=(rendered.encoder_camera,))}
    capture = replace(rendered, sequences=("EXP-1-head",), split_rules=rules)
    data = TrainingSet.from_capture(capture, TINY, progress=False)
    assert len(data.cameras) == 1 and data.landmarks.shape == (68, 3)
    pose = data.head_poses[data.neutral]
    world = data.landmarks @ pose[:3, :3].T + pose[:3, 3]
    sequence, frame = data.names[data.neutral]
    np.testing.assert_allclose(world, capture.landmarks68(sequence)[frame], atol=1e-5)
    trainer = Trainer(data, TINY, tmp_path, progress=False, device="cpu")
    assert trainer.avatar.render(data.descriptors[:1], data.head_poses[:1], data.cameras).mean() < 0.97, (
        "something of a head is there before any step"
    )
    with pytest.raises(ValueError, match="one camera and a head that turns by"):
        Trainer(replace(data, landmarks=None), TINY, tmp_path / "none", progress=False)


def test_a_film_trains_over_a_motion_prior_that_moves_its_landmarks_as_they_went(film, tmp_path):
    path, _ = film
    config = TINY.with_(prior=True, steps=3)
    capture = open_own(path, find_encoding(path, progress=False), 64)
    data = TrainingSet.from_capture(capture, config, progress=False)
    assert data.landmarks.shape == (478, 3) and data.displacements.shape == (64, 478, 3)
    avatar = Trainer(data, config, tmp_path, progress=False, device="cpu").train()
    assert avatar.motion is not None and avatar.prior is not None, "landmarks and what lies between"
    again = GaussianAvatar.load(tmp_path / "avatar.safetensors")
    assert torch.equal(again.prior.components, avatar.prior.components)
    placed = PlacedPrior.attach(avatar.prior.field, data.landmarks, avatar.neutral_descriptor, 478)
    placed.follow(
        torch.as_tensor(data.landmarks, dtype=torch.float32), torch.tensor([[1.0, 0, 0, 0]]).repeat(478, 1)
    )
    said = placed(torch.as_tensor(data.descriptors))[..., :3].numpy()
    seen = capture.annotations("video")["landmarks_head"][[frame for _, frame in data.names]] - data.landmarks
    # The outer rims of the lips, above less below: where lips touch, no place is only the one's.
    open_by = [x[:, IBUG68[51], 1] - x[:, IBUG68[57], 1] for x in (said, seen)]
    assert np.ptp(open_by[1]) > 0.5, "the mouth opens, by half a centimetre at least"
    assert np.corrcoef(*open_by)[0, 1] > 0.9
    assert 0.5 < np.ptp(open_by[0]) / np.ptp(open_by[1]) < 2


# ------------------------------------------------------------------------------------------------- poses


@pytest.fixture(scope="module")
def shipped(data_dir):
    return GaussianAvatar.load(data_dir / "checkpoints" / "001-centred.safetensors")


def test_a_head_moved_in_camera_space_is_found_again(shipped):
    camera = frontal_camera(shipped, 96)
    values = resting_descriptor(shipped)[None]
    truth = shipped.render(values, np.eye(4)[None], [camera])[:, 0]
    off = np.eye(4)
    off[:3, :3] = Rotation.from_rotvec([0.03, -0.04, 0.02]).as_matrix()
    off[:3, 3] = 0.3, -0.2, 0.1
    before = np.abs(shipped.render(values, off[None], [camera])[:, 0] - truth).mean()
    found = aligned_poses(shipped, values, off[None], camera, truth)
    after = np.abs(shipped.render(values, found, [camera])[:, 0] - truth).mean()
    assert after < 0.2 * before
    turn = Rotation.from_matrix(found[0, :3, :3]).magnitude()
    assert turn < 0.5 * Rotation.from_matrix(off[:3, :3]).magnitude()


def test_the_face_alone_may_say_where_a_head_is(shipped):
    """A head whose lower half is drawn elsewhere: weights on the upper half find the upper half's place."""
    camera, values = frontal_camera(shipped, 96), resting_descriptor(shipped)[None]
    aside = np.eye(4)
    aside[0, 3] = 0.8
    poses = np.stack([np.eye(4), aside])
    upper, lower = shipped.render(np.repeat(values, 2, 0), poses, [camera])[:, 0]
    seen = np.concatenate([upper[:40], lower[40:]])[None]
    weights = np.zeros((1, 96, 96))
    weights[:, :40] = 1
    start = aside / 2 + np.eye(4) / 2
    by_face, by_all, unasked = (
        aligned_poses(shipped, values, start[None], camera, seen, w)[0, 0, 3]
        for w in (weights, None, 0 * weights)
    )
    assert abs(by_face) < 0.1 < abs(by_all) and unasked == by_all


# ------------------------------------------------------------------------------------------------- views


def test_an_avatar_knows_from_where_it_was_seen(film, tmp_path):
    path, _ = film
    data = TrainingSet.from_capture(open_capture(path, downscale=4), TINY, progress=False)
    trainer = Trainer(data, TINY, tmp_path, progress=False, device="cpu")
    seen = trainer.avatar.views
    trainer.avatar.save(tmp_path / "a.safetensors")
    assert GaussianAvatar.load(tmp_path / "a.safetensors").views == seen
    # Head poses turned by 30 degrees to the head's left about its own middle widen it by as much.
    front = trainer.avatar.view(data.cameras[0], data.head_poses[data.neutral])
    aside = front.copy()
    aside[:3, :3] = Rotation.from_euler("y", 30, degrees=True).as_matrix() @ front[:3, :3]
    yaw, pitch, _ = np.rad2deg(view_angles(aside[None], front))[0]
    assert yaw == pytest.approx(30, abs=1) and abs(pitch) < 3


def test_heads_are_turned_to_a_little_beyond_what_training_saw(shipped):
    avatar, camera = shipped, frontal_camera(shipped, 64)
    turns = Rotation.from_euler("ZXY", [[5, 0, 0], [0, 10, 40], [-7, -30, -60]], degrees=True)
    poses = turned(avatar, camera, turns.as_matrix())
    same, over = within_views(avatar, camera, poses)
    assert same is poses and not over.any(), "an older avatar does not know its views"
    avatar.views = ViewRange(yaw=(-0.2, 0.3), pitch=(-0.1, 0.0))
    kept, over = within_views(avatar, camera, poses)
    avatar.views, seen = None, avatar.views
    assert over.tolist() == [False, True, True]
    np.testing.assert_array_equal(kept[0], poses[0])
    front = avatar.view(camera, np.eye(4))
    angles = view_angles(np.stack([avatar.view(camera, pose) for pose in kept]), front)
    (low, high), (below, _) = seen.limits()
    np.testing.assert_allclose([angles[1, 0], *angles[2, :2]], [high, low, below], atol=1e-4)
    # This camera does not look at the head's very middle, so that its own axes are a little aside.
    np.testing.assert_allclose(np.rad2deg([angles[1, 1], angles[2, 2]]), [10, -7], atol=3)
    middle = avatar.similarity.centre
    np.testing.assert_allclose(kept[:, :3, :3] @ middle + kept[:, :3, 3], np.tile(middle, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("views", [{"yaw": [1, 2], "pitch": [0, 0]}, {"yaw": [0, 0]}, [0, 1], {"yaw": "ab"}])
def test_a_range_of_views_that_is_none_is_refused(views, shipped, tmp_path):
    shipped.provenance, before = {**shipped.provenance, "views": views}, shipped.provenance
    shipped.save(tmp_path / "a.safetensors")
    shipped.provenance = before
    with pytest.raises(ValueError, match="holds no whole avatar"):
        GaussianAvatar.load(tmp_path / "a.safetensors")


def test_a_motion_and_its_reverse_cancel():
    view = torch.eye(4)[None].clone()
    view[0, :3, 3] = torch.tensor([1.0, 2, 3])
    there = moved(view, torch.tensor([0.1, -0.2, 0.3, 0.5, 0, 0]))
    assert there[0, :3, 3].tolist() == [1.5, 2, 3]
    torch.testing.assert_close(moved(there, torch.tensor([-0.1, 0.2, -0.3, -0.5, 0, 0])), view)
    assert float(torch.linalg.det(there[0, :3, :3])) == pytest.approx(1, abs=1e-5)


def test_only_the_frames_that_a_step_shows_are_corrected():
    poses = PoseCorrections(5, 0.01, torch.device("cpu"))
    for _ in range(3):
        poses.optimizer.zero_grad()
        poses.view(2, torch.eye(4)[None])[0, 0, 3].backward()
        poses.optimizer.step()
    table = poses.table.weight.detach()
    assert table[2, 3] < -0.02 and (table[[0, 1, 3, 4]] == 0).all()
    again = PoseCorrections(5, 0.01, torch.device("cpu"))
    again.load(poses.state())
    for one in (poses, again):
        one.optimizer.zero_grad()
        one.view(2, torch.eye(4)[None])[0, 0, 3].backward()
        one.optimizer.step()
    assert torch.equal(poses.table.weight, again.table.weight)


def test_poses_are_learned_with_one_camera_and_a_stopped_run_goes_on_with_them(film, tmp_path):
    path, _ = film
    data = TrainingSet.from_capture(
        open_own(path, find_encoding(path, progress=False), 64), TINY, progress=False
    )
    whole = Trainer(data, TINY, tmp_path / "whole", progress=False, device="cpu")
    assert whole.poses is not None
    avatar = whole.train()
    assert float(whole.poses.table.weight.detach().abs().max()) > 1e-4

    class Stop(Exception):
        pass

    def stop(trainer, line):
        raise Stop

    first = Trainer(data, TINY.with_(), tmp_path / "two", progress=False, device="cpu")
    first._show = None  # nobody looks in the first part: a step is broken off instead
    take = first._take_step

    def seven():
        if first.step == 7:
            first._save_checkpoint()
            raise Stop
        return take()

    first._take_step = seven
    with pytest.raises(Stop):
        first.train()
    second = Trainer(data, TINY, tmp_path / "two", progress=False, device="cpu")
    again = second.train(resume=True)
    assert torch.equal(second.poses.table.weight, whole.poses.table.weight)
    for name, value in avatar.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert Trainer(data, TINY.with_(lr_poses=0.0), tmp_path / "off", progress=False).poses is None
    with pytest.raises(ValueError, match="poses cannot be learned at rate -1"):
        TINY.with_(lr_poses=-1.0)


# --------------------------------------------------------------------------------------------- one command


def test_a_film_becomes_an_avatar_in_one_command(film, tmp_path, capsys, monkeypatch):
    path, _ = film
    monkeypatch.setattr(matting, "SelfieSegmenter", None)  # the matte that lies there is taken
    own = train_video(path, tmp_path, TINY, progress=False)
    assert "who agreed to it" in capsys.readouterr().out
    assert own.avatar.descriptor == "landmarks-mean" and own.path.is_file()
    table = own.table
    tracked, aligned = table.loc[("self", "avatar")], table.loc[("self", "avatar (aligned)")]
    # Each head is moved to where its face fits, so the face is what has to be nearer.
    assert tracked["views"] == aligned["views"] == 6 and aligned["psnr_face"] > tracked["psnr_face"] - 0.1
    assert (tmp_path / "metrics.json").is_file()
    floor = table.loc[("self", "noise floor"), ["landmarks", "landmarks_mouth", "aed", "aed_eyes"]]
    assert floor.gt(0).all() and "jitter" in table  # an encoder looked
    with av.open(str(own.film)) as container:
        assert "synthetic" in container.metadata["comment"]
    assert len(read_video(own.film)) == 6
    assert main(["drive", str(own.path), str(path), "--out", str(tmp_path / "d.mp4"), "--size", "64"]) == 0
    with av.open(str(tmp_path / "d.mp4")) as container:
        assert "synthetic" in container.metadata["comment"]


def test_of_a_film_no_more_is_read_than_is_graded(film, data_dir, tmp_path, monkeypatch):
    path, _ = film
    own = open_own(path, find_encoding(path, progress=False), 128, 0.5)
    kept = replace(own, cache_bytes=1 << 30)
    avatar = GaussianAvatar.load(data_dir / "checkpoints" / "001-centred.safetensors")
    asked = dict(size=64, frame_step=2, progress=False)
    whole = evaluate({"a": avatar}, kept, {}, **asked)
    held_out_video(tmp_path / "kept.mp4", avatar, kept, "held-out")
    read, video_frames = [], plain.video_frames

    def told(*args, **kwargs):
        for frame in video_frames(*args, **kwargs):
            read.append(frame.shape)
            yield frame

    monkeypatch.setattr(plain, "video_frames", told)
    next(own.each_over_white("video", "0", range(15)))
    assert len(read) == 1
    read.clear()
    table = evaluate({"a": avatar}, own, {}, **asked)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)
    assert len(read) == table["views"].sum() < 15
    np.testing.assert_array_equal(own.counts("video", "0", [2, 9]), kept.counts("video", "0")[[2, 9]])
    held_out_video(tmp_path / "own.mp4", avatar, own, "held-out")
    assert (tmp_path / "own.mp4").read_bytes() == (tmp_path / "kept.mp4").read_bytes()


def test_an_avatar_shakes_as_much_as_its_person_or_not_at_all(film):
    """One that shows the film itself has a jitter of 1; one that keeps showing one picture of it none. What
    lies below the neck is no distance by LPIPS either."""
    pytest.importorskip("mediapipe")
    capture = open_capture(film[0], held_out=0.3)
    values, pictures = (
        np.concatenate([of(sequence) for sequence in capture.sequences])
        for of in (
            lambda sequence: capture.descriptors(sequence, "blendshapes"),
            lambda sequence: capture.over_white(sequence, "0", np.arange(capture.n_frames(sequence))),
        )
    )
    pictures = pictures / np.float32(255)
    counts = np.concatenate(
        [capture.counts(s, "0", np.arange(capture.n_frames(s))) for s in capture.sequences]
    )
    without_body = np.where(counts[..., None] > 0.99, pictures, 0.0)
    assert (without_body != pictures).any()

    class Film:
        descriptor = "blendshapes"

        def __init__(self, shown):
            self.shown = shown

        def render(self, descriptors, head_poses, cameras):
            rows = [np.flatnonzero((values == d).all(1))[0] for d in descriptors]
            return self.shown[rows][:, None]

    still = np.repeat(pictures[:1], len(pictures), 0)
    avatars = {"film": Film(pictures), "still": Film(still), "no body": Film(without_body)}
    with MediaPipeEncoder() as encoder:
        table = evaluate(
            avatars,
            capture,
            {},
            size=256,
            encoder=encoder,
            networks=Networks({"alex": LPIPS("alex")}),
            progress=False,
        )
    assert table.loc[("self", "no body"), "lpips_alex"] == 0 != table.loc[("self", "still"), "lpips_alex"]
    columns = ["jitter", "jitter_mouth", "jitter_eyes"]
    np.testing.assert_allclose(table.loc[("self", "film"), columns].astype(float), 1, rtol=1e-5)
    assert table.loc[("self", "still"), columns].max() < 1e-5
    assert table.loc["training views", columns].isna().all(axis=None)


def test_a_film_trains_with_what_other_people_made(film, tmp_path, data_dir):
    """Retrieval in the film's own form: other donors' descriptors, of the bank minus each one's mean."""
    path, _ = film
    settings = TINY.with_(retrieval="centred", retrieval_p=1.0)
    bank = ExpressionBank.load(data_dir / "bank", descriptor=settings.descriptor)
    encoding = find_encoding(path, progress=False)
    data = TrainingSet.from_capture(open_own(path, encoding, settings.size, 0.3), settings, progress=False)
    trainer = Trainer(data, settings, tmp_path / "raf", bank=bank, progress=False)
    own = trainer.descriptors[3:4]
    taken, _ = trainer.augmentation.augment(own, torch.Generator().manual_seed(0), index=torch.tensor([3]))
    assert not torch.equal(taken, own) and (taken - own).norm() < 3 * own.norm() + 1
    assert trainer.train().motion is not None
    with pytest.raises(ValueError, match="landmarks-mean"):
        Trainer(data, settings, tmp_path / "raw", bank=ExpressionBank.load(data_dir / "bank"), progress=False)


def test_a_film_has_settings_of_its_own_on_the_command_line():
    assert parse(["train", "me.mp4", "--out", "me"]).keywords["settings"] == PRESETS["video"]
    assert parse(["train", "me.MOV", "--out", "me", "--steps", "9"]).keywords["settings"] == PRESETS[
        "video"
    ].with_(steps=9)
    assert parse(["train", "me.mp4", "--out", "me", "--preset", "gpu"]).keywords["settings"] == PRESETS["gpu"]
    assert parse(["train", "folder", "--out", "me"]).keywords["settings"] == PRESETS["cpu"]


def test_films_of_which_no_avatar_comes_are_told_before_minutes_are_spent(film):
    path, _ = film
    encoding = find_encoding(path, progress=False)
    check_film(encoding, path)
    two = replace(encoding, faces=np.full(len(encoding), 2, np.uint8))
    with pytest.raises(ValueError, match="30 of 30 frames show several faces"):
        check_film(two, path)
    still = replace(encoding, landmarks=np.repeat(encoding.landmarks[:1], len(encoding), 0))
    with pytest.raises(ValueError, match="shows a still picture"):
        check_film(still, path)
    found = np.arange(len(encoding)) < 4
    with pytest.raises(ValueError, match="a face was found in 4 frames only"):
        check_film(replace(encoding, face_found=found), path)


def test_the_pictures_are_cut_to_where_the_head_is(film):
    path, _ = film
    encoding = find_encoding(path, progress=False)
    left, top, width, height = head_box(encoding)
    seen = encoding.landmarks[..., :2]
    assert left < seen[..., 0].min() and left + width > seen[..., 0].max() and top < seen[..., 1].min()
    assert left >= 0 and top >= 0 and left + width <= 256 and top + height <= 256
    capture = open_own(path, encoding, 100)
    assert 70 <= max(capture.cameras["0"].width, capture.cameras["0"].height) <= 150
    assert isinstance(TINY, TrainConfig)
