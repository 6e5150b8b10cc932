"""Gaussians that ride on landmarks: where they go, where the field is asked, what comes back from a file."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raf_lite import GaussianAvatar, TrainConfig, Trainer, open_capture
from raf_lite.avatar import Similarity
from raf_lite.avatar.landmark_motion import LIPS, LandmarkMotion
from raf_lite.avatar.reach import Reach
from raf_lite.captures.formats.plain import IBUG68
from raf_lite.descriptors.forms import landmark_basis, landmark_displacements
from raf_lite.training import TrainingSet

# A face ten wide: landmarks at its corners and two lips.
FACE = np.array([[-5.0, 4, 0], [5, 4, 0], [-5, -4, 0], [5, -4, 0], [0, -2, 1], [0, -3, 1]])
LIPS_PART = np.zeros((2, 6, 3))
LIPS_PART[1, 5] = [0, -2, 0]  # the second dimension takes the lower lip down by two


def attach(means, rest=(0.0, 0)):
    return LandmarkMotion.attach(np.asarray(means, float), FACE, LIPS_PART, np.array(rest))


def test_a_gaussian_goes_with_the_landmark_it_lies_on_and_a_far_one_stays():
    motion = attach([FACE[5], FACE[4], FACE[5] - [0, 0, 12], FACE[0]], rest=(0.0, 0.25))
    still, moved = motion(torch.tensor([[9.0, 0.25], [0.0, 1.25]]))
    assert still.abs().max() == 0  # the rest's own, whatever says nothing of points
    assert moved[0, 1] == pytest.approx(-2, abs=0.1) and moved[0, [0, 2]].abs().max() == 0
    assert abs(moved[1, 1]) < 0.1, "the upper lip stays where it is"
    assert moved[2].abs().max() < 1e-3 and moved[3].abs().max() < 0.05


@pytest.mark.parametrize("count", [478, 68])
def test_lips_that_touch_part(count):
    """A shut mouth, Gaussians on both lips and between them: each goes with one lip alone."""
    upper, lower = LIPS[count]
    assert not set(upper) & set(lower)
    face = landmark_basis().mean if count == 478 else landmark_basis().mean[IBUG68]
    assert face[upper, 1].max() < face[lower, 1].min() + 0.02, "y goes down the face"
    shut = face * [1, -1, -1]
    down = np.zeros((1, count, 3))
    down[0, lower, 1] = -1
    line = shut[upper, 1].min()
    shut[upper, 1], shut[lower, 1] = line + 0.001, line  # two lips, each one line
    on = np.concatenate([shut[upper], shut[lower]])
    motion = LandmarkMotion.attach(on, shut, down, np.zeros(1))
    moved = motion(torch.ones(1, 1))[0, :, 1]
    assert moved[: len(upper)].abs().max() == 0
    middle = [i for i, p in enumerate(on) if i >= len(upper) and abs(p[0]) < 0.1]
    assert len(middle) >= 3 and moved[middle].max() < -0.9


def test_descriptors_of_training_stay_and_others_come_near_them():
    rng = np.random.default_rng(0)
    turns = rng.uniform(0, 2 * np.pi, 400)
    seen = np.stack([np.cos(turns), np.sin(turns), 0.05 * rng.normal(size=400)], 1).astype(np.float32)
    reach = Reach.of_training(seen)
    assert reach.rows.shape == (128, 3) and reach.spread == pytest.approx(1, abs=0.05)
    seen = torch.from_numpy(seen)
    assert torch.cdist(seen, reach.rows).min(1).values.max() < 0.15, "rows stand for all of them"
    assert torch.equal(reach.within(seen), seen)
    # Each dimension within its own range, and yet nothing of the kind was seen.
    corner = torch.tensor([[0.98, 0.98, 0.14]])
    assert torch.cdist(corner, seen).min() > 0.3
    far = torch.cat([corner * k for k in (1, 2, 4)])
    asked = reach.within(far)
    assert torch.cdist(asked, seen).min(1).values.max() < 1.05 and torch.cdist(far, seen).min() > 0.3
    assert torch.cdist(far[2:], seen).min() > 4
    assert torch.cosine_similarity(far, asked).min() > 0.97, "what it means goes on"
    path = torch.stack([torch.linspace(-3, 3, 600), torch.full((600,), 0.4), torch.zeros(600)], 1)
    steps = reach.within(path).diff(dim=0).norm(dim=1)
    assert steps.max() < 0.1, "it does not jump"


def test_a_training_of_one_descriptor_has_a_reach():
    reach = Reach.of_training(np.ones((5, 2), np.float32))
    assert reach.rows.shape == (1, 2)
    torch.testing.assert_close(reach.within(torch.tensor([[4.0, 1.0], [1, 1]])), torch.ones(2, 2))


def riding(field="basis"):
    g = torch.Generator().manual_seed(0)
    avatar = GaussianAvatar(
        torch.randn(40, 3, generator=g) * 0.5,
        torch.rand(40, 3, generator=g),
        0.1,
        Similarity(np.array([0.5, 1.0, -2.0]), 3.0),
        descriptor="landmarks-mean",
        descriptor_mean=torch.zeros(2),
        descriptor_scale=0.5,
        neutral_descriptor=np.zeros(2, np.float32),
        field=field,
    )
    with torch.no_grad():
        for p in avatar.field.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    avatar.ride(FACE, LIPS_PART, np.array([[0, 0], [1, 1], [0, 1], [1, 0]], np.float32))
    return avatar


@pytest.mark.parametrize("field", ["basis", "mlp"])
def test_the_field_is_asked_within_training_and_landmarks_go_on_beyond_it(field):
    avatar = riding(field)
    far = torch.tensor([[0.5, 3.0]])
    near = avatar.reach.within(far)
    assert 1 < near[0, 1] < 2
    edge, beyond = avatar.gaussians(near), avatar.gaussians(far)
    wanted = avatar.field((near - avatar.descriptor_mean) / avatar.descriptor_scale, avatar.means)
    torch.testing.assert_close(beyond[1], wanted)
    gone = avatar.motion(far) - avatar.motion(near)
    assert gone.abs().max() > 0.1
    torch.testing.assert_close(beyond[0]["means"] - edge[0]["means"], gone, atol=1e-5, rtol=0)


def test_an_avatar_that_rides_comes_back_from_its_file(tmp_path):
    avatar, asked = riding(), torch.tensor([[0.3, 2.0]])
    avatar.save(tmp_path / "a.safetensors")
    again = GaussianAvatar.load(tmp_path / "a.safetensors")
    assert torch.equal(again.gaussians(asked)[0]["means"], avatar.gaussians(asked)[0]["means"])
    tensors = load_file(tmp_path / "a.safetensors")
    with open(tmp_path / "a.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["__metadata__"]
    for name, value in (
        ("motion.nearest", torch.full((40, 4), 6)),  # there are landmarks 0 to 5
        ("motion.nearest", torch.full((40, 4), -1)),
        ("motion.weights", torch.full((40, 4), torch.nan)),
        ("motion.displacements", torch.zeros(3, 6, 3)),  # of another descriptor
        ("motion.rest", torch.zeros(())),
    ):
        save_file(tensors | {name: value}, tmp_path / "b.safetensors", header)
        with pytest.raises(ValueError, match=r"b\.safetensors.*save or copy"):
            GaussianAvatar.load(tmp_path / "b.safetensors")


@pytest.fixture(scope="module")
def capture(data_dir):
    return replace(open_capture(data_dir / "mini_nersemble" / "001"), sequences=("EXP-1-head",))


def test_a_captures_landmarks_go_where_its_person_took_them(capture):
    """The 68 points that the renderer wrote, against those that the descriptor says, in head space."""
    config = TrainConfig(size=32, descriptor="landmarks-neutral", landmark_motion=True)
    data = TrainingSet.from_capture(capture, config, progress=False)
    assert data.displacements.shape == (64, 68, 3) and data.landmarks.shape == (68, 3)
    pose = capture.require_head_poses("EXP-1-head")
    truth = np.einsum(
        "tlc,tcd->tld", capture.landmarks68("EXP-1-head") - pose[:, None, :3, 3], pose[:, :3, :3]
    )
    frames = [frame for _, frame in data.names]
    truth = truth[frames] - data.landmarks
    said = np.einsum("td,dlc->tlc", data.descriptors - data.descriptors[data.neutral], data.displacements)
    lips = slice(48, 68)
    moved = np.abs(truth[:, lips, 1]).max()
    assert moved > 0.05 * np.ptp(data.landmarks[:, 0]), "the film has a mouth that moves"
    r = np.corrcoef(truth[:, lips, 1].ravel(), said[:, lips, 1].ravel())[0, 1]
    slope = (truth[:, lips, 1] * said[:, lips, 1]).sum() / (truth[:, lips, 1] ** 2).sum()
    assert r > 0.85 and 0.6 < slope < 1.4


@pytest.mark.parametrize("field", ["basis", "mlp"])
def test_it_trains_with_several_cameras_and_goes_on_after_a_stop(capture, tmp_path, field):
    config = TrainConfig(
        steps=8, size=32, coarse_steps=0, gaussians=300, checkpoint_every=4, field=field
    ).with_(descriptor="landmarks-mean", landmark_motion=True)
    data = TrainingSet.from_capture(capture, config, progress=False)

    first = Trainer(data, config, tmp_path / "whole", progress=False)
    assert first.avatar.motion is not None
    whole = first.train()
    part = Trainer(data, config, tmp_path / "part", progress=False)
    take = part._take_step

    def third():
        if part.step == 5:
            raise KeyboardInterrupt
        return take()

    part._take_step = third
    with pytest.raises(KeyboardInterrupt):
        part.train()
    again = Trainer(data, config, tmp_path / "part", progress=False).train(resume=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)


def test_other_descriptors_train_without(capture, tmp_path):
    assert landmark_displacements(np.zeros((68, 3)), "blendshapes") is None
    config = TrainConfig(steps=1, size=32, coarse_steps=0, gaussians=200, landmark_motion=True)
    data = TrainingSet.from_capture(capture, config, progress=False)
    assert data.displacements is None
    assert Trainer(data, config, tmp_path, progress=False).train().motion is None


def test_displacements_stand_in_the_landmarks_own_space():
    basis, turn = landmark_basis(), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    there = basis.displacements_at(2 * basis.mean @ turn.T + 5)
    wanted = 2 * basis.basis.reshape(-1, 478, 3) @ turn.T
    np.testing.assert_allclose(there, wanted, atol=1e-5)
