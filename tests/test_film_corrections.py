"""What is learned of a film beside its avatar: the exposure of its frames and its focal length."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from raf_lite import GaussianAvatar, Trainer, open_capture
from raf_lite.captures import Camera
from raf_lite.training import PRESETS, TrainingSet, film_corrections
from raf_lite.training.film_corrections import FOCAL_BOUND, ExposureCorrections, FocalCorrection

CPU = torch.device("cpu")
OFF = PRESETS["video"].with_(
    steps=12, coarse_steps=6, size=64, gaussians=300, checkpoint_every=5, lr_exposure=0.0, lr_focal=0.0
)
ON = OFF.with_(lr_exposure=0.5, lr_focal=0.01)


@pytest.fixture(scope="module")
def capture(data_dir):
    """A rendered person whom the frontal camera alone films."""
    whole = open_capture(data_dir / "mini_nersemble" / "001")
    rules = {"default": replace(whole.split_rules["default"], train_cameras=(whole.encoder_camera,))}
    return replace(whole, sequences=("EXP-1-head",), split_rules=rules)


@pytest.fixture(scope="module")
def data(capture):
    return TrainingSet.from_capture(capture, OFF, progress=False)


# ---------------------------------------------------------------------------------------------- exposure


@pytest.fixture
def head():
    """A picture over white of a head that covers three of five rows, half of one more, and its alpha."""
    alpha = torch.ones(1, 5, 5, 1)
    alpha[0, 3], alpha[0, 4] = 0.5, 0
    colors = torch.linspace(0.1, 0.7, 75).reshape(1, 5, 5, 3)
    return alpha * colors + 1 - alpha, alpha


def lit(image, alpha, gain, offset):
    """As `image`, the head's colours times `gain` and `offset` on them."""
    return gain * (image - (1 - alpha)) + offset * alpha + 1 - alpha


def test_gains_and_offsets_of_frames_are_found(head, monkeypatch):
    """One frame is 0.8 times the avatar and 0.1, one 1.2 times it less 0.1, a third is as it is."""
    monkeypatch.setattr(film_corrections, "PRIOR", 0.0)
    exposure, film = ExposureCorrections(3, 1.0, CPU), [(0.8, 0.1), (1.2, -0.1), (1.0, 0.0)]
    for row, (gain, offset) in enumerate(film):
        exposure.look(row, *head, lit(*head, gain, offset), None)
    for row, (gain, offset) in enumerate(film):
        expected = torch.tensor([gain - 1, offset])[:, None].expand(2, 3)
        torch.testing.assert_close(exposure.correction(row), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(exposure.shown(row, *head), lit(*head, gain, offset), atol=1e-4, rtol=0)


def test_a_look_goes_part_of_the_way_and_what_does_not_count_has_no_say(head, monkeypatch):
    monkeypatch.setattr(film_corrections, "PRIOR", 0.0)
    exposure, film = ExposureCorrections(2, 0.25, CPU), lit(*head, 0.8, 0.1)
    counts = torch.ones(1, 5, 5)
    counts[0, :, 4], film[0, :, 4] = 0, 0
    exposure.look(0, *head, film, counts)
    torch.testing.assert_close(exposure.table[0, :, 1], torch.tensor([-0.05, 0.025]), atol=1e-4, rtol=0)
    assert (exposure.table[1] == 0).all()


def test_the_prior_leaves_none_where_nothing_is_told(head):
    """A head of one colour does not say whether it is a gain or an offset: the shorter of both is taken. And
    none of it is there where there is no head."""
    white = torch.ones(1, 4, 4, 3)
    exposure = ExposureCorrections(2, 1.0, CPU)
    exposure.look(0, white, torch.ones(1, 4, 4, 1), 0.8 * white, None)
    part = -0.2 / (2 + film_corrections.PRIOR)  # as much of each
    torch.testing.assert_close(exposure.table[0], torch.full((2, 3), part))
    exposure.look(1, white, torch.zeros(1, 4, 4, 1), white, None)
    assert (exposure.table[1] == 0).all()


def test_light_that_all_frames_have_is_the_avatars_own(head):
    """Every frame is half as bright as the avatar: no correction says so, and the avatar has to learn it."""
    exposure = ExposureCorrections(4, 1.0, CPU)
    for row in range(4):
        exposure.look(row, *head, lit(*head, 0.5, 0), None)
    for row in range(4):
        torch.testing.assert_close(exposure.shown(row, *head), head[0])


# ------------------------------------------------------------------------------------------- focal length


def step(corrections, loss):
    corrections.optimizer.zero_grad()
    loss.backward()
    corrections.optimizer.step()


def with_factor(factor):
    focal = FocalCorrection(0.01, CPU)
    with torch.no_grad():
        focal.table.weight.fill_(FOCAL_BOUND * math.atanh(math.log(factor) / FOCAL_BOUND))
    return focal


def test_a_longer_lens_from_farther_away_shows_a_head_as_large():
    view = torch.eye(4)[None].clone()
    view[0, 2, 3] = 4
    points = torch.tensor([[0.0, 1, 0], [0.5, -0.5, 1], [1, 0.2, -1]])
    focal = with_factor(1.5)
    corrected = focal.view(view).detach()
    x, y, z = (points @ corrected[0, :3, :3].T + corrected[0, :3, 3]).unbind(-1)
    seen = 100 * torch.stack([x, y], -1) / z[:, None]
    expected = 150 * points[:, :2] / (6 + points[:, 2:])
    torch.testing.assert_close(seen, expected)
    assert seen[0].tolist() == pytest.approx([0, 25])  # in the plane of its middle nothing changes
    assert float(focal.cost().detach()) == pytest.approx(0.01 * math.log(1.5) ** 2)
    given = Camera("0", view[0].numpy(), np.diag([100.0, 100, 1]), 64, 64)
    pixels, _ = focal.camera(given).project(points.numpy())
    np.testing.assert_allclose(pixels, expected, rtol=1e-5)


def test_a_head_beside_the_axis_is_seen_from_the_same_side():
    """What lies on the ray through its middle stays on it."""
    view = torch.eye(4)[None].clone()
    view[0, :3, 3] = torch.tensor([1.0, -0.5, 4])
    ray = view[0, :3, 3] / 4
    corrected = with_factor(0.7).view(view).detach()
    shown = corrected[0, :3, :3] @ ray + corrected[0, :3, 3]
    torch.testing.assert_close(shown / shown[2], ray)
    assert float(shown[2]) - 4 == pytest.approx(1 / 0.7)


def test_a_focal_length_is_found_where_the_shape_is_known_and_never_leaves_its_bounds():
    points = torch.tensor([[1.0, 1, -1], [1, -1, 1], [-1, 0, 0.5], [0.5, 1, 1]])
    view = torch.eye(4)[None].clone()
    view[0, 2, 3] = 4

    def seen(focal):
        x, y, z = (points @ focal.view(view)[0, :3, :3].T + view[0, :3, 3]).unbind(-1)
        return torch.stack([x, y], -1) / z[:, None]

    truth, focal = seen(with_factor(1.25)).detach(), FocalCorrection(0.01, CPU)
    for _ in range(200):
        step(focal, (seen(focal) - truth).square().mean())
    assert float(focal.log_factor().detach().exp()) == pytest.approx(1.25, abs=0.005)
    with torch.no_grad():
        focal.table.weight.fill_(50)
    assert float(focal.log_factor().detach().exp()) == pytest.approx(2, abs=1e-5)


# ----------------------------------------------------------------------------------------------- training


def test_a_stopped_run_goes_on_with_them(data, tmp_path):
    whole = Trainer(data, ON, tmp_path / "whole", progress=False, device="cpu")
    avatar = whole.train()
    assert float(whole.exposure.table.abs().max()) > 1e-3
    assert float(whole.focal.table.weight.detach().abs().max()) > 1e-3
    first = Trainer(data, ON, tmp_path / "two", progress=False, device="cpu")
    for _ in range(7):
        first._take_step()
    first._save_checkpoint()
    second = Trainer(data, ON, tmp_path / "two", progress=False, device="cpu")
    again = second.train(resume=True)
    assert torch.equal(whole.exposure.table, second.exposure.table)
    assert torch.equal(whole.focal.table.weight, second.focal.table.weight)
    for name, value in avatar.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    saved = GaussianAvatar.load(tmp_path / "two" / "avatar.safetensors")
    lens = second.focal.camera(Trainer(data, OFF, tmp_path / "off", progress=False).avatar.front).K
    np.testing.assert_allclose(saved.front.K, lens)
    third = Trainer(data, ON, tmp_path / "two", progress=False, device="cpu")
    third._take_step = None  # nothing is trained again
    np.testing.assert_allclose(third.train(resume=True).front.K, lens)


def test_a_film_whose_light_changes_teaches_the_colours_of_its_mean(data, tmp_path):
    """Frames by turns brighter and darker are told apart, and the avatar is as bright as their mean."""
    gains = torch.where(torch.arange(len(data.names)) % 2 == 0, 0.8, 1.2)
    alpha = torch.from_numpy(data.masks)[..., None] / 255
    film = lit(torch.from_numpy(data.images) / 255, alpha, gains[:, None, None, None, None], 0)
    changed = replace(data, images=(film.clamp(0, 1) * 255).round().byte().numpy())
    config = OFF.with_(steps=100, coarse_steps=100, lr_poses=0.0, lr_exposure=0.5)
    trainer = Trainer(changed, config, tmp_path, progress=False, device="cpu")
    trainer.train()
    found = torch.stack([trainer.exposure.correction(row) for row in range(len(gains))]).mean(-1)
    level = 0.5 * found[:, 0] + found[:, 1]  # of a grey
    assert float(torch.corrcoef(torch.stack([level, gains]))[0, 1]) > 0.9
    shown = trainer.avatar.render(data.descriptors[::6], data.head_poses[::6], data.cameras)[:, 0]
    truth, head = data.images[::6, 0] / 255, data.masks[::6, 0] == 255
    assert shown[head].mean() == pytest.approx(truth[head].mean(), rel=0.03)


def test_switched_off_or_with_several_cameras_there_is_nothing_of_them(capture, data, tmp_path):
    off = Trainer(data, OFF, tmp_path / "off", progress=False, device="cpu")
    assert off.exposure is off.focal is None
    _, terms = off._take_step()
    assert set(terms) == {"l1", "ssim", "mask", "offset", "total"}
    rule = capture.split_rules["default"]
    two = replace(
        rule,
        train_cameras=(*rule.train_cameras, next(c for c in capture.cameras if c not in rule.train_cameras)),
    )
    several = TrainingSet.from_capture(replace(capture, split_rules={"default": two}), ON, progress=False)
    assert len(several.cameras) == 2
    pair = [
        Trainer(several, config, tmp_path / name, progress=False, device="cpu")
        for config, name in ((OFF, "a"), (ON, "b"))
    ]
    for trainer in pair:
        for _ in range(3):
            trainer._take_step()
    assert pair[1]._corrections == []
    for name, value in pair[0].avatar.state_dict().items():
        assert torch.equal(value, pair[1].avatar.state_dict()[name]), name


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_with_which_nothing_can_be_learned_are_refused(rate):
    with pytest.raises(ValueError, match=f"exposures cannot be learned at rate {rate}; give lr_exposure in"):
        OFF.with_(lr_exposure=rate)
    with pytest.raises(ValueError, match=f"a focal length cannot be learned at rate {rate}; give lr_focal"):
        OFF.with_(lr_focal=rate)
