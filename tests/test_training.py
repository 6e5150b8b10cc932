"""Training: losses against a library, resume to the same bytes, retrieval by the named setting, and loud
failures."""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_avatar import ball_masks, ring_of_cameras
from torchmetrics.functional.image import structural_similarity_index_measure

from raf_lite.avatar import GaussianAvatar, driving_descriptors, frontal_camera
from raf_lite.bank import ExpressionBank
from raf_lite.export import write_basis, write_ply
from raf_lite.retrieval import RetrievalAugmentation
from raf_lite.training import PRESETS, TrainConfig, Trainer, TrainingSet, reconstruction_loss, ssim
from raf_lite.training.losses import counted
from raf_lite.training.structural_similarity import ssim_torch
from raf_lite.training.trainer import _halve


def toy_set(frames=12, size=32, dim=4):
    """A ball whose colour follows the descriptor: red grows with the first entry."""
    rng = np.random.default_rng(0)
    cameras = ring_of_cameras(3, size)
    masks = ball_masks(cameras, np.zeros(3), 0.9)
    descriptors = rng.random((frames, dim), np.float32)
    descriptors[0] = 0
    colour = np.stack([descriptors[:, 0], np.full(frames, 0.4), np.full(frames, 0.6)], -1)
    images = masks[None, ..., None] * colour[:, None, None, None, :] + (1 - masks[None, ..., None])
    return TrainingSet(
        images=(images * 255).astype(np.uint8),
        masks=np.repeat((masks * 255).astype(np.uint8)[None], frames, 0),
        descriptors=descriptors,
        head_poses=np.repeat(np.eye(4)[None], frames, 0),
        cameras=cameras,
        names=[("EXP-1-head", t) for t in range(frames)],
        neutral=0,
    )


def toy_bank(dim=4):
    rng = np.random.default_rng(1)
    return ExpressionBank.from_arrays(rng.random((60, dim), np.float32), donors=np.repeat(np.arange(6), 10))


CONFIG = TrainConfig(steps=40, size=32, coarse_steps=0, gaussians=200, checkpoint_every=15)


def test_ssim_is_torchmetrics_ssim_and_differentiable():
    g = torch.Generator().manual_seed(0)
    a = torch.rand(2, 40, 36, 3, generator=g)
    b = (a + 0.1 * torch.randn(a.shape, generator=g)).clamp(0, 1)
    _, expected = structural_similarity_index_measure(
        b.permute(0, 3, 1, 2),
        a.permute(0, 3, 1, 2),
        data_range=1.0,
        kernel_size=11,
        sigma=1.5,
        return_full_image=True,
    )
    # torchmetrics' map is padded by reflection; ours has the windows that lie wholly inside the picture.
    assert ssim(a, b).item() == pytest.approx(expected[..., 5:-5, 5:-5].mean().item(), abs=1e-5)
    assert ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    x = b.clone().requires_grad_()
    ssim(a, x).backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 11, 11, 3), (2, 24, 37, 3)])
def test_the_ssim_of_a_cpu_is_that_of_torch_with_its_gradients(shape):
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    answers = []
    for call, dtype in ((ssim, torch.float32), (ssim_torch, torch.float64)):
        pair = [x.to(dtype).requires_grad_() for x in (a, b)]
        value = call(*pair)
        answers.append((value.detach().double(), *(x.double() for x in torch.autograd.grad(3 * value, pair))))
    (value, *gradients), (exact, *exact_gradients) = answers
    assert value.item() == pytest.approx(exact.item(), abs=1e-6)
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6 * theirs.abs().max().item())
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(a[:, :10], b[:, :10])
    with pytest.raises(ValueError, match="same shape"):
        ssim(a, b[:, :, 1:])


def test_loss_terms_by_hand():
    zeros, ones = torch.zeros(1, 16, 16, 3), torch.ones(1, 16, 16, 3)
    terms = reconstruction_loss(
        ones,
        ones[..., :1],
        torch.full((5, 13), 2.0),
        zeros,
        torch.zeros(1, 16, 16),
        ssim_weight=0.2,
        mask_weight=0.5,
        offset_weight=0.1,
    )
    assert terms["l1"] == 1 and terms["mask"] == 1 and terms["offset"] == 4
    assert terms["total"].item() == pytest.approx(0.8 + 0.2 * terms["ssim"].item() + 0.5 + 0.4)


def test_pixels_that_do_not_count_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    target, mask = torch.rand(1, 24, 24, 3, generator=generator), torch.rand(1, 24, 24, generator=generator)
    counts = torch.ones(1, 24, 24)
    counts[:, 15:] = 0
    image, alpha = target.clone(), mask[..., None].clone()
    image[:, 15:], alpha[:, 15:] = 0.5, 0.5
    image[:, 3, 3] += 0.25
    image.requires_grad_(True)
    alpha.requires_grad_(True)
    terms = reconstruction_loss(
        counted(image, target, counts),
        counted(alpha, mask[..., None], counts),
        torch.zeros(2, 13),
        target,
        mask,
        ssim_weight=0.5,
        mask_weight=1.0,
        offset_weight=0.0,
    )
    assert terms["l1"].item() == pytest.approx(0.25 / 24**2) and terms["mask"] == 0
    terms["total"].backward()
    assert image.grad[:, 15:].abs().max() == 0 == alpha.grad[:, 15:].abs().max()
    assert image.grad[:, 3, 3].abs().min() > 0


def test_training_learns_the_descriptor(tmp_path):
    data = toy_set(frames=6)
    config = CONFIG.with_(steps=200, offset_weight=0.0, lr_basis=5e-2, lr_network=1e-2)
    avatar = Trainer(data, config, tmp_path, progress=False).train()
    shown = avatar.render(data.descriptors[[1, 2, 3, 4]], data.head_poses[:4], data.cameras[:1])[:, 0]
    middle, wanted = shown[:, 14:18, 14:18, 0].mean((1, 2)), data.descriptors[[1, 2, 3, 4], 0]
    assert np.abs(middle - wanted).mean() < 0.5 * np.abs(wanted - wanted.mean()).mean()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 200 and lines[-1]["psnr"] > lines[0]["psnr"]


def test_a_watcher_sees_the_log_and_changes_nothing(tmp_path):
    seen = []
    config = CONFIG.with_(steps=120)
    watched = Trainer(toy_set(), config, tmp_path / "a", progress=False).train(
        watch=lambda trainer, line: seen.append((trainer.step, line))
    )
    alone = Trainer(toy_set(), config, tmp_path / "b", progress=False).train()
    assert [step for step, _ in seen] == [50, 100, 120]
    assert [line for _, line in seen] == [
        json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    ]
    assert all(torch.equal(p, q) for p, q in zip(watched.parameters(), alone.parameters()))


def test_same_seed_same_bytes(tmp_path):
    runs = [
        Trainer(
            toy_set(), CONFIG.with_(retrieval="paper-k16"), tmp_path / name, bank=toy_bank(), progress=False
        ).train()
        for name in "ab"
    ]
    for a, b in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_avatar_is_trained_once(tmp_path, capsys):
    """resume=True reads it; other settings, other frames or resume=False train."""
    first = Trainer(toy_set(), CONFIG, tmp_path, progress=False).train(resume=True)
    stamp = (tmp_path / "avatar.safetensors").stat().st_mtime_ns
    again = Trainer(toy_set(), CONFIG, tmp_path, progress=False).train(resume=True)
    assert (
        "trained already" in capsys.readouterr().out
        and (tmp_path / "avatar.safetensors").stat().st_mtime_ns == stamp
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    data = toy_set()
    data.images[3, 1, 5, 5] ^= 1
    for trainer, resume in (
        (Trainer(data, CONFIG, tmp_path, progress=False), True),
        (Trainer(toy_set(), CONFIG.with_(seed=1), tmp_path, progress=False), True),
        (Trainer(toy_set(), CONFIG.with_(seed=1), tmp_path, progress=False), False),
    ):
        trainer.train(resume=resume)
        assert "trained already" not in capsys.readouterr().out
        assert (tmp_path / "avatar.safetensors").stat().st_mtime_ns > stamp
        stamp = (tmp_path / "avatar.safetensors").stat().st_mtime_ns


@pytest.mark.parametrize("retrieval", [None, "centred"])
def test_a_trained_avatar_is_the_one_that_its_file_gives(tmp_path, retrieval):
    data, config = replace(toy_set(), neutral=3, front=2), CONFIG.with_(retrieval=retrieval)
    trainer = Trainer(data, config, tmp_path, bank=toy_bank(), progress=False, device="cpu")
    untrained, trained = trainer.avatar.origin(), trainer.train()
    loaded = GaussianAvatar.load(tmp_path / "avatar.safetensors")
    finished = Trainer(data, config, tmp_path, bank=toy_bank(), progress=False, device="cpu").train(
        resume=True
    )
    assert trained.provenance["config"] == config.as_dict() and trained.provenance["training_frames"] == 12
    assert list(untrained) == [
        "config",
        "raf_lite",
        "training_frames",
        "checksum",
        "neutral_descriptor",
        "front",
        "views",
    ]
    driver = np.random.default_rng(5).random((6, 4), np.float32)
    camera = frontal_camera(trained, 48)
    np.testing.assert_allclose(
        camera.world_to_camera, data.cameras[2].world_to_camera, atol=1e-9
    )  # this head is never moved
    rendered = trained.render(driver, data.head_poses[:6], data.cameras)
    ply = write_ply(trained, trained.neutral_descriptor, tmp_path / "trained.ply").read_bytes()
    basis = [path.read_bytes() for path in write_basis(trained, tmp_path / "basis")]
    for other in (loaded, finished):
        assert other.origin() == trained.origin() == untrained
        np.testing.assert_array_equal(other.neutral_descriptor, data.descriptors[3])
        assert other.neutral_descriptor.dtype == trained.neutral_descriptor.dtype == np.float32
        same = frontal_camera(other, 48)
        assert np.array_equal(camera.world_to_camera, same.world_to_camera) and np.array_equal(
            camera.K, same.K
        )
        assert (camera.serial, camera.width, camera.height) == (same.serial, same.width, same.height)
        for relative in (None, 0, "mean"):
            np.testing.assert_array_equal(
                driving_descriptors(trained, driver, relative), driving_descriptors(other, driver, relative)
            )
        np.testing.assert_array_equal(rendered, other.render(driver, data.head_poses[:6], data.cameras))
        assert ply == write_ply(other, other.neutral_descriptor, tmp_path / "other.ply").read_bytes()
        assert basis == [path.read_bytes() for path in write_basis(other, tmp_path / "basis")]
        other.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "avatar.safetensors").read_bytes()


def test_a_finished_avatar_with_another_neutral_or_front_is_trained_again(tmp_path, capsys):
    Trainer(toy_set(), CONFIG, tmp_path, progress=False).train()
    for change in ({"neutral": 3}, {"front": 2}):
        avatar = Trainer(replace(toy_set(), **change), CONFIG, tmp_path, progress=False).train(resume=True)
        assert "trained already" not in capsys.readouterr().out
    assert frontal_camera(avatar, 32).center[2] < 0  # the third camera stands behind


def test_rounded_head_poses_give_a_front_camera(tmp_path):
    """A capture takes rotations that are wrong by 0.001, and a camera takes less."""
    data = toy_set()
    data.head_poses[:, 0, 0] += 4e-4
    avatar = Trainer(data, CONFIG, tmp_path, progress=False).avatar
    np.testing.assert_allclose(
        frontal_camera(avatar, 32).world_to_camera, data.cameras[0].world_to_camera, atol=1e-2
    )
    avatar.save(tmp_path / "a.safetensors")
    again = GaussianAvatar.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(avatar.front.world_to_camera, again.front.world_to_camera)


def test_coarse_steps_see_halves_and_change_the_result(tmp_path):
    images, masks, Ks = (
        torch.rand(2, 6, 8, 3),
        torch.rand(2, 6, 8),
        torch.tensor([[[9.0, 0, 4], [0, 9, 3], [0, 0, 1]]] * 2),
    )
    small, small_masks, small_counts, small_Ks = _halve(images, masks, 1 - masks, Ks)
    assert _halve(images, masks, None, Ks)[2] is None
    torch.testing.assert_close(small_counts, 1 - small_masks)
    torch.testing.assert_close(small[0, 1, 2], images[0, 2:4, 4:6].mean((0, 1)))
    torch.testing.assert_close(small_masks[1, 0, 3], masks[1, 0:2, 6:8].mean())
    torch.testing.assert_close(small_Ks[0], torch.tensor([[4.5, 0, 2], [0, 4.5, 1.5], [0, 0, 1]]))
    avatars = [
        Trainer(toy_set(), CONFIG.with_(coarse_steps=c), tmp_path / str(c), progress=False).train()
        for c in (0, 20)
    ]
    assert not torch.equal(avatars[0].means, avatars[1].means)


@pytest.mark.parametrize("retrieval", [None, "centred"])
def test_a_killed_run_resumes_to_the_same_result(tmp_path, retrieval, monkeypatch):
    config = CONFIG.with_(retrieval=retrieval)
    whole = Trainer(toy_set(), config, tmp_path / "whole", bank=toy_bank(), progress=False).train()

    class Killed(BaseException):
        pass

    original = GaussianAvatar.splat
    calls = []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 33:  # after the checkpoint at step 30
            raise Killed
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GaussianAvatar, "splat", dies)
    with pytest.raises(Killed):
        Trainer(toy_set(), config, tmp_path / "cut", bank=toy_bank(), progress=False).train()
    monkeypatch.setattr(GaussianAvatar, "splat", original)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    resumed = Trainer(toy_set(), config, tmp_path / "cut", bank=toy_bank(), progress=False).train(resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "cut" / "checkpoint.safetensors").exists()


def test_a_resumed_run_does_not_look_into_its_checkpoint(tmp_path):
    """The next checkpoint replaces that file and the end deletes it; Windows does neither to a file that is
    mapped."""
    trainer = Trainer(toy_set(), CONFIG.with_(steps=2), tmp_path, progress=False)
    trainer.train()
    trainer._save_checkpoint()
    resumed = Trainer(toy_set(), CONFIG.with_(steps=2), tmp_path, progress=False)
    resumed._load_checkpoint()
    path = tmp_path / "checkpoint.safetensors"
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    there = resumed.optimizer.state_dict()["state"]
    for number, state in trainer.optimizer.state_dict()["state"].items():
        assert torch.equal(there[number]["exp_avg"], state["exp_avg"]) and state["exp_avg"].any()


@dataclass(frozen=True)
class Pushed:
    """An augmentation of somebody else's: some descriptors are moved. Notes what it was asked."""

    by: float
    asked: list = field(default_factory=list, repr=False)

    def augment(self, descriptors, generator, index=None):
        moved = torch.rand(len(descriptors), generator=generator) < 0.5
        self.asked.append((index.tolist(), descriptors.clone()))
        return descriptors + self.by * moved[:, None], {"moved": moved}


def test_any_object_that_augments_is_used(tmp_path):
    def avatar(name, augmentation, **changes):
        return Trainer(
            toy_set(),
            CONFIG.with_(**changes),
            tmp_path / name,
            augmentation=augmentation,
            bank=toy_bank(),
            progress=False,
        ).train()

    def log(name):
        return [
            json.loads(line)["total"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
        ]

    pushed = Pushed(2.0)
    moved, still, plain = avatar("moved", pushed), avatar("still", Pushed(0.0)), avatar("plain", None)
    # One call a step, of the frame that the step compares with, whose own descriptor comes in.
    assert len(pushed.asked) == CONFIG.steps and len({row for (row,), _ in pushed.asked}) > 6
    assert all(np.array_equal(given[0], toy_set().descriptors[row]) for (row,), given in pushed.asked)
    # What comes out of it is what is trained on; frames and cameras are those of the baseline.
    assert all(torch.equal(a, b) for a, b in zip(still.parameters(), plain.parameters(), strict=True))
    assert not torch.equal(moved.field.basis, plain.field.basis)
    assert log("moved") != log("still") == log("plain")
    # A retrieval that is passed does what a retrieval that is named does.
    raf = RetrievalAugmentation.named(toy_bank(), "centred", p=0.2).fit(toy_set().descriptors)
    passed, named = avatar("passed", raf), avatar("named", None, retrieval="centred", retrieval_p=0.2)
    assert all(torch.equal(a, b) for a, b in zip(passed.parameters(), named.parameters(), strict=True))


def test_provenance_tells_augmentations_apart(tmp_path, capsys):
    def trainer(augmentation):
        return Trainer(toy_set(), CONFIG.with_(steps=3), tmp_path, augmentation=augmentation, progress=False)

    trainer(Pushed(1.0)).train()
    assert trainer(Pushed(1.0)).avatar.provenance["augmentation"] == "Pushed(by=1.0)"
    assert "augmentation" not in trainer(None).avatar.provenance
    trainer(Pushed(1.0)).train(resume=True)
    assert "trained already" in capsys.readouterr().out
    trainer(Pushed(2.0)).train(resume=True)
    assert "trained already" not in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        trainer(Pushed(2.0)).train(watch=lambda trainer, line: 1 / 0)
    for other in (Pushed(1.0), None):
        with pytest.raises(ValueError, match="another augmentation"):
            trainer(other).train(resume=True)
    trainer(Pushed(2.0)).train(resume=True)

    class Nameless:
        augment = Pushed.augment

    assert (
        trainer(Nameless()).avatar.provenance["augmentation"].endswith("Nameless")
    )  # no address, which no other run has
    bank = toy_bank()
    raf = RetrievalAugmentation.named(bank, "centred").fit(toy_set().descriptors)
    told = trainer(raf).avatar.provenance
    assert "k=16" in told["augmentation"] and told["checksum"] != trainer(None).avatar.provenance["checksum"]


def test_baseline_and_retrieval_see_the_same_frames_and_cameras(tmp_path, monkeypatch):
    seen = {}
    original = GaussianAvatar.splat

    def spy(self, descriptor, viewmats, *args, **kwargs):
        seen.setdefault(name, []).append((descriptor.clone(), viewmats.clone()))
        return original(self, descriptor, viewmats, *args, **kwargs)

    monkeypatch.setattr(GaussianAvatar, "splat", spy)
    for name, retrieval in (("baseline", None), ("raf", "paper")):
        Trainer(
            toy_set(), CONFIG.with_(retrieval=retrieval), tmp_path / name, bank=toy_bank(), progress=False
        ).train()
    views = [torch.equal(a[1], b[1]) for a, b in zip(seen["baseline"], seen["raf"], strict=True)]
    replaced = [not torch.equal(a[0], b[0]) for a, b in zip(seen["baseline"], seen["raf"], strict=True)]
    assert all(views)
    assert 2 <= sum(replaced) <= 18  # binomial(40, 0.2)


def test_a_nan_is_named_with_step_sequence_frame_and_camera(tmp_path):
    trainer = Trainer(toy_set(), CONFIG, tmp_path, progress=False)
    trainer.descriptors[5] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"step \d+: .* EXP-1-head frame 5, camera\(s\) [012], [012]"
    ):
        trainer.train()


def test_wrong_uses_are_named(tmp_path):
    with pytest.raises(ValueError, match="needs an expression bank"):
        Trainer(toy_set(), CONFIG.with_(retrieval="paper"), tmp_path, progress=False)
    with pytest.raises(
        ValueError, match="^retrieval 'paper' and an augmentation were both asked for; give one of them$"
    ):
        Trainer(
            toy_set(),
            CONFIG.with_(retrieval="paper"),
            tmp_path,
            bank=toy_bank(),
            augmentation=Pushed(1.0),
            progress=False,
        )
    with pytest.raises(ValueError, match="^the augmentation is 'paper', which has no augment"):
        Trainer(toy_set(), CONFIG, tmp_path, bank=toy_bank(), augmentation="paper", progress=False)
    with pytest.raises(ValueError, match="^unknown setting 'papr'; choose one of paper, paper-k16, "):
        Trainer(toy_set(), CONFIG.with_(retrieval="papr"), tmp_path, bank=toy_bank(), progress=False)


def test_presets_are_complete():
    assert set(PRESETS) == {"fast", "cpu", "video", "gpu"}


@pytest.mark.parametrize(
    "change, wrong",
    [
        ({"steps": 0}, "steps = 0"),
        ({"views": -1}, "views = -1"),
        ({"size": 0}, "size = 0"),
        ({"gaussians": 0}, "gaussians = 0"),
        ({"checkpoint_every": 0}, "checkpoint_every = 0"),
        ({"lr_final": 0.0}, "lr_final in"),
        ({"lr_final": float("nan")}, "lr_final in"),
    ],
)
def test_numbers_that_train_nothing_are_refused(change, wrong):
    with pytest.raises(ValueError, match=wrong):
        TrainConfig(**change)
    with pytest.raises(ValueError, match=wrong):
        PRESETS["cpu"].with_(**change)


def test_what_the_room_offers_stays_what_it_is_however_its_modules_were_imported():
    code = (
        "import raf_lite.training as room, sys; assert 'torch' not in sys.modules; "
        "from raf_lite.training import losses, structural_similarity, trainer, training_set; "
        "assert all(getattr(room, name).__name__ == name for name in room.__all__ if name != 'PRESETS'); "
        "assert set(room.__all__) <= set(dir(room)) and not hasattr(room, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
