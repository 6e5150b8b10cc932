"""Retrieval augmentation: RAF and its controls against their definitions, in NumPy and in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raf_lite.bank import ExpressionBank
from raf_lite.retrieval import CONTROLS, SETTINGS, STRATEGIES, RetrievalAugmentation, Setting

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def bank():
    rng = np.random.default_rng(11)
    donors = np.repeat(np.arange(8), 40)
    return ExpressionBank.from_arrays(
        rng.normal(size=(320, 6)) + 2 * rng.normal(size=(8, 6))[donors], donors, encoder="demo"
    )


@pytest.fixture(scope="module")
def train(bank):
    rng = np.random.default_rng(12)
    return (rng.normal(size=(50, 6)) + 1.5).astype(np.float32)


def every_setting(bank, train, p=0.5, subject=3):
    for name in SETTINGS:
        yield name, RetrievalAugmentation.named(bank, name, p, subject=subject).fit(train)


# --- the paper ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(0, 12),
    dim=st.integers(1, 5),
    subject=st.sampled_from([None, 0, 99]),
)
def test_raw_nearest_inserts_what_brute_force_finds(seed, batch, dim, subject):
    rng = np.random.default_rng(seed)
    stored, donors = rng.normal(size=(30, dim)).astype(np.float32), rng.integers(0, 3, 30)
    donors[0] = 1  # never the subject alone
    descriptors = rng.normal(size=(batch, dim)).astype(np.float32)
    before = descriptors.copy()
    raf = RetrievalAugmentation(ExpressionBank.from_arrays(stored, donors), p=1, subject=subject)
    out, info = raf.augment(descriptors, np.random.default_rng(0))
    distances = np.linalg.norm(descriptors[:, None].astype(np.float64) - stored, axis=2)
    distances[:, donors == subject] = np.inf
    np.testing.assert_array_equal(info["rows"], distances.argmin(1))
    np.testing.assert_array_equal(out, stored[distances.argmin(1)])
    np.testing.assert_allclose(info["distances"], distances.min(1), rtol=1e-5)
    np.testing.assert_array_equal(descriptors, before)


def test_the_k_nearest_are_drawn_alike(bank):
    descriptor = np.zeros((1, 6), dtype=np.float32)
    raf = RetrievalAugmentation(bank, p=1, k=4)
    _, info = raf.augment(np.repeat(descriptor, 4000, axis=0), np.random.default_rng(0))
    rows, counts = np.unique(info["rows"], return_counts=True)
    assert sorted(rows) == sorted(np.argsort(np.linalg.norm(bank.descriptors, axis=1))[:4])
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(4000 * 0.25 * 0.75)


def test_the_centred_key_finds_the_expression_and_inserts_the_raw_descriptor():
    # One expression axis, one identity axis. The subject smiles (2 above its mean). Raw, donor 0's rest is
    # nearest; donor 1's smile, also 2 above that donor's mean, is what the centred key should find, and it
    # goes in with donor 1's identity.
    stored = np.array([[2.5, 0], [-2.5, 0], [0, 0], [2, 9], [-2, 9], [0, 9]], dtype=np.float32)
    raf = RetrievalAugmentation(
        ExpressionBank.from_arrays(stored, [0, 0, 0, 1, 1, 1]), p=1, k=1, key="centred"
    )
    raf.fit(np.array([[1, 3], [-3, 3]], dtype=np.float32))
    smile = np.array([[1.0, 3.0]], dtype=np.float32)
    out, info = raf.augment(smile, np.random.default_rng(0))
    assert info["rows"].tolist() == [3] and out.tolist() == [[2, 9]]
    assert info["distances"][0] == pytest.approx(np.sqrt(1 + 36))  # moved by this much, in the raw space
    raw = RetrievalAugmentation(raf.bank, p=1).augment(smile, np.random.default_rng(0))[1]
    assert raw["rows"].tolist() == [2]


def test_precomputed_neighbours_equal_a_search_on_the_fly(bank, train):
    index = np.array([4, 0, 49, 4, 17])
    for key in ("raw", "centred"):
        raf = RetrievalAugmentation(bank, p=1, k=3, key=key).fit(train)
        for searched, looked_up in zip(
            raf.augment(train[index], np.random.default_rng(1))[1].values(),
            raf.augment(train[index], np.random.default_rng(1), index=index)[1].values(),
        ):
            np.testing.assert_array_equal(searched, looked_up)


def test_the_batch_is_never_asked_for_a_statistic(bank, train):
    for name, raf in every_setting(bank, train, p=1):
        rng = np.random.default_rng(3)
        together, _ = raf.augment(train[:2], rng)
        alone, _ = raf.augment(np.stack([train[0], train[1] + 100]), np.random.default_rng(3))
        np.testing.assert_array_equal(together[0], alone[0], err_msg=name)


# --- the controls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["paper", "paper-k16", "centred"])
def test_gaussian_noise_has_the_covariance_of_the_residuals_of_its_setting(bank, train, setting):
    partner = RetrievalAugmentation.named(bank, setting, 1).fit(train)
    expected = np.cov(
        (bank.descriptors[partner.neighbours] - train[:, None]).reshape(-1, 6).T.astype(np.float64), bias=True
    )
    raf = RetrievalAugmentation.named(bank, f"{setting}-gaussian", 1).fit(train)
    np.testing.assert_allclose(raf.residual_covariance, expected, rtol=1e-5, atol=1e-6)
    start = np.zeros((60_000, 6))
    out, info = raf.augment(start, np.random.default_rng(7))
    standard_error = np.sqrt(
        (np.outer(np.diag(expected), np.diag(expected)) + expected**2) / len(out)
    )  # Wishart
    assert (np.abs(np.cov(out.T) - expected) < 5 * standard_error).all()
    assert (np.abs(out.mean(0)) < 5 * np.sqrt(np.diag(expected) / len(out))).all()
    assert (info["rows"] == -1).all()


def test_the_settings_differ_in_their_residuals(bank, train):
    spread = {
        name: np.trace(RetrievalAugmentation.named(bank, name).fit(train).residual_covariance)
        for name in ("paper", "paper-k16", "centred")
    }
    # More neighbours are further away, and the centred key accepts another identity: so each needs noise of
    # its own.
    assert spread["paper"] < spread["paper-k16"] < spread["centred"]


def test_residuals_come_from_another_training_frame(bank, train):
    raf = RetrievalAugmentation(bank, p=1, k=2, key="centred", strategy="residual", subject=1).fit(train)
    index = np.repeat(np.arange(50), 20)
    out, info = raf.augment(train[index].astype(np.float64), np.random.default_rng(2), index=index)
    frames = set()
    for row, added in zip(index, out - train[index]):
        frame, _ = np.argwhere(
            np.abs(bank.descriptors[raf.neighbours] - train[:, None] - added).max(2) < 1e-5
        )[0]
        assert frame != row
        frames.add(int(frame))
    assert frames == set(range(50)) and (info["rows"] == -1).all()


def test_random_draws_from_all_other_donors(bank, train):
    raf = RetrievalAugmentation(bank, p=1, strategy="random", subject=2).fit(train)
    out, info = raf.augment(np.zeros((20_000, 6), dtype=np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(out, bank.descriptors[info["rows"]])
    counts = np.bincount(bank.donors[info["rows"]], minlength=8)
    assert counts[2] == 0 and len(np.unique(info["rows"])) == 280
    assert np.abs(np.delete(counts, 2) - 20_000 / 7).max() < 5 * np.sqrt(20_000 / 7)


def test_mean_shift_adds_a_donors_mean_minus_the_subjects(bank, train):
    raf = RetrievalAugmentation(bank, p=1, strategy="mean_shift", subject=5).fit(train)
    out, _ = raf.augment(np.zeros((500, 6)), np.random.default_rng(0))
    others = [donor for donor in range(8) if donor != 5]
    shifts = np.stack(
        [bank.descriptors[bank.donors == donor].mean(0, dtype=np.float64) for donor in others]
    ) - train.mean(0)
    away = np.abs(out[:, None] - shifts).max(2)
    assert (away.min(1) < 1e-5).all() and set(away.argmin(1)) == set(range(7))


def test_the_subject_is_never_retrieved(bank):
    # The subject's own frames are in the bank: without exclusion, each would be its own neighbour.
    own = bank.descriptors[bank.donors == 3]
    assert RetrievalAugmentation(bank, p=1).augment(own, np.random.default_rng(0))[1]["distances"].max() == 0
    for name, raf in every_setting(bank, own, p=1):
        for index in (None, np.arange(40)):
            rows = raf.augment(own, np.random.default_rng(0), index=index)[1]["rows"]
            assert not (bank.donors[rows[rows >= 0]] == 3).any(), name
        assert not (bank.donors[raf.neighbours] == 3).any()


def test_every_setting_has_all_its_controls_with_its_own_key_and_k():
    assert SETTINGS["paper"] == Setting("raw", 1, "nearest", False)
    assert SETTINGS["paper-k16"] == Setting("raw", 16, "nearest", False)
    assert SETTINGS["centred"] == Setting("centred", 16, "nearest", False)
    assert SETTINGS["weighted"] == Setting("weighted", 16, "nearest", False)
    assert SETTINGS["blended"] == Setting("centred", 16, "nearest", True)
    names = [name for name, setting in SETTINGS.items() if setting.strategy == "nearest"]
    assert len(SETTINGS) == len(names) * len(STRATEGIES)
    for name in names:
        for control in CONTROLS:
            made = SETTINGS[name].control(control)
            assert (made.key, made.k, made.blend) == (
                SETTINGS[name].key,
                SETTINGS[name].k,
                SETTINGS[name].blend,
            )
            assert made.strategy == control and made == SETTINGS[f"{name}-{control}"]


def test_a_setting_and_its_name_lead_to_each_other(bank):
    for name, setting in SETTINGS.items():
        assert setting.name == name and Setting.named(name) == setting
        assert RetrievalAugmentation.named(bank, name).setting == setting
        assert RetrievalAugmentation.of(bank, setting, 0.3, subject=2).setting == setting
    # The control of a control is that of the setting that both control.
    assert Setting.named("blended-residual").control("gaussian").name == "blended-gaussian"
    with pytest.raises(
        ValueError,
        match=r"^Setting\(key='raw', k=3, .*\) has no name; settings with one are paper, paper-k16, ",
    ):
        Setting("raw", k=3).name  # noqa: B018
    with pytest.raises(
        ValueError, match=r"^unknown setting 'paper-k17'; choose one of paper, paper-k16, centred, [^.]*$"
    ):
        Setting.named("paper-k17")
    with pytest.raises(
        ValueError, match="^unknown control 'nearest'; choose one of random, gaussian, residual, mean_shift$"
    ):
        Setting.named("paper").control("nearest")
    with pytest.raises(ValueError, match="^unknown key 'cosine'; choose one of raw, centred, weighted$"):
        Setting("cosine")
    with pytest.raises(ValueError, match="^unknown strategy 'furthest'; choose one of nearest, random, "):
        Setting(strategy="furthest")


def test_a_weighted_key_looks_past_what_differs_from_person_to_person(train):
    # Dimension 0 is who somebody is, dimension 1 what they do; a little of the first leaks into every frame.
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(30), 40)
    who, does = rng.normal(0, 5, 30)[donors], rng.normal(0, 1, (30, 40))
    does = (does - does.mean(1, keepdims=True)).ravel()
    rows = np.stack([who + rng.normal(0, 1, 1200), does], 1).astype(np.float32)
    bank = ExpressionBank.from_arrays(rows, donors)
    own = rng.normal(0, 1, (200, 2)).astype(np.float32)
    own -= own.mean(0)
    error = {}
    for key in ("raw", "centred", "weighted"):
        raf = RetrievalAugmentation(bank, k=4, key=key).fit(own)
        error[key] = np.abs(rows[raf.neighbours, 1] - own[:, None, 1]).mean()
    assert error["weighted"] < 0.5 * error["centred"] and error["centred"] < error["raw"]
    # By hand: the distance is that of centred descriptors, each dimension over the floored deviation of the
    # donors' means.
    means = np.stack([rows[donors == d].mean(0) for d in range(30)]).astype(np.float64)
    centred = rows - means[donors]
    scale = np.sqrt(means.var(0) + 0.1 * centred.var(0))
    distance = np.linalg.norm((centred - (own[0] - own.mean(0))) / scale, axis=1)
    assert set(raf.neighbours[0]) == set(np.argsort(distance)[:4])


def test_blending_goes_an_even_share_of_the_way(bank, train):
    raf = RetrievalAugmentation(bank, p=1, k=1, key="centred", blend=True).fit(train)
    index = np.zeros(4000, dtype=np.int64)
    out, info = raf.augment(train[index].astype(np.float64), np.random.default_rng(0), index=index)
    way = bank.descriptors[raf.neighbours[0, 0]].astype(np.float64) - train[0]
    shares = (out - train[0]) @ way / (way @ way)
    np.testing.assert_allclose(out, train[0] + shares[:, None] * way, atol=1e-5)
    assert 0 <= shares.min() < 0.01 and 0.99 < shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.02 and abs(shares.var() - 1 / 12) < 0.005
    assert (info["rows"] == raf.neighbours[0, 0]).all()
    # Its noise control has the same covariance as what it adds: a third of the residuals', since the shares'
    # mean square is 1/3.
    noise = RetrievalAugmentation(bank, p=1, k=16, key="centred", strategy="gaussian", blend=True).fit(train)
    added = noise.augment(np.zeros((40_000, 6)), np.random.default_rng(1))[0]
    np.testing.assert_allclose(
        np.cov(added.T, bias=True),
        noise.residual_covariance / 3,
        atol=0.05 * np.abs(noise.residual_covariance).max(),
    )


# --- randomness ---------------------------------------------------------------------------------------------


def test_p_of_zero_changes_nothing_and_one_replaces_all(bank, train):
    for name in SETTINGS:
        for p in (0, 1):
            raf = RetrievalAugmentation.named(bank, name, p).fit(train)
            out, info = raf.augment(train, np.random.default_rng(0))
            assert (info["replaced"] == bool(p)).all()
            if p == 0:
                np.testing.assert_array_equal(out, train)
                assert (info["rows"] == -1).all() and (info["distances"] == 0).all()
            else:
                assert (out != train).any(axis=1).all(), name


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_share_replaced_is_p(bank, train, kind):
    raf, draws = RetrievalAugmentation(bank, p=0.2).fit(train), 20_000
    index = np.zeros(draws, dtype=np.int64)
    if kind == "numpy":
        out, info = raf.augment(train[index], np.random.default_rng(0), index=index)
    else:
        out, info = raf.augment(
            torch.from_numpy(train[index]), torch.Generator().manual_seed(0), index=torch.from_numpy(index)
        )
        out, info = out.numpy(), {name: value.numpy() for name, value in info.items()}
    assert abs(info["replaced"].sum() - 0.2 * draws) < 4 * np.sqrt(draws * 0.2 * 0.8)
    np.testing.assert_array_equal(out[~info["replaced"]], train[index][~info["replaced"]])
    np.testing.assert_array_equal((info["rows"] >= 0), info["replaced"])


def test_the_seed_decides_everything(bank, train):
    for name, raf in every_setting(bank, train):
        one, other = np.random.default_rng(5), np.random.default_rng(5)
        first = [raf.augment(train, one)[0] for _ in range(2)]
        again = [raf.augment(train, other)[0] for _ in range(2)]
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first[0], first[1]), name
        torch_runs = [
            raf.augment(torch.from_numpy(train), torch.Generator().manual_seed(5))[0] for _ in range(2)
        ]
        assert torch.equal(*torch_runs)


def test_runs_that_differ_in_setting_or_p_replace_paired_frames(bank, train):
    masks, chosen = {}, {}
    for name, raf in every_setting(bank, train, p=0.5):
        rng = np.random.default_rng(9)
        masks[name] = [raf.augment(train, rng)[1]["replaced"] for _ in range(5)]
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, masks["paper"], err_msg=name)
    for p in (0.1, 0.4):
        rng = np.random.default_rng(9)
        chosen[p] = np.array(
            [RetrievalAugmentation(bank, p=p).augment(train, rng)[1]["replaced"] for _ in range(5)]
        )
    assert chosen[0.4].sum() > chosen[0.1].sum() > 0 and (chosen[0.4] | ~chosen[0.1]).all()


def test_every_setting_draws_as_much_from_the_callers_generator(bank, train):
    states = set()
    for p in (0.0, 0.7):
        for name, raf in every_setting(bank, train, p=p):
            for index in (None, np.arange(50)):
                rng, generator = np.random.default_rng(4), torch.Generator().manual_seed(4)
                raf.augment(train, rng, index=index)
                raf.augment(torch.from_numpy(train), generator, index=index)
                states.add((str(rng.bit_generator.state), generator.get_state().numpy().tobytes()))
                assert len(states) == 1, name


# --- torch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_keeps_type_and_device(bank, train, dtype, device):
    batch = torch.from_numpy(train).to(device, dtype)
    before = batch.clone()
    for name, raf in every_setting(bank, train):
        out, info = raf.augment(batch, torch.Generator(device).manual_seed(0))
        assert out.dtype == dtype and out.device == batch.device and out.shape == batch.shape
        assert {value.device for value in info.values()} == {batch.device}
        assert [info[key].dtype for key in ("replaced", "rows", "distances")] == [
            torch.bool,
            torch.int64,
            torch.float32,
        ]
        taken = info["rows"] >= 0
        if taken.any():
            expected = torch.from_numpy(bank.descriptors[info["rows"][taken].cpu().numpy()]).to(batch)
            if not raf.setting.blend:
                assert torch.equal(out[taken], expected), name
        assert torch.equal(out[~info["replaced"]], before[~info["replaced"]])
        assert torch.equal(batch, before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_keeps_type(bank, train, dtype):
    for name, raf in every_setting(bank, train):
        out, info = raf.augment(train.astype(dtype), np.random.default_rng(0))
        assert out.dtype == dtype, name
        assert [info[key].dtype for key in ("replaced", "rows", "distances")] == [bool, np.int64, np.float32]


def test_torch_and_numpy_share_one_rule(bank, train):
    # With p = 1 and k = 1 nothing is left to chance.
    raf = RetrievalAugmentation(bank, p=1).fit(torch.from_numpy(train))
    ours, info = raf.augment(train, np.random.default_rng(0))
    theirs, torch_info = raf.augment(torch.from_numpy(train), torch.Generator())
    np.testing.assert_array_equal(ours, theirs.numpy())
    for name in info:
        np.testing.assert_array_equal(info[name], torch_info[name].numpy())


def test_gradients_reach_the_descriptors_that_stay(bank, train):
    descriptors = torch.from_numpy(train).requires_grad_()
    out, info = RetrievalAugmentation(bank, p=0.5).augment(descriptors, torch.Generator().manual_seed(0))
    out.sum().backward()
    assert torch.equal(descriptors.grad, (~info["replaced"]).float()[:, None].expand(-1, 6))


def train_an_outside_avatar(bank, descriptors, frames, p):
    """Someone else's training script: a regressor from descriptors to frames. The two lines of RAF are
    marked."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(descriptors.shape[1], frames.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    raf = RetrievalAugmentation(bank, p=p)  # RAF, line one
    for _ in range(400):
        batch = torch.randint(len(descriptors), (32,), generator=generator)
        inputs, _ = raf.augment(descriptors[batch], generator)  # RAF, line two
        loss = (model(inputs) - frames[batch]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def test_two_lines_in_an_outside_training_loop_teach_what_identity_is():
    # Descriptors = expression (2 numbers) + what identity adds (2 numbers, constant in a recording but for
    # tracking noise that follows the expression). Frames depend on expression alone. One subject can't show
    # which is which; the bank can.
    rng = np.random.default_rng(0)
    leak = rng.normal(size=(2, 2))

    def record(identity, count):
        expression = rng.normal(size=(count, 2))
        return np.hstack([expression, 0.5 * expression @ leak + identity]).astype(np.float32), expression

    people = [rng.normal(size=2) for _ in range(40)]
    donors = np.repeat(np.arange(40), 150)
    bank = ExpressionBank.from_arrays(np.concatenate([record(person, 150)[0] for person in people]), donors)
    descriptors, expression = record(np.zeros(2), 200)
    picture = rng.normal(size=(2, 5))
    descriptors, frames = (
        torch.from_numpy(descriptors),
        torch.from_numpy((expression @ picture).astype(np.float32)),
    )

    driver_descriptors, driver_expression = record(np.array([1.5, -1.0]), 200)
    truth = torch.from_numpy((driver_expression @ picture).astype(np.float32))
    error = {}
    for p in (0.0, 0.5):
        model = train_an_outside_avatar(bank, descriptors, frames, p)
        again = train_an_outside_avatar(bank, descriptors, frames, p)
        assert torch.equal(model.weight, again.weight)
        with torch.no_grad():
            error[p] = float((model(torch.from_numpy(driver_descriptors)) - truth).square().mean())
    assert error[0.5] < 0.8 * error[0.0]


# --- bad input ----------------------------------------------------------------------------------------------


def test_settings_that_make_no_sense(bank):
    for arguments, message in [
        (dict(p=-0.1), "p = -0.1 is not a probability"),
        (dict(p=1.5), "p = 1.5 is not a probability"),
        (dict(p=float("nan")), "p = nan is not a probability"),
        (dict(key="cosine"), "unknown key 'cosine'; choose one of raw, centred"),
        (dict(strategy="furthest"), "unknown strategy 'furthest'"),
        (dict(k=0), "k = 0, but the bank has 320 rows"),
        (dict(k=281, subject=0), "k = 281, but the bank has 280 rows"),
        (dict(subject="0"), "not of the type of the bank's donors"),
    ]:
        with pytest.raises(ValueError, match=message):
            RetrievalAugmentation(bank, **arguments)
    with pytest.raises(ValueError, match="unknown setting 'raf'; choose one of paper, paper-k16, centred"):
        RetrievalAugmentation.named(bank, "raf")
    alone = ExpressionBank.from_arrays(np.zeros((4, 2)), ["me"] * 4)
    with pytest.raises(ValueError, match=r"holds only the excluded donors \['me'\]; add other donors"):
        RetrievalAugmentation(alone, subject="me")


def test_all_but_raw_nearest_must_be_fitted(bank, train):
    for name, setting in SETTINGS.items():
        raf = RetrievalAugmentation.of(bank, setting)
        if name in ("paper", "paper-k16"):
            raf.augment(train, np.random.default_rng(0))
            with pytest.raises(ValueError, match="and index needs the subject's training descriptors"):
                raf.augment(train, np.random.default_rng(0), index=np.arange(50))
        else:
            with pytest.raises(ValueError, match=r"call fit\(train_descriptors\) first"):
                raf.augment(train, np.random.default_rng(0))


def test_descriptors_that_do_not_fit(bank, train):
    raf = RetrievalAugmentation(bank)
    bad = train.copy()
    bad[7, 2] = np.nan
    for wrong, message in [
        (bad, "row 7 of .*descriptors holds NaN"),
        (train[:, :4], "descriptors have 4 dimensions"),
        (train[0], r"must have shape \[N, D\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            raf.augment(wrong, np.random.default_rng(0))
        with pytest.raises(ValueError, match=message):
            raf.augment(torch.from_numpy(wrong), torch.Generator())
        with pytest.raises(ValueError, match=message):
            raf.fit(wrong)
    with pytest.raises(
        ValueError, match="training descriptors come from encoder 'other' and the bank from 'demo'"
    ):
        raf.fit(train, encoder="other")
    with pytest.raises(ValueError, match="must be floating point, not int64"):
        raf.augment(train.astype(np.int64), np.random.default_rng(0))
    for descriptors, generator in [
        (train, torch.Generator()),
        (torch.from_numpy(train), np.random.default_rng(0)),
        (train.tolist(), np.random.default_rng(0)),
        (train, 0),
    ]:
        with pytest.raises(
            ValueError, match="pass a NumPy array with a numpy.random.Generator, or a tensor with"
        ):
            raf.augment(descriptors, generator)
    for strategy in ("gaussian", "residual"):
        with pytest.raises(ValueError, match=f"'{strategy}' needs at least 2 training descriptors, not 1"):
            RetrievalAugmentation(bank, strategy=strategy).fit(train[:1])
    with pytest.raises(ValueError, match="needs at least 1 training descriptors, not 0"):
        raf.fit(train[:0])


def test_an_index_that_does_not_fit(bank, train):
    raf = RetrievalAugmentation(bank, p=1).fit(train)
    for index, message in [
        (np.arange(3), "index must be 2 integers"),
        (np.array([0.0, 1.0]), "index must be 2 integers"),
        (np.array([0, 50]), "index goes from 0 to 50, but 50 training descriptors were fitted"),
        (np.array([-1, 0]), "index goes from -1 to 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            raf.augment(train[:2], np.random.default_rng(0), index=index)
