"""Rendered heads: geometry, cameras and appearance agree with each other."""

import numpy as np
import pytest

from raf_lite.captures import Camera
from raf_lite.rig.expressions import EXPRESSION_UNITS
from raf_lite.rig.head import HEAD_PIVOT, HeadModel, head_pose_matrix
from raf_lite.rig.pack import load_pack
from raf_lite.rig.studio import CAMERA_ANGLES, FRONTAL, Person, studio_cameras

SIZE = 128


@pytest.fixture(scope="module")
def model(ict_pack):
    return HeadModel(load_pack(ict_pack))


@pytest.fixture(scope="module")
def head(model):
    person = Person.from_seed(4)
    return model.bake(person.shape, person.look)


def weights(**units):
    w = np.zeros(len(EXPRESSION_UNITS), np.float32)
    for name, value in units.items():
        w[EXPRESSION_UNITS.index(name)] = value
    return w


def test_same_seed_same_bytes_and_other_seed_other_face(model):
    front = [studio_cameras(SIZE)[FRONTAL]]
    pictures = []
    for seed in (5, 5, 6):
        person = Person.from_seed(seed)
        pictures.append(model.bake(person.shape, person.look).render(weights(), front)[0])
    assert np.array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0].astype(float) - pictures[2]).mean() > 2


def test_background_is_white_and_masks_are_soft(head):
    image, mask = head.render(weights(), [studio_cameras(SIZE)[FRONTAL]])
    assert (image[0][mask[0] == 0] == 255).all()
    assert 0.25 < (mask[0] > 127).mean() < 0.7
    assert set(np.unique(mask[0])) - {0, 255}, "the rim of the head has partial coverage"


def test_moving_the_head_is_the_same_as_moving_the_camera_the_other_way(head):
    camera = studio_cameras(SIZE)[FRONTAL]
    pose = head_pose_matrix(np.array([0.1, -0.3, 0.15]), np.array([0.5, -0.2, 0.3]))
    moved = Camera(
        serial=camera.serial,
        world_to_camera=camera.world_to_camera @ pose,
        K=camera.K,
        width=SIZE,
        height=SIZE,
    )
    _, a = head.render(weights(), [camera], pose)
    _, b = head.render(weights(), [moved])
    assert (
        np.abs(a.astype(int) - b).max() <= 64 and (a != b).mean() < 1e-3
    )  # rounding may flip a sample on the rim
    w = weights(jawOpen=0.5)
    ours, _ = camera.project(head.landmarks68(w, pose))
    theirs, _ = moved.project(head.landmarks68(w))
    assert np.allclose(ours, theirs, atol=1e-6)


def test_head_pose_turns_about_the_neck_with_the_stated_signs():
    pose = head_pose_matrix(np.array([0.2, 0.3, 0.1]), np.array([1.0, 2.0, 3.0]))
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.linalg.det(
        pose[:3, :3]
    ) == pytest.approx(1)
    assert np.allclose(pose[:3, :3] @ HEAD_PIVOT + pose[:3, 3], HEAD_PIVOT + [1, 2, 3])
    nose = np.array([0.0, 0.0, 1.0])
    assert (head_pose_matrix(np.array([0, 0.2, 0.0]), np.zeros(3))[:3, :3] @ nose)[
        0
    ] > 0  # yaw: towards the subject's left
    assert (head_pose_matrix(np.array([0.2, 0, 0.0]), np.zeros(3))[:3, :3] @ nose)[1] < 0  # pitch: down


def test_landmarks_project_onto_the_head_from_every_camera(head):
    cameras = studio_cameras(SIZE)
    assert len(cameras) == len(CAMERA_ANGLES) == 6
    _, masks = head.render(weights(), list(cameras.values()))
    for camera, mask in zip(cameras.values(), masks, strict=True):
        pixels, depth = camera.project(head.landmarks68(weights()))
        column, row = np.floor(pixels[17:]).astype(int).T  # brows, nose, eyes, mouth: inside the outline
        assert (depth > 60).all() and (mask[row, column] > 0).mean() > 0.95
    front, _ = cameras[FRONTAL].project(head.landmarks68(weights()))
    assert front[36, 0] < front[45, 0], "the subject's right eye is on the picture's left"
    assert front[8, 1] > front[27, 1], "the chin is below the nose bridge"


def test_opening_the_jaw_changes_the_mouth_and_lowers_the_chin_only(head):
    camera = studio_cameras(SIZE)[FRONTAL]
    closed, _ = head.render(weights(), [camera])
    opened, _ = head.render(weights(jawOpen=0.8), [camera])
    difference = np.abs(closed[0].astype(int) - opened[0]).max(-1)
    landmarks, _ = camera.project(head.landmarks68(weights()))
    brow = int(landmarks[17:27, 1].min())
    assert difference[:brow].mean() < 0.1, "hair and forehead stay as they are"
    mouth = landmarks[48:68]
    left, right = mouth[:, 0].min().astype(int), mouth[:, 0].max().astype(int)
    assert difference[int(mouth[:, 1].mean()) :, left:right].max() > 60
    lowered, _ = camera.project(head.landmarks68(weights(jawOpen=0.8)))
    assert lowered[8, 1] - landmarks[8, 1] > 3


def test_vertices_are_linear_in_the_weights(head):
    a, b = weights(jawOpen=0.4), weights(mouthSmile_L=0.7, browInnerUp_R=0.3)
    together = head.vertices(a + b) - head.rest
    assert np.allclose(together, (head.vertices(a) - head.rest) + (head.vertices(b) - head.rest), atol=1e-4)
    assert head.vertices(weights()) is head.rest


def test_smiling_on_the_left_moves_the_left_mouth_corner(head):
    moved = np.linalg.norm(head.landmarks68(weights(mouthSmile_L=1.0)) - head.landmarks68(weights()), axis=1)
    assert moved[54] > 5 * moved[48] and moved[54] > 0.3  # 54: the subject's left mouth corner


def test_people_differ_and_stay_human(model):
    sizes = []
    for seed in range(8):
        person = Person.from_seed(seed)
        assert np.abs(person.shape).max() <= 2
        landmarks = model.bake(person.shape, person.look).landmarks68(weights())
        sizes.append(np.linalg.norm(landmarks[36] - landmarks[45]))
    assert 7 < min(sizes) and max(sizes) < 11 and np.std(sizes) > 0.1  # outer eye corners, cm
