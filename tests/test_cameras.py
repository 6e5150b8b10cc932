"""Cameras: projection by hand, crops and scales that agree with it, and every fault of a calibration
named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from raf_lite.captures import Camera, block_mean, shrink_factor
from raf_lite.captures.cameras import nearest_to_axes, project
from raf_lite.captures.scaling import shrink

K = np.array([[500.0, 0, 128], [0, 400, 100], [0, 0, 1]])


def camera(**changes) -> Camera:
    values = dict(serial="222200037", world_to_camera=np.eye(4), K=K, width=256, height=200)
    return Camera(**(values | changes))


def test_projection_by_hand():
    # x right, y down, z forward: u = 500 * 1 / 5 + 128, v = 400 * -0.5 / 5 + 100.
    pixels, depth = camera().project(np.array([[1.0, -0.5, 5.0], [0, 0, 2]]))
    np.testing.assert_allclose(pixels, [[228, 60], [128, 100]])
    np.testing.assert_allclose(depth, [5, 2])


def test_points_behind_have_no_pixels():
    pixels, depth = camera().project(np.array([[0.0, 0, -1], [0, 0, 0]]))
    assert np.isnan(pixels).all()
    np.testing.assert_allclose(depth, [-1, 0])


def test_points_of_another_space_project_as_in_the_world():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = (
        Rotation.from_euler("xyz", [20, -40, 10], degrees=True).as_matrix(),
        [0.3, -0.2, 4],
    )
    points = np.random.default_rng(0).normal(size=(2, 5, 3))
    pixels, depth = project(points, camera().world_to_camera @ pose, camera().K)
    expected, expected_depth = camera().project(points @ pose[:3, :3].T + pose[:3, 3])
    np.testing.assert_allclose(pixels, expected, atol=1e-9)
    np.testing.assert_allclose(depth, expected_depth, atol=1e-12)


def test_the_point_nearest_to_axes():
    # Two axes along x and y that pass each other 2 apart in z: the point half way between them.
    point = nearest_to_axes(np.array([[-5.0, 0, 1], [0, 7, 3]]), np.array([[1.0, 0, 0], [0, -1, 0]]))
    np.testing.assert_allclose(point, [0, 0, 2], atol=1e-12)
    assert nearest_to_axes(np.zeros((1, 3)), np.array([[0, 0, 1.0]])) is None
    assert nearest_to_axes(np.array([[0, 0, 0], [1.0, 0, 0]]), np.array([[0, 0, 1.0], [0, 0, 1.0]])) is None


def test_center_is_where_the_camera_stands():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    matrix[:3, 3] = [1, -2, 30]
    moved = camera(world_to_camera=matrix)
    np.testing.assert_allclose(matrix @ np.append(moved.center, 1), [0, 0, 0, 1], atol=1e-12)


@given(
    st.integers(1, 8),
    st.integers(0, 50),
    st.integers(0, 50),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(2, 9)),
)
def test_crop_then_scale_moves_pixels_the_same_way(n, left, top, point):
    pixels, _ = camera().project(np.array(point))
    changed = camera().cropped(left, top, 150, 120).scaled(1 / n)
    moved, _ = changed.project(np.array(point))
    np.testing.assert_allclose(moved, (pixels - [left, top]) / n, atol=1e-9)
    assert (changed.width, changed.height) == (150 // n, 120 // n)


def test_scaling_up_keeps_the_view():
    big = camera().scaled(2)
    assert (big.width, big.height) == (512, 400)
    np.testing.assert_allclose(big.K, [[1000, 0, 256], [0, 800, 200], [0, 0, 1]])


def test_crop_outside_the_image():
    with pytest.raises(ValueError, match="222200037.*256x200"):
        camera().cropped(200, 0, 100, 100)


def test_frozen():
    with pytest.raises(ValueError, match="read-only"):
        camera().K[0, 0] = 1


def sheared() -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 1] = 0.01
    return matrix


def with_last_row() -> np.ndarray:
    matrix = np.eye(4)
    matrix[3, 0] = 1
    return matrix


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("world_to_camera", np.eye(3), r"world_to_camera has shape \[3, 3\]"),
        ("world_to_camera", "a matrix", "world_to_camera is not a matrix"),
        ("world_to_camera", [[1, 2], [3]], "world_to_camera is not a matrix"),
        ("world_to_camera", sheared(), "world_to_camera.*no rotation"),
        ("world_to_camera", np.diag([2.0, 2, 2, 1]), "world_to_camera.*no rotation"),
        ("world_to_camera", np.diag([1.0, 1, -1, 1]), "world_to_camera.*mirrors"),
        ("world_to_camera", np.full((4, 4), np.nan), "world_to_camera.*not finite"),
        ("world_to_camera", with_last_row(), "world_to_camera.*last row"),
        ("K", np.eye(4), r"K has shape \[4, 4\]"),
        ("K", np.full((3, 3), np.inf), "K has values that are not finite"),
        ("K", np.diag([-500.0, 500, 1]), "K must be"),
        ("K", K + [[0, 3, 0], [0, 0, 0], [0, 0, 0]], "K must be"),
        ("K", K.T, "K must be"),
        ("width", 0, "0x200"),
    ],
)
def test_faults_are_named(field, value, message):
    with pytest.raises(ValueError, match=message) as error:
        camera(**{field: value})
    assert "222200037" in str(error.value)


def test_block_means_by_hand_and_the_factor_to_them():
    frames = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)  # the fifth row is left over
    np.testing.assert_array_equal(
        block_mean(frames, 2), [[[2.5, 4.5], [10.5, 12.5]], [[22.5, 24.5], [30.5, 32.5]]]
    )
    colour = np.stack([frames, frames + 1], -1)
    np.testing.assert_array_equal(block_mean(colour, 2)[..., 1], block_mean(frames, 2) + 1)
    view = camera(width=3208, height=2200)
    assert [shrink_factor(view, size) for size in (4000, 3208, 1604, 1000, 256)] == [1, 1, 2, 3, 12]


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 7])
def test_a_shrunk_picture_is_the_rounded_block_mean(factor):
    image = np.random.default_rng(factor).integers(0, 256, (61, 45, 3)).astype(np.uint8)
    for picture in (image, image[..., 0]):
        small = shrink(picture, factor)
        assert small.dtype == np.uint8
        np.testing.assert_array_equal(small, np.floor(block_mean(picture[None], factor)[0] + 0.5))
    assert shrink(np.array([[0, 1], [0, 1]], np.uint8), 2) == 1  # a half goes up
