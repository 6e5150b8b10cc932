"""The renderer's triangle kernels, against values worked out by hand. No rig needed."""

import numpy as np
import pytest

from raf_lite.rig.appearance import (
    Appearance,
    hair_cover,
    inside_polygon,
    polyline_distance,
    smoothstep,
    value_noise,
)
from raf_lite.rig.raster import rasterise, vertex_normals


def buffers(height, width):
    return (
        np.empty((height, width), np.int32),
        np.empty((height, width), np.float32),
        np.zeros((height, width, 3), np.float32),
    )


def test_a_right_triangle_covers_the_pixel_centres_below_its_diagonal():
    points = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 1]], np.float32)
    face, depth, bary = buffers(4, 4)
    rasterise(points, np.array([[0, 1, 2]], np.int32), 4, 4, face, depth, bary)
    x, y = np.meshgrid(np.arange(4) + 0.5, np.arange(4) + 0.5)
    assert np.array_equal(face >= 0, x + y <= 4)
    assert np.allclose(bary[face >= 0].sum(1), 1)
    assert np.allclose(bary[0, 0], [0.75, 0.125, 0.125])  # centre (0.5, 0.5) of a triangle with legs of 4


def test_the_nearer_triangle_wins_in_either_order():
    points = np.array([[0, 0, 5], [4, 0, 5], [0, 4, 5], [0, 0, 2], [4, 0, 2], [0, 4, 2]], np.float32)
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        face, depth, bary = buffers(4, 4)
        rasterise(points, np.array(order, np.int32), 4, 4, face, depth, bary)
        assert depth[0, 0] == pytest.approx(2)
        assert order[face[0, 0]] == [3, 4, 5]


def test_barycentric_weights_are_perspective_correct():
    # An edge from depth 1 to depth 3, seen half-way on screen: 1/z is linear there, so z = 1.5 and the far
    # end weighs 1/4.
    points = np.array([[0, 0.5, 1], [4, 0.5, 3], [0, 8.5, 1]], np.float32)
    face, depth, bary = buffers(1, 4)
    rasterise(points, np.array([[0, 1, 2]], np.int32), 1, 4, face, depth, bary)
    near_far = bary[0, 1]  # centre at x = 1.5: screen weight 1.5/4 of the far end
    w = 1.5 / 4
    expected = (w / 3) / (w / 3 + (1 - w) / 1)
    assert near_far[1] == pytest.approx(expected, abs=1e-5)


def test_triangles_behind_the_camera_are_not_drawn():
    points = np.array([[0, 0, -1], [4, 0, 1], [0, 4, 1]], np.float32)
    face, depth, bary = buffers(4, 4)
    rasterise(points, np.array([[0, 1, 2]], np.int32), 4, 4, face, depth, bary)
    assert (face == -1).all()


def test_vertex_normals_of_an_octahedron_point_outwards():
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    triangles = [
        (x, y, z) if (x + (y - 2) + (z - 4)) % 2 == 0 else (y, x, z)
        for x in (0, 1)
        for y in (2, 3)
        for z in (4, 5)
    ]
    normals = np.empty_like(vertices)
    vertex_normals(vertices, np.array(triangles, np.int32), normals)
    assert np.allclose(normals, vertices, atol=1e-6)


def test_value_noise_is_smooth_bounded_and_seeded():
    points = np.random.default_rng(0).uniform(-20, 20, (2000, 3))
    a, b = value_noise(points, 3), value_noise(points, 4)
    assert a.min() >= 0 and a.max() <= 1 and 0.45 < a.mean() < 0.55
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    assert np.abs(value_noise(points + 1e-4, 3) - a).max() < 1e-3


def test_polyline_distance_and_polygon_by_hand():
    line = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    distance, along = polyline_distance(np.array([[1.0, 1.0], [3.0, 1.0], [-1.0, 0.0]]), line)
    assert np.allclose(distance, [1, 1, 1]) and np.allclose(along, [0.25, 0.75, 0.0])
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    assert inside_polygon(np.array([[1.0, 1.0], [3.0, 1.0]]), square).tolist() == [True, False]


def test_smoothstep_runs_either_way():
    assert smoothstep(0, 1, np.array([-1.0, 0.5, 2.0])).tolist() == [0, 0.5, 1]
    assert smoothstep(1, 0, np.array([-1.0, 0.5, 2.0])).tolist() == [1, 0.5, 0]


def test_appearance_is_seeded_and_hair_covers_the_crown_not_the_face():
    looks = [Appearance.random(np.random.default_rng(seed)) for seed in range(40)]
    again = Appearance.random(np.random.default_rng(0))
    assert np.array_equal(looks[0].skin, again.skin) and looks[0].noise_seed == again.noise_seed
    crown, nose = np.array([[0.0, 14.0, 1.0]]), np.array([[0.0, 0.4, 13.0]])
    for look in looks:
        assert hair_cover(crown, look)[0] == (0 if look.bald else 1)
        assert hair_cover(nose, look)[0] == 0
    assert 0 < sum(look.bald for look in looks) < 20
