"""The study: statistics and tables by hand, a run end to end on small people, and the report rebuilt from the
committed lines."""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy import stats

from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.cli import main
from raf_lite.evaluation import Networks, encoder_errors, picture_errors
from raf_lite.evaluation.lpips import LPIPS
from raf_lite.evaluation.metrics import flip_evaluator
from raf_lite.retrieval import SETTINGS, Setting
from raf_lite.rig.build import SETTINGS as BUILD
from raf_lite.rig.expressions import archetype_weights
from raf_lite.rig.prior import PriorSettings
from raf_lite.study import (
    descriptors,
    execute,
    grading,
    people,
    plans,
    priors,
    report,
    runs,
    selecting,
    tables,
)
from raf_lite.study.augmentations import PairAugmentation, PoseAugmentation
from raf_lite.study.drawing import curves, forest, shown
from raf_lite.study.people import Training
from raf_lite.study.report import Study, runs_in, write_study_report
from raf_lite.study.retrieval_quality import linear_probe
from raf_lite.study.runs import RunSpec
from raf_lite.study.statistics import holm, paired_effect
from raf_lite.study.variants import matched_noise, setting_of, strategy_of

COMMITTED = ROOT / "benchmarks" / "results" / "study"

# ------------------------------------------------------------------------------------------------ statistics


def test_paired_effect_by_hand():
    effect = paired_effect([90, 80, 110], [100, 100, 100])
    change = np.array([-10, -20, 10.0])
    half = stats.t.ppf(0.975, 2) * change.std(ddof=1) / np.sqrt(3)
    assert effect.mean == pytest.approx(-20 / 3)
    assert (effect.low, effect.high) == pytest.approx((-20 / 3 - half, -20 / 3 + half))
    assert (effect.better, effect.subjects) == (2, 3)
    assert effect.p == pytest.approx(stats.ttest_rel([90, 80, 110], [100, 100, 100]).pvalue)
    assert -20.001 < effect.boot_low < effect.mean < effect.boot_high < 10.001


def test_decibels_are_differences_and_higher_is_better():
    effect = paired_effect([31, 30], [30, 31], measure="psnr")
    assert (effect.mean, effect.better) == (0, 1)
    assert paired_effect([31.0, 32.0], [30.0, 30.0], measure="psnr").mean == 1.5


def test_one_subject_has_no_interval():
    effect = paired_effect([50], [100])
    assert effect.mean == -50 and np.isnan(effect.low) and np.isnan(effect.p)
    assert shown(effect) == "-50.0 % (1 subject)"
    with pytest.raises(ValueError, match="one number a subject"):
        paired_effect([1, 2], [1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.6])[[0, 2]] == pytest.approx([1.0, 1.0])


# --------------------------------------------------------------------------------------------------- tables


def test_what_networks_measured_is_in_the_table_too():
    one = line(5001, "none", 2.0)
    one["outcomes"]["direct"]["cross"] |= {"lpips": {"frame": 0.1, "face": 0.2}, "identity": {"face": None}}
    table = tables.long_table([one])
    rows = table[table["measure"].isin(["lpips", "identity"])]
    assert dict(zip(rows["region"], rows["value"])) == {"frame": 0.1, "face": 0.2}
    assert (table["region"] == "mouth+eyes").sum() == 20


def line(subject, variant, value, *, descriptor="blendshapes", p=0.2, **fields):
    """A line as `runs.run` makes it, all of whose errors are `value`."""
    spec = RunSpec(subject, descriptor, variant, p, **fields)
    regions = {r: value for r in ("face", "mouth", "eyes")}
    groups = {
        g: {
            "frames": 3,
            "mae": dict(regions),
            "landmarks": dict(regions),
            "flip": dict(regions),
            "aed": dict(regions),
        }
        for g in ("cross", "self-seen", "self-unseen", "self-strong", "cross-turned")
    }
    return {
        "key": spec.key,
        "role": people.role_of(subject),
        "spec": asdict(spec),
        "outcomes": {"direct": groups},
        "extras": {"identity_spread": value, "step_ms": 5.0},
        "seconds": {"training": 1.0, "grading": 1.0},
        "machine": {"processor": "a test"},
        "preset": {"steps": 1},
    }


def test_effects_pair_subjects_and_leave_out_those_without_a_partner():
    table = tables.long_table(
        [
            line(6001, "none", 10.0),
            line(6002, "none", 20.0),
            line(6001, "paper", 9.0),
            line(6002, "paper", 16.0),
            line(6003, "paper", 1.0),
            line(6001, "paper", 5.0, p=0.5),
            line(6001, "paper", 4.0, bank="seen"),
            line(6001, "paper", 3.0, seed=1),
        ]
    )
    effect = tables.effects(
        table, "blendshapes", ("paper", 0.2), group="cross", measure="mae", region="mouth+eyes"
    )
    assert (effect.mean, effect.subjects, effect.better) == (pytest.approx(-15), 2, 2)
    other = tables.effects(table, "blendshapes", ("paper", 0.5), group="cross", measure="mae", region="face")
    assert (other.mean, other.subjects) == (pytest.approx(-50), 1)
    # The baseline belongs to every bank, but not to every seed.
    seen = tables.effects(
        table, "blendshapes", ("paper", 0.2), group="cross", measure="mae", region="face", bank="seen"
    )
    assert seen.mean == pytest.approx(-60)
    assert (
        tables.effects(
            table, "blendshapes", ("paper", 0.2), group="cross", measure="mae", region="face", seed=1
        )
        is None
    )


def test_mouth_and_eyes_are_averaged():
    one = line(6001, "none", 10.0)
    one["outcomes"]["direct"]["cross"]["mae"] = {"face": 1.0, "mouth": 4.0, "eyes": 8.0}
    values = tables.values_of(
        tables.long_table([one]),
        "blendshapes",
        tables.BASELINE,
        group="cross",
        measure="mae",
        region="mouth+eyes",
    )
    assert values.tolist() == [6.0]


# ------------------------------------------------------------------------------------------- plans, choices


def test_nobody_plays_two_parts():
    donors = {BUILD.donor_seed + i for i in range(BUILD.donors)}
    shipped = {seed for _, seed in BUILD.subjects + BUILD.drivers}
    groups = [
        set(people.SUBJECTS["selection"]),
        set(people.SUBJECTS["confirmation"]),
        set(people.DRIVERS["selection"]),
        set(people.DRIVERS["confirmation"]),
        set(people.PANEL),
        set(people.SEEN_DONORS),
        donors,
        shipped,
    ]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert len(people.SUBJECTS["selection"]) >= 4 and len(people.SUBJECTS["confirmation"]) >= 10
    assert all(len(d) >= 6 for d in people.DRIVERS.values())


def test_nothing_is_confirmed_before_the_choice(tmp_path):
    with pytest.raises(ValueError, match="selection.json is not there; run the plan 'selection'"):
        plans.plan("confirmation", tmp_path)
    with pytest.raises(ValueError, match="no plan 'confirmaton'; choose one of"):
        plans.plan("confirmaton", tmp_path)
    with pytest.raises(ValueError, match="selection runs are missing"):
        selecting.choose(tmp_path)


def selection_lines(scores):
    """Lines of the whole selection plan; scores: (variant, p) -> (cross, self-seen) factors on errors of
    100."""
    out = []
    for spec in plans.selection():
        cross, own = scores.get((spec.variant, spec.p), (1.0, 1.0))
        made = line(spec.subject, spec.variant, 100.0, descriptor=spec.descriptor, p=spec.p)
        for group, factor in (("cross", cross), ("self-seen", own)):
            for measure in ("mae", "landmarks"):
                made["outcomes"]["direct"][group][measure] = {
                    r: 100 * factor for r in ("face", "mouth", "eyes")
                }
        out.append(made)
    return out


def test_the_choice_follows_the_rule(tmp_path):
    scores = {
        ("centred", 0.2): (0.7, 1.05),
        ("weighted", 0.1): (0.8, 1.01),
        ("blended", 0.3): (0.85, 1.0),
        ("blended", 0.2): (0.95, 1.0),
    }
    for made in selection_lines(scores):
        execute.append_line(tmp_path / "selection.jsonl", made)
    choice = selecting.choose(tmp_path)
    assert (choice["blendshapes"]["variant"], choice["blendshapes"]["p"]) == (
        "weighted",
        0.1,
    )  # centred costs 5 %
    assert (choice["landmarks-neutral"]["variant"], choice["landmarks-neutral"]["p"]) == ("blended", 0.2)
    assert json.loads((tmp_path / plans.SELECTION_FILE).read_text()) == choice
    with pytest.raises(ValueError, match="a choice is made once"):
        selecting.choose(tmp_path)
    confirmed = plans.plan("confirmation", tmp_path)
    assert {s.subject for s in confirmed} == set(people.SUBJECTS["confirmation"])
    variants = {(s.variant, s.p) for s in confirmed if s.descriptor == "blendshapes"}
    assert {
        ("none", 0.2),
        ("paper", 0.2),
        ("paper-k16", 0.2),
        ("centred", 0.2),
        ("weighted", 0.1),
        ("weighted-gaussian", 0.1),
        ("paper-gaussian", 0.2),
        ("paper-k16-gaussian", 0.2),
        ("centred-gaussian", 0.2),
        ("paper-random", 0.2),
        ("blended", 0.3),
        ("blended-gaussian", 0.3),
    } == variants
    later = plans.plan("label_free", tmp_path)
    assert {(s.subject, s.descriptor) for s in later} == {
        (s, "landmarks-mean") for s in people.SUBJECTS["confirmation"]
    }
    for name in plans.PLANS:
        specs = plans.plan(name, tmp_path)
        assert specs and len({s.key for s in specs}) == len(specs)
        for spec in specs:
            setting_of(spec.variant)


def test_every_choice_has_its_matched_noise():
    for best in ("centred-residual", "weighted", "paper-k16"):
        choice = {"p": 0.2, "blendshapes": {"variant": best, "p": 0.3}}
        variants = plans.confirmed_variants(choice, "blendshapes")
        assert (f"{best.removesuffix('-residual')}-gaussian", 0.3) in variants
        assert len(variants) == len(set(variants))


def test_variants_and_their_matched_noise():
    assert setting_of("weighted-blended") == Setting("weighted", 16, blend=True)
    for name in ("none", "pairs", "pose", "centred+pose"):
        assert setting_of(name) is strategy_of(name) is matched_noise(name) is None
    for name, setting in SETTINGS.items():
        assert setting_of(name) == setting and strategy_of(name) == setting.strategy
        noise = matched_noise(name)
        assert (noise is None) == (setting.strategy in ("random", "gaussian"))
        assert noise is None or SETTINGS[noise] == setting.control("gaussian")
    assert matched_noise("centred-residual") == matched_noise("centred") == "centred-gaussian"
    assert matched_noise("weighted-blended") == "weighted-blended-gaussian"
    with pytest.raises(ValueError, match="^unknown variant 'gaussian'; choose one of none, pairs, pose, "):
        matched_noise("gaussian")


def test_retrieval_is_read_before_its_controls():
    names = [
        "paper-random",
        "paper",
        "centred-gaussian",
        "centred-residual",
        "pairs",
        "blended-mean_shift",
        "none",
    ]
    table = tables.long_table([line(6001, name, 1.0) for name in names])
    assert [name for name, _ in runs_in(table, "blendshapes")] == [
        "centred-residual",
        "pairs",
        "paper",
        "blended-mean_shift",
        "centred-gaussian",
        "paper-random",
    ]


def test_bad_runs_are_refused():
    for fields, message in (
        ((1, "blendshapes", "none"), "1 is no subject"),
        ((6001, "smiles", "none"), "unknown descriptor 'smiles'"),
        ((6001, "landmarks", "papr"), "unknown variant 'papr'"),
    ):
        with pytest.raises(ValueError, match=message):
            RunSpec(*fields)
    with pytest.raises(ValueError, match="unknown bank 'large'"):
        RunSpec(6001, "landmarks", "paper", bank="large")
    with pytest.raises(
        ValueError, match="'wheels' moves no Gaussians; choose one of nothing, ride, prior, both, shuf"
    ):
        RunSpec(6001, "landmarks", "none", under="wheels")
    for under in ("ride", "truth"):
        with pytest.raises(ValueError, match=f"'blendshapes' says nothing .*'{under}' moves nothing; name a"):
            RunSpec(6001, "blendshapes", "none", under=under)
    assert RunSpec(6001, "blendshapes", "none", under="untaught").key.endswith(" untaught")
    with pytest.raises(ValueError, match="unknown avatar 'huge'; choose one of standard, 1x, 3x,"):
        RunSpec(6001, "landmarks", "none", avatar="huge")
    with pytest.raises(ValueError, match="no bank knows 'truth', so nothing is retrieved; use the variant"):
        RunSpec(6001, "truth", "centred")
    with pytest.raises(ValueError, match="'truth' says nothing of where landmarks go"):
        RunSpec(6001, "truth", "none", under="ride")


def test_runs_over_a_prior_are_compared_with_their_like():
    """A run that something else moves is told from the plain one, and no comparison mixes the two; lines that
    say nothing of it are plain."""
    lines = [line(s, "none", 10.0 * s, descriptor="landmarks") for s in (6001, 6002)]
    del lines[0]["spec"]["under"]
    lines += [line(s, "none", 8.0 * s, descriptor="landmarks", under="prior") for s in (6001, 6002)]
    table = tables.long_table(lines)
    asked = {"group": "cross", "measure": "mae", "region": "face"}
    plain = tables.values_of(table, "landmarks", tables.BASELINE, **asked)
    assert plain.to_dict() == {6001: 60010.0, 6002: 60020.0}
    effect = tables.effects(
        table, "landmarks", tables.BASELINE, under="prior", against_conditions={"under": "nothing"}, **asked
    )
    assert effect.mean == pytest.approx(-20.0)


# ------------------------------------------------------------------------------- controls of the motion prior


def test_what_training_lacks_is_in_no_row_of_a_lacking_bank(data_dir):
    from raf_lite.rig.expressions import ARCHETYPE_NAMES, EXPRESSION_UNITS
    from raf_lite.rig.prior import bank_motions

    rows = priors.shown_alone(data_dir / "bank", Training().sequences())
    _, weights, _, bank = bank_motions(data_dir / "bank")
    archetype = load_truth(data_dir / "bank")["archetype"]
    assert 0.4 < rows.mean() < 0.6 and rows[bank.neutral].all()
    shown = {ARCHETYPE_NAMES[a] for a in archetype[rows & (archetype >= 0)]}
    assert {"jaw_open", "smile", "blink"} < shown and not shown & {"yawn", "laugh", "shout", "bite", "grin"}
    # Mixed gestures are named after one of the two: who purses lips opens no jaw beside it.
    pucker = archetype == ARCHETYPE_NAMES.index("pucker")
    jaw = weights[:, EXPRESSION_UNITS.index("jawOpen")]
    assert jaw[pucker].max() > 0.3 and jaw[pucker & rows].max() <= priors.ACTIVE


def test_a_control_is_learned_once(ict_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(priors, "study_cache", lambda: tmp_path)
    short = {"components": 4, "hidden": 128, "trunk_steps": 2, "branch_steps": 2, "positions": 60}
    monkeypatch.setattr(priors, "PriorSettings", partial(PriorSettings, **{"identities": 2} | short))
    whole = Training()
    single = priors.control_prior("single", whole)
    assert single.notes["donors"] == 1 and 60 < single.notes["rows"] < 120
    (file,) = tmp_path.glob("prior-single-*.safetensors")
    priors.control_prior("single", Training(scripts=0.35))
    assert [*tmp_path.glob("prior-*")] == [file], "whom it comes from does not hang on what the subject did"
    lacks = [priors.control_prior("lacking", t).notes["rows"] for t in (whole, Training(scripts=0.35))]
    assert lacks[0] > lacks[1] > 300
    monkeypatch.setattr(priors, "learn_prior", None)
    again = priors.control_prior("single", whole)
    assert all(torch.equal(v, single.state_dict()[k]) for k, v in again.state_dict().items())


def test_the_true_motion_of_a_known_descriptor_is_the_rigs(ict_pack):
    from raf_lite.rig.head import HeadModel
    from raf_lite.rig.pack import load_pack

    model, rng = HeadModel(load_pack()), np.random.default_rng(0)
    weights = np.stack([archetype_weights(name) for name in ("jaw_open", "smile", "brow_up", "pucker")])
    known = rng.normal(size=(4, 64)).astype(np.float32)
    prior = priors.TrueMotion(known, weights)
    asked = torch.as_tensor(known + 0.01 * rng.normal(size=known.shape), dtype=torch.float32)
    with torch.no_grad():
        said = prior(torch.as_tensor(model.neutral[::7]), asked).numpy()
    true = np.einsum("tu,uvc->tvc", weights, model.expression_modes[:, ::7])
    off = ((said - true) ** 2).sum((1, 2)) / (true**2).sum((1, 2))
    assert off.max() < 0.2
    deep = copy.deepcopy(prior)  # as an avatar takes it
    assert torch.equal(deep.coefficients(asked), prior.coefficients(asked))


# -------------------------------------------------------------------------------------------------- on disk


def test_a_half_written_line_is_run_again(tmp_path):
    path = tmp_path / "a.jsonl"
    execute.append_line(path, {"key": "one"})
    with open(path, "a") as f:
        f.write('{"key": "tw')  # killed here
    assert [x["key"] for x in execute.read_lines(tmp_path)] == ["one"]
    execute.append_line(path, {"key": "two"})
    assert [x["key"] for x in execute.read_lines(tmp_path)] == ["one", "two"]
    path.write_text('{"key": "one"}\n{"key": \n')
    with pytest.raises(ValueError, match="a.jsonl line 2 is not JSON"):
        list(execute.read_lines(tmp_path))


def test_status_and_errors_on_the_command_line(tmp_path, capsys):
    execute.append_line(tmp_path / "selection.jsonl", line(5001, "none", 1.0))
    assert main(["study", "status", "--folder", str(tmp_path)]) == 0
    assert f"1 of {len(plans.selection())} runs" in capsys.readouterr().out
    assert main(["study", "run", "confirmation", "--folder", str(tmp_path)]) == 2
    assert "before anything is confirmed" in capsys.readouterr().err
    assert main(["study", "report", "--folder", str(tmp_path / "empty")]) == 2
    assert "holds no runs" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- grading


@pytest.fixture
def answers():
    """Four tiny graded frames: a face of 20x20 pixels with a mouth in it."""
    rng = np.random.default_rng(0)
    regions = np.zeros((4, 48, 48), np.uint8)
    regions[:, 14:34, 14:34] = people.REGION_BITS["face"]
    regions[:, 26:32, 18:30] |= people.REGION_BITS["mouth"]
    regions[:, 18:22, 16:32] |= people.REGION_BITS["eyes"]
    return {
        "image": rng.integers(0, 255, (4, 48, 48, 3), dtype=np.uint8),
        "regions": regions,
        "driver": np.array([-1, -1, -1, 7001]),
        "archetype": np.array([0, -1, 5, 0]),
        "amplitude": np.array([1.0, 0, 0.7, 1]),
        "sequence": np.array(["FREE"] * 4),
        "points": rng.normal(size=(4, 478, 2)).astype(np.float32),
        "scores": rng.random((4, 52)).astype(np.float32),
    }


RECORDED = {
    "frames": 4,
    "landmarks": {"face": 4.22784, "mouth": 4.49013, "eyes": 4.29703},
    "aed": {"face": 0.50506, "mouth": 0.51685, "eyes": 0.48587},
    "mae": {"face": 9.64621, "mouth": 8.20074, "eyes": 9.15316},
    "psnr": {"face": 26.59791, "mouth": 27.979, "eyes": 27.54674},
    "ssim": {"face": 0.95347, "mouth": 0.95534, "eyes": 0.95376},
    "flip": {"face": 0.20619, "mouth": 0.15426, "eyes": 0.18984},
}


def test_errors_are_measured_as_in_the_recorded_lines(answers):
    """Numbers of the code that made benchmarks/results/study, of pictures with a gradient laid over them: if
    they change, those lines can no longer be compared with new ones."""
    y, x = np.mgrid[:48, :48]
    gradient = np.stack([y, x, (y + x) / 2], -1).astype(np.float32) / 48
    shown = answers["image"].astype(np.float32) / 255 * np.float32(0.75) + np.float32(0.25) * gradient
    points = answers["points"] + (np.arange(478) % 7)[:, None].astype(np.float32)
    errors = encoder_errors(points, 1 - answers["scores"], answers["points"], answers["scores"])
    errors |= picture_errors(
        shown, answers["image"], grading.region_masks(answers), slow_step=grading.SLOW_STEP
    )
    pooled = grading.pooled(errors, {"all": np.arange(4)})["all"]
    assert list(pooled) == list(RECORDED)  # lines keep their order
    for measure in pooled:
        if measure == "flip" and flip_evaluator() is None:
            assert set(pooled["flip"].values()) == {None}
            continue
        assert pooled[measure] == pytest.approx(RECORDED[measure], abs=2e-5), measure


def test_the_truth_has_no_error_and_regions_are_apart(answers):
    truth, regions = answers["image"].astype(np.float32) / 255, grading.region_masks(answers)
    errors = picture_errors(truth, answers["image"], regions, slow_step=2)
    assert all(np.allclose(errors["mae"][r], 0, atol=1e-4) for r in regions)
    assert (
        np.allclose(errors["ssim"]["face"][[0, 2]], 1, atol=1e-5)
        and np.isnan(errors["ssim"]["face"][[1, 3]]).all()
    )
    wrong = truth.copy()
    wrong[:, 26:32, 18:30] += 10 / 255
    mae = picture_errors(wrong, answers["image"], regions, ["mae"])["mae"]
    assert np.allclose(mae["mouth"], 10, atol=1e-3) and np.allclose(mae["eyes"], 0, atol=1e-4)
    assert np.allclose(mae["face"], 10 * 72 / 400, atol=1e-3)


def test_what_could_not_be_measured_is_no_number():
    errors = {"landmarks": {"mouth": np.array([5, np.nan])}}
    pooled = grading.pooled(
        errors, {"some": np.array([0, 1]), "none": np.array([1]), "empty": np.array([], int)}
    )
    assert pooled == {
        "some": {"frames": 2, "landmarks": {"mouth": 5}},
        "none": {"frames": 1, "landmarks": {"mouth": None}},
    }


def test_groups_follow_what_training_had(answers):
    from raf_lite.rig.expressions import ARCHETYPE_INDEX
    from raf_lite.rig.scripts import seen_archetypes

    seen = sorted(seen_archetypes(Training().sequences()))[0]
    unseen = sorted(set(ARCHETYPE_INDEX) - seen_archetypes(Training().sequences()))[0]
    answers["archetype"] = np.array(
        [ARCHETYPE_INDEX[seen], -1, ARCHETYPE_INDEX[unseen], ARCHETYPE_INDEX[seen]]
    )
    members = {name: rows.tolist() for name, rows in grading.group_members(answers, Training()).items()}
    assert members == {
        "self": [0, 1, 2],
        "self-seen": [0],
        "self-unseen": [2],
        "self-strong": [0],
        "cross": [3],
        "cross-turned": [],
    }


def test_less_training_is_a_part_of_it():
    everything = Training().sequences()
    assert everything == BUILD.train_sequences
    for share in (0.65, 0.35):
        some = Training(scripts=share).sequences()
        assert (
            set(some) < set(everything)
            and "EXP-1-head" in some
            and len(some) == round(share * len(everything))
        )
    recording = {"sequence": np.repeat(everything, 8), "found": np.ones(8 * len(everything), bool)}
    rows = Training(frames=0.25).rows(recording)
    assert rows[0] == 0 and len(rows) == len(recording["found"]) / 4


# ----------------------------------------------------------------------------------- descriptors and bounds


def test_relative_descriptors_of_a_bank_share_no_constant():
    for descriptor, reference in (("blendshapes-mean", None), ("landmarks-neutral", "neutral")):
        bank = descriptors.study_bank(descriptor)
        for donor in np.unique(bank.donors)[:5]:
            own = bank.donors == donor
            about = bank.descriptors[own & bank.neutral] if reference else bank.descriptors[own]
            assert np.abs(about.mean(0)).max() < 2e-3
    part = descriptors.study_bank("blendshapes", rows=1000)
    assert len(part) == 1000 and part.dim == 52
    with pytest.raises(ValueError, match="unknown descriptor"):
        descriptors.parts("blendshapes-median")


def test_true_pairs_replace_whole_descriptors():
    partners = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    partners[1, 1] = np.nan
    pairs = PairAugmentation(partners, p=1.0)
    generator = torch.Generator().manual_seed(0)
    own = torch.full((3, 2), -1.0)
    for _ in range(20):
        out, info = pairs.augment(own, generator, index=torch.arange(3))
        for row in range(3):
            options = [partner for partner in partners[row] if np.isfinite(partner).all()]
            options += [own[row].numpy()] * (row == 1)
            assert any(np.array_equal(out[row].numpy(), o) for o in options)
        assert bool(torch.isfinite(out).all())
    with pytest.raises(ValueError, match="pass index, the frame of each descriptor"):
        pairs.augment(own, generator)
    assert torch.equal(
        PairAugmentation(partners, p=0.0).augment(own, generator, index=torch.arange(3))[0], own
    )


def test_pose_augmentation_finds_the_effect_of_a_turn():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(3, 4))
    donors = np.repeat(np.arange(20), 30)
    turns = rng.normal(size=(600, 3)) * 0.2 + rng.normal(size=(20, 3))[donors]
    rows = rng.normal(size=(20, 4))[donors] * 5 + (turns - 0) @ effect
    bank = ExpressionBank.from_arrays(rows.astype(np.float32), donors)
    pose = PoseAugmentation(bank, turns, p=1.0, degrees=10.0)
    assert np.allclose(pose.effect.numpy(), effect * np.deg2rad(10), atol=1e-4)
    out, _ = pose.augment(torch.zeros(4000, 4), torch.Generator().manual_seed(0), index=torch.arange(4000))
    expected = effect.T @ effect * np.deg2rad(10) ** 2
    assert np.allclose(np.cov(out.numpy().T), expected, atol=0.1 * np.abs(expected).max())


def test_linear_probe_knows_a_constant_and_nothing_of_noise():
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(10), 60)
    noise = rng.normal(size=(600, 20))
    assert linear_probe(noise + 5 * rng.normal(size=(10, 20))[donors], donors) > 0.99
    assert linear_probe(noise, donors) < 0.25


def test_descriptors_get_coarser():
    training = np.array([[0.0, -1.0], [1.0, 1.0]], np.float32)
    out = runs.coarser(np.array([[0.4, 0.1], [2.0, -3.0]], np.float32), 1, training)
    assert out.tolist() == [[0.0, 1.0], [1.0, -1.0]]
    fine = runs.coarser(np.array([[0.4, 0.1]], np.float32), 8, training)
    assert np.abs(fine - [[0.4, 0.1]]).max() <= 1 / 255


# ---------------------------------------------------------------------------------------- a run, end to end


def test_recordings_of_other_settings_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    folder = people.study_cache.__wrapped__  # which is asked once a process
    before = folder()
    assert folder() == before
    monkeypatch.setattr(people, "SETTINGS", replace(BUILD, frames=BUILD.frames + 1))
    assert folder() != before
    monkeypatch.undo()
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    (tmp_path / "other.npz").write_bytes(b"another rig")
    monkeypatch.setenv("RAF_LITE_ICT", str(tmp_path / "other.npz"))
    assert folder() != before


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"blendshapes": np.zeros((2, 51))},
        {"blendshapes": np.zeros(())},
        {"found": np.ones(3, bool)},
        {"encoder_pose": np.zeros((2, 16))},
        {"landmarks": None},
    ],
)
def test_a_damaged_recording_is_named_and_rendered_again(tmp_path, monkeypatch, capsys, change):
    whole = {
        "blendshapes": np.zeros((2, 52)),
        "landmarks": np.zeros((2, 64)),
        "found": np.ones(2, bool),
        "encoder_pose": np.zeros((2, 4, 4)),
    }
    monkeypatch.setattr(people, "study_cache", lambda: tmp_path)
    monkeypatch.setitem(people.RENDERERS, "panel", lambda seed: whole)
    file = people.person_file("panel", 9001)
    people.prepare("panel", 9001)
    assert capsys.readouterr().out == "" and people.is_rendered("panel", 9001)
    if change is None:
        file.write_bytes(file.read_bytes()[:-9])
    else:
        arrays = {name: array for name, array in (whole | change).items() if array is not None}
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match=rf"{file}.*; run `raf-lite study run`, which renders it again"):
        people.load_person("panel", 9001)
    people.prepare("panel", 9001)
    assert capsys.readouterr().out.startswith(str(file))
    assert people.load_person("panel", 9001)["blendshapes"].shape == (2, 52)


@pytest.fixture
def small_people(ict_pack, tmp_path, monkeypatch):
    """The study with one driver, few faces and short training, in a cache of its own."""
    pytest.importorskip("mediapipe")
    folder = tmp_path / "people"
    folder.mkdir()
    monkeypatch.setattr(people, "study_cache", lambda: folder)
    monkeypatch.setattr(
        people,
        "SETTINGS",
        people.SETTINGS.__class__(
            **{
                **asdict(BUILD),
                "train_sequences": ("EXP-1-head", "EXP-8-jaw-1"),
                "cross_sequences": ("EMO-1-shout+laugh",),
            }
        ),
    )
    monkeypatch.setattr(people, "CROSS_SEQUENCES", ("FREE",))
    monkeypatch.setattr(people, "HOLDOUT_SEQUENCES", ("EMO-1-shout+laugh",))
    monkeypatch.setattr(people, "DRIVERS", {"selection": (7001,), "confirmation": (8001,)})
    monkeypatch.setattr(people, "CROSS_STEP", 16)
    monkeypatch.setattr(people, "PANEL", people.PANEL[:2])
    monkeypatch.setattr(runs, "PANEL", people.PANEL[:2])
    monkeypatch.setattr(descriptors, "PANEL", people.PANEL[:2])
    monkeypatch.setattr(runs, "PRESET", runs.PRESET.with_(steps=30, coarse_steps=20, gaussians=600))
    for long, _ in runs.AVATARS.values():
        if long:
            monkeypatch.setitem(long, "steps", 40)
            monkeypatch.setitem(long, "coarse_steps", 20)
    runs._recording.cache_clear()
    yield folder
    runs._recording.cache_clear()


class Coarse:
    """Whose face: every 16th pixel."""

    def descriptors(self, pictures, landmarks):
        assert landmarks.shape == (len(pictures), 478, landmarks.shape[2])
        return pictures[:, ::16, ::16].reshape(len(pictures), -1).astype(float)


def test_a_run_from_rendering_to_its_line(small_people):
    from raf_lite.descriptors import MediaPipeEncoder

    spec = RunSpec(5001, "landmarks-neutral", "centred")
    with pytest.raises(FileNotFoundError, match="not rendered yet; run `raf-lite study run`"):
        runs.training_set(spec)
    for kind, seed in spec.needs():
        people.prepare(kind, seed)
    answers = people.load_person("answers", 5001)
    driver = people.load_person("driver", 7001)
    # What drives a cross frame is the driver's own descriptor: that of the answer is nowhere in it.
    cross = (answers["driver"] == 7001) & (answers["sequence"] == "FREE")
    recorded = driver["sequence"] == "FREE"
    assert np.array_equal(
        answers["blendshapes"][cross], driver["blendshapes"][recorded][answers["frame"][cross]]
    )
    assert np.abs(answers["blendshapes"][cross] - answers["scores"][cross]).max() > 0.05
    data, neutral, video = runs.training_set(spec)
    assert np.allclose(data.descriptors[0], 0) and np.allclose(data.descriptors, video - neutral, atol=1e-5)
    _, film = descriptors.reference_of(driver, "landmarks")
    live = RunSpec(5001, "landmarks-mean", "none", live=True)
    known = descriptors.graded_descriptors(5001, answers, "landmarks-mean", neutral, video)
    drives = runs.live_drives(live, answers, known, (1, len(film)))
    assert list(drives) == [
        f"{n}: {how}" for n in ("1 frame", f"{len(film)} frames") for how in ("their mean", "expected")
    ]
    assert np.allclose(drives[f"{len(film)} frames: their mean"], known, atol=1e-5)
    off = {name: np.linalg.norm((d - known)[cross], axis=1).mean() for name, d in drives.items()}
    assert off["1 frame: their mean"] > off["1 frame: expected"] > off[f"{len(film)} frames: expected"] > 0
    own = answers["driver"] < 0
    assert all(np.array_equal(d[own], known[own]) for d in drives.values())
    driving = descriptors.graded_descriptors(5001, answers, "landmarks-neutral", neutral, video)
    first = np.flatnonzero(recorded & (driver["frame"] == 0))[0]
    assert np.allclose(driving[cross], answers["landmarks"][cross] - driver["landmarks"][first], atol=1e-5)
    with MediaPipeEncoder() as encoder:
        done = runs.run(spec, encoder)
        base = runs.run(RunSpec(5001, "blendshapes", "none", tolerance=True), encoder)
        over, truth, untaught = (
            runs.run(RunSpec(5001, "landmarks-neutral", "none", under=under), encoder)
            for under in ("prior", "truth", "untaught")
        )
        networks = Networks({"alex": LPIPS("alex")}, Coarse())
        perfect = runs.run(RunSpec(5001, "truth", "none", avatar="3x-48-bases"), encoder, networks)
    assert perfect["key"] == "5001 truth none seed0 scripts1 frames1 3x-48-bases"
    assert perfect["preset"]["steps"] == 40 and set(perfect["outcomes"]) == {
        "direct",
        "nearest training code",
    }
    assert perfect["outcomes"]["direct"]["cross"]["landmarks"]["face"] > 0.2
    assert perfect["extras"]["identity_spread"] < 1e-3, "the panel's people are told the same"
    asked = perfect["outcomes"]["direct"]["cross"]
    assert 0 != asked["lpips"]["face"] != asked["lpips"]["frame"] != 0  # its heads are random here
    assert 0.1 < asked["identity"]["face"] < 1
    assert "lpips" not in base["outcomes"]["direct"]["cross"]
    assert done["key"] == spec.key and done["training_frames"] == len(video) > 40
    assert json.loads(json.dumps(done)) == done
    errors = done["outcomes"]["direct"]["cross"]
    assert (
        errors["frames"] == cross.sum()
        and 0 < errors["mae"]["face"] < 60
        and errors["landmarks"]["face"] > 0.2
    )
    assert (
        done["extras"]["augment_ms"] > 0
        and done["extras"]["reach"] > 0
        and done["extras"]["expression_spread"] > 0
    )
    assert set(base["outcomes"]) == {
        "direct",
        "nearest training code",
        "neutral-relative",
        "4 bits",
        "2 bits",
        "noise",
    }
    same, changed = base["outcomes"]["direct"], base["outcomes"]["neutral-relative"]
    assert same["self"]["mae"] == changed["self"]["mae"] and same["cross"]["mae"] != changed["cross"]["mae"]
    assert over["key"].endswith(" prior") and over["preset"]["prior"] and not done["preset"]["prior"]
    assert over["outcomes"]["direct"]["cross"]["landmarks"]["face"] < errors["landmarks"]["face"]
    assert untaught["preset"] == done["preset"] and truth["preset"] == over["preset"]
    assert truth["outcomes"]["direct"]["cross"] != over["outcomes"]["direct"]["cross"]
    assert untaught["outcomes"]["direct"]["cross"]["mae"] != errors["mae"]
    floor = runs.noise_floor(5001)["outcomes"]["self"]["landmarks"]["face"]
    assert 0 < floor < errors["landmarks"]["face"]


# --------------------------------------------------------------------------------------------------- report


def test_the_report_says_what_the_lines_say(tmp_path):
    scores = {("centred", 0.2): (0.7, 1.0)}
    for made in selection_lines(scores):
        execute.append_line(tmp_path / "selection.jsonl", made)
    selecting.choose(tmp_path)
    for subject in people.SUBJECTS["confirmation"]:
        spread = 0.5 * (-1) ** subject
        for variant, value in (
            ("none", 100),
            ("centred", 75 + spread),
            ("centred-gaussian", 90),
            ("paper-k16", 95 + spread),
        ):
            execute.append_line(tmp_path / "confirmation.jsonl", line(subject, variant, value))
    html_path, markdown = write_study_report(tmp_path)
    text, page = markdown.read_text(), html_path.read_text()
    row = next(
        x
        for x in text.splitlines()
        if x.startswith("| best (centred, p = 0.2), blendshapes: cross, landmarks")
    )
    assert "-25.0 %" in row and row.rstrip("| ").endswith("yes")
    row = next(x for x in text.splitlines() if x.startswith("| paper-k16, blendshapes: cross, landmarks"))
    assert "-5.0 %" in row and row.rstrip("| ").endswith("no")  # asked for -8
    assert "10/10" in text and 'role="img" aria-label="blendshapes: cross, landmarks: ' in page
    assert "<script" not in page and "http" not in page


def test_the_report_says_what_limits_an_avatar(tmp_path):
    everyone = report.LIMITED
    made = [line(s, "none", 100.0, descriptor="landmarks-mean", avatar="1x") for s in everyone]
    made += [line(s, "none", 60.0, descriptor="landmarks-mean", avatar="3x") for s in everyone]
    made += [line(s, "none", 57.0 + s % 2, descriptor="landmarks-mean", avatar="10x") for s in everyone[:4]]
    made += [line(s, "none", 90.0, descriptor="truth", avatar="1x") for s in everyone]
    made += [line(s, "none", 30.0, descriptor="truth", avatar="3x") for s in everyone]
    for one in made:
        execute.append_line(tmp_path / "limits.jsonl", one)
    text = write_study_report(tmp_path)[1].read_text()
    part = text.split("What limits an avatar", 1)[1]

    def cells(name):
        return next(r for r in part.splitlines() if r.startswith(f"| {name} |")).strip("| ").split(" | ")[1:]

    assert cells("a perfect encoder")[0].startswith("-10.0 % [-10.0, -10.0], 6/6")
    assert cells("a perfect encoder, both with three times the steps")[0].startswith("-50.0 %")
    assert cells("three times the steps")[0].startswith("-40.0 % [-40.0, -40.0], 6/6")
    assert cells("ten times, against three times")[0].startswith("-4.2 % [-5.")
    assert cells("landmarks-mean, 10x")[0] == "57.5 (of 4)" and "12,000" not in part
    assert "landmarks-mean, 1x" in part and "What limits: cross, landmarks" in part
    assert "Where the error goes" not in part  # not without the perfect encoder's ten times


def test_the_report_says_where_the_error_goes(tmp_path):
    values = {("landmarks-mean", "1x"): 100, ("landmarks-mean", "10x"): 60}
    values |= {("truth", "1x"): 90, ("truth", "10x"): 40}
    for s in report.LIMITED[:2]:
        for (descriptor, avatar), value in values.items():
            one = line(s, "none", float(value), descriptor=descriptor, avatar=avatar)
            if descriptor == "truth":
                for measure in ("landmarks", "mae"):
                    one["outcomes"]["direct"]["self-seen"][measure] = dict.fromkeys(
                        ("face", "mouth", "eyes"), 30.0
                    )
            execute.append_line(tmp_path / "limits.jsonl", one)
        floor = {g: {"landmarks": {"face": 5.0}} for g in ("cross", "self-unseen")}
        execute.append_line(
            tmp_path / "f.jsonl", {"key": f"{s} noise floor", "subject": s, "outcomes": floor}
        )
    html_path, markdown = write_study_report(tmp_path)
    sentence = next(r for r in markdown.read_text().splitlines() if "Where the error goes: " in r)
    assert (
        "cross, landmarks (of 2): training: gone with ten times the steps 40 %, the encoder: gone, then,"
        in sentence
    )
    assert "with a perfect one 20 %" in sentence and "expressions of the training 10 %" in sentence
    assert "what is left: Gaussians, field, pixels 25 %, the ruler" in sentence and "pixel 5 %" in sentence
    assert "cross, face (of 2)" in sentence and "pixels 30 %; self-unseen" in sentence
    assert "a 40</text>" in html_path.read_text()


def test_a_figure_is_a_picture_in_a_notebook_that_nobody_trusts():
    figure = forest([("a <b>", paired_effect(np.array([3.0, 3.6]), np.array([4.0, 4.0])))], "Error")
    shown_as = figure._repr_html_()
    picture = base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', shown_as)[1]).decode()
    assert picture.startswith('<svg xmlns="http://www.w3.org/2000/svg" ') and picture.count("<circle") == 1
    assert "<svg" not in shown_as and "a &lt;b&gt; -17.5 %" in shown_as and shown_as.count("a &lt;b&gt;") == 2
    assert "<img" not in forest([], "Error")._repr_html_() and repr(figure) == figure.sentence


def test_identity_is_compared_in_points_and_more_is_better():
    effect = paired_effect(np.array([0.93, 0.95]), np.array([0.90, 0.93]), measure="identity")
    assert effect.mean == pytest.approx(2.5) and effect.better == 2


def test_the_report_says_whether_retrieval_helps_avatars_that_are_done(tmp_path):
    values = {"none": 100.0, "centred": 90.0, "centred-gaussian": 95.0, "paper-random": 120.0}
    for s in people.SUBJECTS["confirmation"]:
        for variant, value in values.items():
            one = line(s, variant, value + (s % 2) * (variant == "centred"), avatar=plans.DONE)
            one["outcomes"]["direct"]["cross"] |= {
                "identity": {"face": value / 200},
                "lpips": {"face": value},
            }
            execute.append_line(tmp_path / "done.jsonl", one)
            execute.append_line(tmp_path / "done.jsonl", line(s, variant, 100.0))  # of avatars that are not
    text = write_study_report(tmp_path)[1].read_text()
    part = text.split("avatars that are done training?", 1)[1].split("## ")[0]

    def cells(name, nth=0):
        return [r for r in part.splitlines() if r.startswith(f"| {name} |")][nth].strip("| ").split(" | ")[1:]

    assert cells("centred, p = 0.2")[0].startswith("-9.5 % [-9.9, -9.1], 10/10")
    assert cells("centred, p = 0.2 against its noise")[0].startswith("-4.7 %")
    assert cells("centred, p = 0.2")[5].startswith("-5.0 %") and "0/10" in cells("centred, p = 0.2")[5]
    assert cells("centred, p = 0.2", 1)[0] == "0.4" and "over the prior" not in part


def test_the_plan_of_done_avatars_begins_with_what_tells_most_and_asks_everybody():
    specs = plans.done({})
    assert len({s.key for s in specs}) == len(specs) and {s.avatar for s in specs} == {plans.DONE}
    variants = [s.variant for s in specs[:60:10]]
    assert variants == [
        "none",
        "paper-k16",
        "paper-k16-gaussian",
        "centred",
        "centred-gaussian",
        "paper-random",
    ]
    assert {s.subject for s in specs[:10]} == set(people.SUBJECTS["confirmation"])
    assert {s.under for s in specs[-18:]} == {"prior"} and {s.p for s in specs} == {0.2, 0.5}


def test_the_report_says_how_a_driver_begins(tmp_path):
    for s in people.SUBJECTS["confirmation"]:
        one = line(s, "none", 50.0, descriptor="landmarks-mean", avatar="1x", live=True)
        for name, value in (("1 frame: their mean", 100.0), ("1 frame: expected", 80.0)):
            one["outcomes"][name] = {
                "cross": {m: dict.fromkeys(("face", "mouth", "eyes"), value) for m in ("mae", "landmarks")}
            }
        execute.append_line(tmp_path / "live.jsonl", one)
    part = write_study_report(tmp_path)[1].read_text().split("A driver before a camera", 1)[1]
    rows = [r for r in part.splitlines() if r.startswith("| 1 frame: landmarks |")]
    assert rows[0].strip("| ").split(" | ")[1:] == ["50", "100", "80"]
    assert "-20.0 % [-20.0, -20.0], 10/10" in rows[1] and "+60.0 %" in rows[1]
    assert "12 frames" not in part.split("## ")[0].split("Percent", 1)[1]


def test_the_report_says_what_moves_under_the_field(tmp_path):
    relative = partial(line, descriptor="landmarks-neutral")
    everyone = [*people.SUBJECTS["selection"], *people.SUBJECTS["confirmation"]]
    lines = [relative(s, "none", 100.0) for s in everyone]
    lines += [relative(s, "none", 85.0 + s % 2, under="prior") for s in everyone]
    lines += [relative(s, "centred", 90.0 + s % 2, under="prior") for s in people.SUBJECTS["confirmation"]]
    for s in people.SUBJECTS["selection"]:
        lines.append(relative(s, "none", 104.0 - 8 * (s % 2), under="shuffled"))
        lines.append(relative(s, "none", 80.0 + 25 * (s == 5001), under="lacking"))
    for made in lines:
        execute.append_line(tmp_path / "motion.jsonl", made)
    text = write_study_report(tmp_path)[1].read_text()

    def cells(name, after="Selection subjects:"):
        rows = text.split(after, 1)[1].splitlines()
        return next(r for r in rows if r.startswith(f"| {name} |")).strip("| ").split(" | ")[1:]

    said = "-14.5 % [-15.4, -13.6], 4/4; bootstrap [-15.0, -14."
    assert all(cell.startswith(said) for cell in cells("motion prior"))
    assert cells("motion prior", "Confirmation subjects:")[0].startswith("-14.5 % [-14.9, -14.1], 10/10")
    shuffled = cells("prior of shuffled descriptors")[0]
    assert shuffled.startswith("+0.0 % [") and "2/4; bootstrap [-4.0, +4.0]" in shuffled
    over = cells("centred, p = 0.2, against no retrieval", "Confirmation subjects:")[0]
    assert over.startswith("+5.8 %") and ", 0/10;" in over
    for name, target, met in (
        ("motion prior, selection subjects: cross, landmarks", "-12 %, interval below zero", "yes"),
        ("motion prior, confirmation subjects: self-unseen, landmarks", "-20 %, interval below zero", "no"),
        ("motion prior, confirmation subjects: self-seen, face", "not worse", "yes"),
        # -13.8 % would do, were one subject not far off.
        (f"{report.UNDER_NAMES['lacking']}, selection subjects: self-unseen, landmarks", "-10 %", "no"),
    ):
        asked, reached, answer = cells(name, "Targets, set")
        assert asked.startswith(target) and answer == met and "/" in reached
    assert "lacking, confirmation" not in text and "with no hidden layer" in text


def test_a_figure_says_its_numbers():
    effect = paired_effect([90, 80, 85], [100, 100, 100])
    figure = forest([("one", effect), ("nothing", None)], "A title")
    assert figure.sentence == f"A title: one {shown(effect)}." and figure.sentence in figure.svg
    assert forest([], "Empty").svg == ""


def test_the_committed_report_is_that_of_the_committed_lines(tmp_path):
    html_path, markdown = write_study_report(COMMITTED, tmp_path)
    assert markdown.read_text() == (COMMITTED / "report.md").read_text()
    study = Study(COMMITTED)
    assert study.choice is not None
    for made in study.lines:
        if "spec" in made:
            assert RunSpec(**made["spec"]).key == made["key"]


def test_long_names_under_a_curve_do_not_overlap():
    """Names on one line of the axis keep their distance: at 7 pixels a letter none runs into the next."""
    for names in (["1,000", "3,000", "all"], [f"a descriptor with a name ({k})" for k in range(6)]):
        svg = curves({"gain": [(name, float(k)) for k, name in enumerate(names)]}, "Gain", "%").svg
        height = float(re.search(r'viewBox="0 0 900 (\d+)"', svg)[1])
        rows = {}
        for x, y, text in re.findall(
            r'<text x="([\d.]+)" y="(\d+)" text-anchor="middle" font-size="12">(.*?)</text>', svg
        ):
            rows.setdefault(float(y), []).append((float(x), 7 * len(text)))
            assert float(y) < height
        assert sum(map(len, rows.values())) == len(names)
        for row in rows.values():
            assert all(b - a >= (wa + wb) / 2 for (a, wa), (b, wb) in zip(row, row[1:]))
    ends = curves(
        {name: [("a", 0.0), ("b", y)] for name, y in (("one", 5.0), ("two", 5.01), ("three", 4.99))},
        "Ends",
        "%",
    ).svg
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" font-size="12" fill=', ends))
    assert len(heights) == 3 and np.diff(heights).min() >= 14
