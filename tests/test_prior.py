"""The motion prior: where it is placed, what it does to Gaussians, training over it, files and export."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation

from raf_lite import GaussianAvatar, TrainConfig, Trainer, open_capture
from raf_lite.avatar import MotionPrior, Similarity
from raf_lite.avatar.landmark_motion import LandmarkMotion
from raf_lite.avatar.prior import STRETCH, PlacedPrior
from raf_lite.descriptors.forms import landmark_basis, landmark_displacements
from raf_lite.export import pack_avatar
from raf_lite.export.blend import need_basis
from raf_lite.manifest import find_data, verify_manifest, write_manifest
from raf_lite.rig.expressions import EXPRESSION_UNITS
from raf_lite.rig.prior import PriorSettings, bank_motions, build_prior, learn_prior, principal_motions
from raf_lite.splatting.reference import rotation_matrices
from raf_lite.training import TrainingSet


@pytest.fixture(scope="module")
def shipped():
    return MotionPrior.load(find_data() / "prior.safetensors")


@pytest.fixture(scope="module")
def capture(data_dir):
    return replace(open_capture(data_dir / "mini_nersemble" / "001"), sequences=("EXP-1-head",))


@pytest.fixture(scope="module")
def data(capture):
    config = TrainConfig(size=32, descriptor="landmarks-neutral", prior=True)
    return TrainingSet.from_capture(capture, config, progress=False)


class Turned(MotionPrior):
    """One unit of the first coefficient turns everything about z, of the second stretches it along x by a
    tenth, of the third along y to the double."""

    def motions(self, positions):
        x, y, z = positions.unbind(-1)
        none = torch.zeros_like(x)
        return torch.stack(
            [torch.stack(v, -1) for v in ([-y, x, none], [0.1 * x, none, none], [none, y, none])], -2
        )


def test_a_gaussian_turns_and_stretches_with_what_is_about_it():
    field = Turned(descriptor_dim=4, components=3)
    quarter = float(np.sqrt(0.5))
    upright = torch.tensor([quarter, 0, 0, quarter])  # a quarter turn about z: the second axis is -x
    means, quats = (
        torch.tensor([[1.0, 0, 0], [0.0, 2, 0]]),
        torch.stack([torch.tensor([1.0, 0, 0, 0]), upright]),
    )
    placed = PlacedPrior.zeros(field, 2)
    placed.follow(means, quats)
    turn, stretch, torn = placed.components.view(3, 2, 10)
    torch.testing.assert_close(turn[:, :3], torch.tensor([[0.0, 1, 0], [-2.0, 0, 0]]))
    # Half the angle, as quaternions have it: (0, z / 2) times 1, and times the quarter turn.
    torch.testing.assert_close(
        turn[:, 3:7], torch.tensor([[0, 0, 0, 0.5], [-quarter / 2, 0, 0, quarter / 2]]), atol=1e-6, rtol=0
    )
    assert turn[:, 7:].abs().max() < 1e-6, "what turns keeps its size"
    torch.testing.assert_close(stretch[:, :3], torch.tensor([[0.1, 0, 0], [0.0, 0, 0]]))
    assert stretch[:, 3:7].abs().max() < 1e-6, "what is stretched along an axis of its own does not turn"
    torch.testing.assert_close(stretch[:, 7:], torch.tensor([[0.1, 0, 0], [0.0, 0.1, 0]]), atol=1e-6, rtol=0)
    assert torn[:, 1].tolist() == [0, 2] and float(torn[:, 7:].max()) == pytest.approx(STRETCH), (
        "it stays whole"
    )


def test_it_moves_a_head_alike_wherever_the_head_stands(shipped, data):
    """The landmarks and Gaussians of a rendered person, moved, turned and scaled: so is what they do."""
    rng = np.random.default_rng(0)
    at = np.concatenate([data.landmarks, data.landmarks + rng.normal(size=data.landmarks.shape)])
    turns = Rotation.random(len(at), random_state=1)
    asked = torch.as_tensor(data.descriptors[::6])

    def rows(points, landmarks, orientations):
        placed = PlacedPrior.attach(shipped, landmarks, data.descriptors[data.neutral], len(points))
        quats = torch.tensor(orientations.as_quat()[:, [3, 0, 1, 2]], dtype=torch.float32)
        placed.follow(torch.as_tensor(points, dtype=torch.float32), quats)
        shift, turned, stretched = placed(asked).split((3, 4, 3), -1)
        return shift, rotation_matrices(quats + turned), stretched

    shift, turned, stretched = rows(at, data.landmarks, turns)
    assert shift.norm(dim=-1).max() > 0.3, "the film has a face that moves"
    for seed in range(3):
        move, scale = Rotation.random(random_state=seed), float(np.exp(rng.normal()))
        there = lambda x, move=move, scale=scale: scale * move.apply(x) + [3, -8, 20]  # noqa: E731
        R = torch.as_tensor(move.as_matrix(), dtype=torch.float32)
        moved = rows(there(at), there(data.landmarks), move * turns)
        torch.testing.assert_close(moved[0], scale * shift @ R.T, atol=3e-3 * scale, rtol=0)
        torch.testing.assert_close(moved[1], R @ turned, atol=3e-3, rtol=0)
        torch.testing.assert_close(moved[2], stretched, atol=3e-3, rtol=0)


def test_it_takes_a_face_it_never_saw_where_that_face_went(shipped, data, capture):
    """The 68 points that the renderer wrote, against those that the prior says of the film's descriptors."""
    pose = capture.require_head_poses("EXP-1-head")
    world = capture.landmarks68("EXP-1-head")
    truth = np.einsum("tlc,tcd->tld", world - pose[:, None, :3, 3], pose[:, :3, :3])
    truth = truth[[frame for _, frame in data.names]] - data.landmarks
    placed = PlacedPrior.attach(shipped, data.landmarks, data.descriptors[data.neutral], 68)
    placed.follow(
        torch.as_tensor(data.landmarks, dtype=torch.float32), torch.tensor([1.0, 0, 0, 0]).repeat(68, 1)
    )
    said = placed(torch.as_tensor(data.descriptors))[..., :3].numpy()
    assert ((said - truth) ** 2).sum() < 0.25 * (truth**2).sum()
    assert np.corrcoef(said[:, 48:, 1].ravel(), truth[:, 48:, 1].ravel())[0, 1] > 0.9
    assert np.abs(said[data.neutral]).max() < 1e-6


def test_nothing_moves_far_from_the_head(shipped):
    codes = 100 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(
        torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )
    for distance in (1.51, 5, 1e6):
        assert not shipped(shipped.centre + distance * shipped.radius * directions, codes).any()
    assert torch.isfinite(shipped(shipped.centre + shipped.radius * directions, codes)).all()


def test_a_face_it_cannot_be_placed_on_is_refused(shipped, data):
    mirrored = data.landmarks * [-1, 1, 1]
    shuffled = np.random.default_rng(0).permutation(data.landmarks)
    nan = np.where(np.arange(68)[:, None] == 3, np.nan, data.landmarks)
    for landmarks, why in (
        (mirrored, "not mirrored"),
        (shuffled, "markup's order"),
        (np.ones((68, 3)), "markup's order"),
        (data.landmarks[:51], r"\[51, 3\].*\[478, 3\].*\[68, 3\]"),
        (nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=why):
            shipped.similarity_from(landmarks)
    with pytest.raises(ValueError, match=r"\[52\].*reads \[64\]"):
        PlacedPrior.attach(shipped, data.landmarks, np.zeros(52), 1)


def test_both_markups_place_it_on_the_same_head(shipped):
    """MediaPipe's mean face, all of it and as the 68 points of it that iBUG marks."""
    from raf_lite.captures.formats.plain import IBUG68

    mean = landmark_basis().mean * [1, -1, -1]  # its y goes down the face, its z away from the camera
    (s, R, t), (s68, R68, t68) = (shipped.similarity_from(mean[p]) for p in (np.arange(478), IBUG68))
    assert abs(s68 / s - 1) < 0.05 and Rotation.from_matrix(R @ R68.T).magnitude() < np.deg2rad(5)
    there = s * mean @ R.T + t
    assert np.linalg.norm(there - (s68 * mean @ R68.T + t68), axis=1).max() < 1.0  # cm


def over(data, shipped, field="basis", rides=False):
    g = torch.Generator().manual_seed(0)
    similarity = Similarity(np.array([0.5, 1.0, -2.0]), 14.0)
    near = (
        data.landmarks[torch.randint(68, (60,), generator=g).numpy()] - similarity.centre
    ) / similarity.radius
    avatar = GaussianAvatar(
        torch.as_tensor(near, dtype=torch.float32) + 0.05 * torch.randn(60, 3, generator=g),
        torch.rand(60, 3, generator=g),
        0.1,
        similarity,
        descriptor="landmarks-neutral",
        descriptor_mean=torch.as_tensor(data.descriptors.mean(0)),
        descriptor_scale=0.5,
        neutral_descriptor=data.descriptors[data.neutral] + np.float32(0.01),
        field=field,
    )
    with torch.no_grad():
        avatar.quats.add_(0.3 * torch.randn(60, 4, generator=g))
        for p in avatar.field.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    if rides:
        avatar.ride(
            data.landmarks, landmark_displacements(data.landmarks, "landmarks-neutral"), data.descriptors
        )
    avatar.lean_on(shipped, data.landmarks, data.descriptors)
    return avatar


class Shift(MotionPrior):
    """One unit of its one coefficient takes everything along x by 2 cm, and what lies right of the middle by
    3 more."""

    def motions(self, positions):
        x, none = positions[..., 0], 0 * positions[..., 0]
        return torch.stack([2 + 3 * (x > 0) + none, none, none], -1)[..., None, :]


def test_over_landmarks_the_prior_says_only_what_they_do_not():
    """Six landmarks and Gaussians: where landmarks go along, the prior's word on them is taken out."""
    field = Shift(descriptor_dim=2, components=1)
    landmarks = torch.tensor([[-11.0, 0, 0], [-1, 0, 0], [-1, 1, 0], [-11, 1, 0], [-6, 2, 0], [-6, -1, 0]])
    means = torch.tensor([[-6.0, 2, 0], [0.5, 0.5, 0], [-6, 0.5, 400]])
    displacements = np.zeros((2, 6, 3))
    displacements[1, :, 1] = 7
    motion = LandmarkMotion.attach(means.numpy(), landmarks.numpy(), displacements, np.zeros(2))
    placed = PlacedPrior.zeros(field, 3, 6)
    placed.landmarks.copy_(landmarks)
    placed.follow(means, torch.tensor([1.0, 0, 0, 0]).repeat(3, 1), motion)
    shift = placed.components.view(1, 3, 10)[0, :, :3]
    follows = motion.weights.sum(1)
    assert follows[0] == pytest.approx(1) and 0.5 < follows[1] < 0.95 and follows[2] < 1e-6
    # All landmarks lie left of the middle: the prior takes them along by 2.
    wanted = torch.tensor([2.0, 5, 2]) - 2 * follows
    torch.testing.assert_close(shift[:, 0], wanted)
    assert not shift[:, 1:].any()
    torch.testing.assert_close(motion(torch.tensor([[0.0, 1]]))[0, :, 1], 7 * follows)
    with pytest.raises(ValueError, match="ride on 6 landmarks .* placed by 68; give both the same"):
        PlacedPrior.zeros(field, 3, 68).follow(means, torch.tensor([1.0, 0, 0, 0]).repeat(3, 1), motion)


@pytest.mark.parametrize("rides", [False, True])
def test_the_blend_that_is_exported_is_the_avatar(data, shipped, rides):
    avatar = over(data, shipped, rides=rides)
    assert (avatar.motion is not None) is rides
    asked = torch.as_tensor(data.descriptors[::5])
    asked = torch.cat([asked, 3 * asked])  # within what training had, and beyond
    blend = need_basis(avatar, "a test")
    offsets = (blend.coefficients(asked) @ blend.basis).view(len(asked), -1, 13) * blend.gains
    g, _ = avatar.gaussians(asked)
    for name, wanted in (
        ("means", avatar.means + offsets[..., :3]),
        ("quats", avatar.quats + offsets[..., 3:7]),
        ("scales", torch.exp(avatar.log_scales + offsets[..., 7:10])),
        ("colors", torch.sigmoid(avatar.color_logits + offsets[..., 10:])),
    ):
        torch.testing.assert_close(g[name], wanted, atol=2e-5, rtol=1e-4)
    within = (avatar.reach.within(asked) - avatar.descriptor_mean) / avatar.descriptor_scale
    own = avatar.field(within, avatar.means)[..., :10]
    assert (offsets[..., :10] - own).abs().max() > 0.02, "the prior moves something"
    assert pack_avatar(avatar).header["layers"] == 3


@pytest.mark.parametrize("field", ["basis", "mlp"])
def test_beyond_training_the_field_answers_as_near_it_and_the_prior_goes_on(data, shipped, field):
    avatar = over(data, shipped, field)
    trained = torch.as_tensor(data.descriptors)
    inside, far = trained[::5], trained.mean(0) + 5 * (trained[::5] - trained.mean(0))
    edge = avatar.reach.within(far)
    asked = (edge - avatar.descriptor_mean) / avatar.descriptor_scale
    torch.testing.assert_close(avatar.gaussians(far)[1], avatar.field(asked, avatar.means))
    torch.testing.assert_close(avatar.reach.within(inside), inside, atol=1e-5, rtol=1e-5)
    gone = (avatar.gaussians(far)[0]["means"] - avatar.gaussians(edge)[0]["means"]).norm(dim=-1)
    assert gone.max() > 0.02


@pytest.mark.parametrize(("half", "rides"), [(False, False), (True, False), (False, True)])
def test_an_avatar_over_a_prior_comes_back_from_its_file(tmp_path, data, shipped, half, rides):
    avatar, asked = over(data, shipped, rides=rides), torch.as_tensor(data.descriptors[::5])
    avatar.save(tmp_path / "a.safetensors", half=half)
    assert "prior.components" not in load_file(tmp_path / "a.safetensors")
    GaussianAvatar.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    again = GaussianAvatar.load(tmp_path / "b.safetensors")
    for name, value in avatar.gaussians(asked)[0].items():
        torch.testing.assert_close(
            again.gaussians(asked)[0][name], value, atol=2e-3 if half else 0, rtol=5e-3 if half else 0
        )


def test_a_damaged_prior_in_an_avatar_is_refused(tmp_path, data, shipped):
    over(data, shipped).save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    with open(tmp_path / "a.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["__metadata__"]
    for name, value in (
        ("prior.scale", torch.tensor(torch.nan)),
        ("prior.rest", torch.zeros(())),
        ("prior.field.trunk.0.weight", torch.zeros(3, 3)),
        ("prior.field.unit", torch.tensor(0.0)),
    ):
        save_file(tensors | {name: value}, tmp_path / "b.safetensors", header)
        with pytest.raises(ValueError, match=r"b\.safetensors.*save or copy"):
            GaussianAvatar.load(tmp_path / "b.safetensors")
    for settings in ({"descriptor_dim": 10**15}, {"hidden": "much"}, [], 3):
        text = json.dumps(json.loads(header["raf_lite"]) | {"prior": settings})
        save_file(tensors, tmp_path / "b.safetensors", {"raf_lite": text})
        with pytest.raises(ValueError, match=r"b\.safetensors.*save or copy"):
            GaussianAvatar.load(tmp_path / "b.safetensors")


def test_the_priors_own_file_comes_back_and_damage_is_named(tmp_path, shipped):
    path = tmp_path / "p.safetensors"
    shipped.save(path)
    again = MotionPrior.load(path)
    assert (again.settings, again.encoder, again.notes) == (shipped.settings, shipped.encoder, shipped.notes)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in shipped.state_dict().items())
    with pytest.raises(FileNotFoundError, match="raf-lite data prior"):
        MotionPrior.load(tmp_path / "none.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"damaged.*raf-lite data prior"):
        MotionPrior.load(path)
    tensors = {k: v.clone() for k, v in shipped.state_dict().items()}
    good = {
        "format": 1,
        "kind": "raf_lite.MotionPrior",
        "settings": shipped.settings,
        "encoder": "e",
        "notes": {},
    }
    for change, damage, why in (
        ({"format": 2}, {}, "format 1"),
        ({"kind": "raf_lite.GaussianAvatar"}, {}, "no motion prior"),
        ({"settings": {"hidden": 2}}, {}, "no whole"),
        ({"notes": 3}, {}, "no whole"),
        ({"settings": shipped.settings | {"components": 10**15}}, {}, "no whole"),
        ({}, {"radius": torch.tensor(torch.inf)}, "not finite"),
        ({}, {"unit": torch.tensor(0.0)}, "no whole"),
    ):
        save_file(tensors | damage, path, {"raf_lite": json.dumps(good | change)})
        with pytest.raises(ValueError, match=why):
            MotionPrior.load(path)


def test_the_shipped_prior_reads_the_shipped_basis_and_is_small(shipped):
    from raf_lite._files import sha256_file

    assert shipped.encoder == landmark_basis().encoder
    assert shipped.notes["landmark_basis"] == sha256_file(find_data() / "bank" / "landmark_pca.npz")
    assert (find_data() / "prior.safetensors").stat().st_size < 1_000_000


SMALL = TrainConfig(steps=8, size=32, coarse_steps=0, gaussians=300, checkpoint_every=4)


@pytest.mark.parametrize(("field", "rides"), [("basis", False), ("mlp", True)])
def test_it_trains_and_goes_on_after_a_stop(capture, tmp_path, field, rides, monkeypatch):
    monkeypatch.setattr("raf_lite.training.trainer.PRIOR_EVERY", 3)
    config = SMALL.with_(field=field, descriptor="landmarks-neutral", prior=True, landmark_motion=rides)
    data = TrainingSet.from_capture(capture, config, progress=False)
    first = Trainer(data, config, tmp_path / "whole", progress=False)
    assert first.avatar.prior is not None and (first.avatar.motion is not None) is rides
    learned = {k: v.clone() for k, v in first.avatar.prior.field.state_dict().items()}
    whole = first.train()
    assert all(torch.equal(v, whole.prior.field.state_dict()[k]) for k, v in learned.items()), (
        "it stays itself"
    )
    part = Trainer(data, config, tmp_path / "part", progress=False)
    take = part._take_step

    def fifth():
        if part.step == 5:
            raise KeyboardInterrupt
        return take()

    part._take_step = fifth
    with pytest.raises(KeyboardInterrupt):
        part.train()
    again = Trainer(data, config, tmp_path / "part", progress=False).train(resume=True)
    read = GaussianAvatar.load(tmp_path / "whole" / "avatar.safetensors")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)
        torch.testing.assert_close(read.state_dict()[name], value, atol=0, rtol=0)


def test_the_prior_is_asked_anew_as_often_as_gaussians_move_as_far(capture, tmp_path):
    config = SMALL.with_(descriptor="landmarks-neutral", steps=1400, lr_final=0.05)
    data = TrainingSet.from_capture(capture, config, progress=False)
    trainer = Trainer(data, config, tmp_path, progress=False)
    asked = [step for step in range(config.steps) if trainer.asks_prior(step)]
    rates = 0.05 ** (np.arange(config.steps) / config.steps)
    assert asked[0] == 0
    for start, end in pairwise(asked):
        assert rates[start:end].sum() == pytest.approx(50, abs=1)
    assert rates[asked[-1] :].sum() < 51
    still = Trainer(data, config.with_(lr_final=1.0), tmp_path, progress=False)
    assert [step for step in range(200) if still.asks_prior(step)] == [0, 50, 100, 150]


def test_a_prior_of_your_own_stands_in_its_place(data, tmp_path, shipped):
    config = SMALL.with_(descriptor="landmarks-neutral", prior=True)
    own = MotionPrior(descriptor_dim=64, components=5, hidden=16)  # of no known encoder
    own.load_state_dict({k: v for k, v in shipped.state_dict().items() if "landmarks" in k}, strict=False)
    own.save(tmp_path / "own.safetensors")
    given, read, usual = (
        Trainer(data, config, tmp_path / "out", prior=p, progress=False).avatar
        for p in (own, tmp_path / "own.safetensors", None)
    )
    assert given.prior.components.shape[0] == 5 and torch.equal(given.prior.components, read.prior.components)
    assert torch.equal(given.prior.field.branch[0].weight, own.branch[0].weight)
    assert given.provenance["checksum"] == read.provenance["checksum"] != usual.provenance["checksum"]
    for changes, prior, kind, why in (
        ({"prior": False}, own, ValueError, "prior is False; set prior=True"),
        ({}, tmp_path / "none.safetensors", FileNotFoundError, "no motion prior at .*none.safetensors"),
    ):
        with pytest.raises(kind, match=why):
            Trainer(data, config.with_(**changes), tmp_path / "out", prior=prior, progress=False)


def test_a_field_of_other_sizes_is_trained_saved_and_told_from_the_usual(data, tmp_path):
    config = SMALL.with_(descriptor="landmarks-neutral")
    wide = Trainer(data, config, tmp_path, field_settings={"bases": 7}, progress=False)
    avatar = wide.train()
    assert avatar.field.basis.shape[0] == 7 and avatar.field.basis.abs().sum(1).min() > 0, "all are learned"
    read = GaussianAvatar.load(tmp_path / "avatar.safetensors")
    assert torch.equal(read.field.basis, avatar.field.basis)
    wide._save_checkpoint()
    with pytest.raises(ValueError, match="other settings of the field; use them, another folder"):
        Trainer(data, config, tmp_path, progress=False).train(resume=True)
    with pytest.raises(ValueError, match="'basis' has no setting 'base'; give bases or hidden"):
        Trainer(data, config, tmp_path, field_settings={"base": 7}, progress=False)


def test_what_it_cannot_be_trained_with_is_said(data, tmp_path):
    with pytest.raises(ValueError, match=r"'blendshapes'.*landmarks-neutral"):
        TrainConfig(prior=True)
    config = SMALL.with_(descriptor="landmarks-neutral", prior=True)
    for changes, why in (
        ({"landmarks": None}, "does not say where landmarks are.*prior=False"),
        ({"encoder": "another"}, "'another'.*encode the capture again"),
    ):
        with pytest.raises(ValueError, match=why):
            Trainer(replace(data, **changes), config, tmp_path, progress=False)


def test_principal_motions_tell_the_faces_best():
    rng = np.random.default_rng(0)
    expression = rng.normal(size=(6, 30, 3))
    weights = rng.normal(size=(500, 6)) * [3, 2, 1, 0.5, 0.3, 0.1] + 0.2
    share = rng.uniform(size=30)
    share /= share.sum()
    truth = np.einsum("ru,uvc->rvc", weights, expression)

    def off(motions):
        said = np.einsum("rk,kvc->rvc", weights @ motions.of_weights, motions.basis)
        return float((share[:, None] * (said - truth) ** 2).sum((1, 2)).mean())

    whole, three = (principal_motions(expression, share, weights, k) for k in (6, 3))
    total = float((share[:, None] * truth**2).sum((1, 2)).mean())
    assert off(whole) < 1e-8 * total
    assert off(three) == pytest.approx(whole.energy[3:].sum(), rel=1e-2), "an error costs its motion's energy"
    coefficients = weights @ whole.of_weights
    np.testing.assert_allclose(coefficients.T @ coefficients / 500, np.eye(6), atol=1e-3)


def test_it_is_learned_into_the_manifest_and_the_same_each_time(ict_pack, data_dir, tmp_path, data):
    """The command's own path, with seconds of learning: the jaw of a face it never saw goes up and down."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bank").symlink_to(data_dir / "bank")
    write_manifest(tmp_path / "data", origin={"bank": "here"}, licence="l", conventions={})
    short = PriorSettings(
        components=6, hidden=32, identities=2, trunk_steps=60, branch_steps=60, positions=300
    )
    path = build_prior(tmp_path / "data", settings=short, progress=False)
    assert verify_manifest(tmp_path / "data") == [] and path.name == "prior.safetensors"
    again = build_prior(tmp_path / "data", tmp_path / "again.safetensors", short, progress=False)
    assert again.read_bytes() == path.read_bytes()
    prior = MotionPrior.load(path)
    assert prior.notes["donors"] == 220 and prior.notes["settings"]["trunk_steps"] == 60
    placed = PlacedPrior.attach(prior, data.landmarks, data.descriptors[data.neutral], 68)
    placed.follow(torch.as_tensor(data.landmarks, dtype=torch.float32), torch.tensor([[1.0, 0, 0, 0]] * 68))
    chin = placed(torch.as_tensor(data.descriptors))[:, 8, 1]
    assert chin.max() - chin.min() > 0.2  # cm


def test_controls_are_learned_from_parts_of_the_bank_or_nonsense(ict_pack, data_dir):
    short = PriorSettings(
        components=6, hidden=128, identities=2, trunk_steps=5, branch_steps=150, positions=100
    )
    bank = data_dir / "bank"
    codes, weights, _, loaded = bank_motions(bank)
    donors = np.unique(loaded.donors)
    rows = np.isin(loaded.donors, donors[:30])
    learn = lambda **options: learn_prior(bank, short, progress=False, **options)  # noqa: E731
    taught, shuffled, linear = learn(rows=rows), learn(rows=rows, shuffle=True), learn(rows=rows, linear=True)
    assert taught.notes["rows"] == rows.sum() and taught.notes["donors"] == 30
    for (name, a), b in zip(taught.trunk.state_dict().items(), shuffled.trunk.state_dict().values()):
        assert torch.equal(a, b), f"the motions are the same ({name})"
    others = torch.as_tensor(codes[~rows][::7])
    jaw = weights[~rows][::7, EXPRESSION_UNITS.index("jawOpen")]

    def told(prior):
        """How well an open jaw can be told from the coefficients: R squared."""
        c = prior.coefficients(others).numpy()
        design = np.column_stack([c, np.ones(len(c))])
        return 1 - ((design @ np.linalg.lstsq(design, jaw)[0] - jaw) ** 2).mean() / jaw.var()

    assert min(told(taught), told(linear)) > 0.7
    # Nothing can be learned from strangers' motions: coefficients stay near those of nobody's.
    assert shuffled.coefficients(others).std(0).norm() < 0.3 * taught.coefficients(others).std(0).norm()
    a, b = others[:50], others[50:100]
    both = linear.coefficients(2 * a - 3 * b)
    torch.testing.assert_close(
        both, 2 * linear.coefficients(a) - 3 * linear.coefficients(b), atol=1e-3, rtol=1e-3
    )
    with pytest.raises(ValueError, match="needs 128 hidden units"):
        learn_prior(bank, replace(short, hidden=64), rows=rows, linear=True, progress=False)
