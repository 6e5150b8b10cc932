"""The avatar: fields start at zero, the hull holds the shape, checkpoints come back whole."""

import json

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from raf_lite.avatar import (
    FIELDS,
    GaussianAvatar,
    Similarity,
    resting_descriptor,
    surface_points,
    visual_hull,
)
from raf_lite.captures import Camera

SIZE = 48


def ring_of_cameras(n=6, size=SIZE, distance=6.0, focal=2.2):
    """Cameras on a circle round the origin, looking inwards; OpenCV axes, world y up."""
    cameras = []
    for k in range(n):
        angle = 2 * np.pi * k / n
        outwards = np.array([np.sin(angle), 0.0, np.cos(angle)])
        right = np.cross(-outwards, [0.0, 1.0, 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(-outwards, right), -outwards])
        pose[:3, 3] = -pose[:3, :3] @ (distance * outwards)
        K = np.array([[focal * size, 0, size / 2], [0, focal * size, size / 2], [0, 0, 1.0]])
        cameras.append(Camera(serial=str(k), world_to_camera=pose, K=K, width=size, height=size))
    return cameras


def ball_masks(cameras, centre, radius):
    """Exact silhouettes of a ball."""
    masks = []
    for c in cameras:
        x, y = np.meshgrid(np.arange(c.width) + 0.5, np.arange(c.height) + 0.5)
        rays = np.stack([(x - c.K[0, 2]) / c.K[0, 0], (y - c.K[1, 2]) / c.K[1, 1], np.ones_like(x)], -1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        middle = c.world_to_camera[:3, :3] @ centre + c.world_to_camera[:3, 3]
        along = rays @ middle
        masks.append((middle @ middle - along**2 < radius**2).astype(np.float32))
    return np.stack(masks)


def small_avatar(field="basis", n=40, dim=5, **known):
    g = torch.Generator().manual_seed(0)
    return GaussianAvatar(
        torch.randn(n, 3, generator=g) * 0.3,
        torch.rand(n, 3, generator=g),
        0.1,
        Similarity(np.array([0.5, 1.0, -2.0]), 3.0),
        descriptor="blendshapes",
        descriptor_mean=torch.zeros(dim),
        descriptor_scale=0.5,
        field=field,
        **known,
    )


def test_visual_hull_of_a_ball_is_about_that_ball():
    cameras, centre, radius = ring_of_cameras(12), np.array([0.2, -0.1, 0.1]), 0.9
    hull = visual_hull(ball_masks(cameras, centre, radius), cameras, np.eye(4))
    assert np.linalg.norm((hull.max(0) + hull.min(0)) / 2 - centre) < 0.08
    # The hull contains the ball; cameras on one circle cannot see its poles get thinner, so it is a little
    # larger.
    distance = np.linalg.norm(hull - centre, axis=1)
    assert distance.max() < radius * 1.25
    grid = np.median(np.diff(np.unique(hull[:, 0])))
    assert abs(len(hull) * grid**3 / (4 / 3 * np.pi * radius**3) - 1) < 0.25


def test_visual_hull_lives_in_head_space():
    cameras, centre = ring_of_cameras(8), np.array([0.1, 0.2, 0.0])
    pose = np.eye(4)
    pose[:3, 3] = centre  # the head stands at `centre`; in its own space the ball is at the origin
    hull = visual_hull(ball_masks(cameras, centre, 0.8), cameras, pose)
    assert np.linalg.norm(hull.mean(0)) < 0.05


def test_masks_that_do_not_fit_the_cameras_are_named():
    cameras = ring_of_cameras(4)
    with pytest.raises(ValueError, match="masks and camera"):
        visual_hull(np.zeros((4, SIZE, SIZE), np.float32), cameras, np.eye(4))
    with pytest.raises(ValueError, match=f"camera.s. {cameras[0].serial} look in one direction"):
        visual_hull(np.ones((1, SIZE, SIZE), np.float32), cameras[:1], np.eye(4))


def test_surface_points_take_the_colour_of_the_side_they_are_on():
    cameras = ring_of_cameras(2)  # one in front (+z), one behind
    hull = visual_hull(ball_masks(ring_of_cameras(8), np.zeros(3), 0.9), ring_of_cameras(8), np.eye(4))
    images = np.zeros((2, SIZE, SIZE, 3), np.float32)
    images[0, ..., 0] = 1  # the front camera sees red, the rear one blue
    images[1, ..., 2] = 1
    points, colours = surface_points(hull, images, cameras, np.eye(4), 500, np.random.default_rng(0))
    assert points.shape == colours.shape == (500, 3)
    front, back = points[:, 2] > 0.3, points[:, 2] < -0.3
    assert (colours[front, 0] == 1).mean() > 0.95 and (colours[back, 2] == 1).mean() > 0.95


def test_normalising_moves_no_pixel():
    camera = ring_of_cameras(3)[1]
    similarity = Similarity(np.array([0.3, -0.2, 0.4]), 1.7)
    pose = np.eye(4)
    pose[:3, 3] = [0.1, 0.2, 0.3]
    point = np.array([0.4, 0.1, -0.2])
    expected, _ = camera.project(pose[:3, :3] @ point + pose[:3, 3])
    view = similarity.viewmat(camera.world_to_camera, pose)
    x = view[:3, :3] @ ((point - similarity.centre) / similarity.radius) + view[:3, 3]
    assert np.allclose(camera.K[[0, 1], [0, 1]] * x[:2] / x[2] + camera.K[:2, 2], expected)


@pytest.mark.parametrize("field", FIELDS)
def test_a_new_field_deforms_nothing_and_learns_from_the_descriptor(field):
    avatar = small_avatar(field)
    gaussians, offsets = avatar.gaussians(torch.randn(2, 5))
    assert (offsets == 0).all() and torch.equal(gaussians["means"][0], avatar.means)
    descriptors = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]])
    optimizer = torch.optim.Adam(avatar.field.parameters(), lr=1e-2)
    target = torch.stack([avatar.means.detach() + 0.05, avatar.means.detach() - 0.05])
    first = None
    for _ in range(150):
        loss = (avatar.gaussians(descriptors)[0]["means"] - target).square().mean()
        first = first if first is not None else loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first, "two descriptors, two shapes: the field must tell them apart"


@pytest.mark.parametrize("field", FIELDS)
def test_save_and_load_give_the_same_pictures(field, tmp_path):
    avatar = small_avatar(field, provenance={"seed": 3})
    with torch.no_grad():
        for p in avatar.field.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    cameras = [c for c in ring_of_cameras(2)]
    descriptors, poses = np.random.default_rng(0).random((2, 5), np.float32), np.repeat(np.eye(4)[None], 2, 0)
    avatar.similarity = Similarity(np.zeros(3), 1.0)
    before = avatar.render(descriptors, poses, cameras)
    avatar.save(tmp_path / "a.safetensors")
    again = GaussianAvatar.load(tmp_path / "a.safetensors")
    assert again.provenance == {"seed": 3} and again.field_name == field
    assert np.array_equal(before, again.render(descriptors, poses, cameras))
    assert before.shape == (2, 2, SIZE, SIZE, 3) and before.min() >= 0 and before.max() <= 1


def test_what_an_avatar_knows_of_itself_comes_back(tmp_path):
    path = tmp_path / "a.safetensors"
    front = Camera("front", ring_of_cameras(3)[1].world_to_camera, ring_of_cameras(3)[1].K, 40, 30)
    avatar = small_avatar(
        neutral_descriptor=np.linspace(0, 1, 5), front=front, provenance={"config": {"steps": 2}}
    )
    avatar.save(path)
    again = GaussianAvatar.load(path)
    assert again.neutral_descriptor.dtype == np.float32 and again.provenance == {"config": {"steps": 2}}
    np.testing.assert_array_equal(again.neutral_descriptor, np.linspace(0, 1, 5).astype(np.float32))
    np.testing.assert_array_equal(again.front.world_to_camera, front.world_to_camera)
    assert np.array_equal(again.front.K, front.K) and (again.front.width, again.front.height) == (40, 30)
    np.testing.assert_array_equal(resting_descriptor(again), again.neutral_descriptor)
    small_avatar().save(path)
    nothing = GaussianAvatar.load(path)
    assert nothing.neutral_descriptor is None and nothing.front is None and nothing.provenance == {}
    np.testing.assert_array_equal(resting_descriptor(nothing), np.zeros(5))
    for wrong in (np.zeros(4), np.full(5, np.nan)):
        with pytest.raises(
            ValueError, match=r"neutral descriptor is \[\d\] or has .* give \[5\] numbers of 'blendshapes'"
        ):
            small_avatar(neutral_descriptor=wrong)


@pytest.mark.parametrize(
    "notes",
    [
        {"neutral_descriptor": [0.0] * 4},
        {"neutral_descriptor": "x"},
        {"front": 3},
        {"front": {}},
        {"front": {"viewmat": [[1]], "K": [[1]], "width": 1, "height": 1}},
        {
            "front": {
                "viewmat": np.diag([1, 2, 3, 1]).tolist(),
                "K": np.eye(3).tolist(),
                "width": 8,
                "height": 8,
            }
        },
        ["seed"],
    ],
)
def test_an_avatar_that_is_wrong_about_itself_is_named(notes, tmp_path):
    path = tmp_path / "a.safetensors"
    small_avatar().save(path)
    with safe_open(path, "pt") as f:
        header, state = json.loads(f.metadata()["raf_lite"]), {name: f.get_tensor(name) for name in f.keys()}
    save_file(state, path, metadata={"raf_lite": json.dumps(header | {"notes": notes})})
    with pytest.raises(ValueError, match="a.safetensors holds no whole avatar"):
        GaussianAvatar.load(path)


def test_render_refuses_what_it_cannot_be_driven_by():
    avatar, cameras = small_avatar(), ring_of_cameras(1)
    with pytest.raises(
        ValueError, match="descriptors have 6 dimensions and this avatar's 'blendshapes' have 5"
    ):
        avatar.render(np.zeros((1, 6)), np.eye(4)[None], cameras)
    with pytest.raises(ValueError, match="row 1 of descriptors holds NaN"):
        avatar.render(np.array([[0.0] * 5, [np.nan] * 5]), np.repeat(np.eye(4)[None], 2, 0), cameras)


def test_damaged_missing_and_foreign_checkpoints_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no avatar at"):
        GaussianAvatar.load(path)
    small_avatar().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        GaussianAvatar.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no raf_lite avatar"):
        GaussianAvatar.load(path)
    save_file(
        {"x": torch.zeros(1)},
        path,
        metadata={"raf_lite": json.dumps({"kind": "raf_lite.GaussianAvatar", "format": 99})},
    )
    with pytest.raises(ValueError, match="format 99"):
        GaussianAvatar.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    small_avatar().save(path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match=r"a.safetensors cannot be written \(.*No space left.*; make room"):
        small_avatar().save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
