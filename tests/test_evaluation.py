"""Grading: metrics by hand, regions where they belong, and protocols that cannot see the answer."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from raf_lite.captures import open_capture
from raf_lite.captures.formats.nersemble import NersembleSource
from raf_lite.descriptors import BLENDSHAPE_NAMES
from raf_lite.descriptors.landmarks import RIGID
from raf_lite.evaluation import (
    GROUPS,
    NOISE_FLOOR,
    REGIONS,
    Networks,
    change_from_baseline,
    driving_cases,
    encoder_errors,
    evaluate,
    face_regions,
    frame_errors,
    picture_errors,
)
from raf_lite.evaluation.grading import MEASURED, _runs
from raf_lite.evaluation.lpips import LPIPS
from raf_lite.evaluation.metrics import LANDMARKS, flip_evaluator, half_pixel_shift, shaking
from raf_lite.evaluation.protocols import Case, archetype_labels, frame_groups

SIZE = 64


@pytest.fixture(scope="module")
def capture(data_dir):
    return open_capture(data_dir / "mini_nersemble" / "001")


@pytest.fixture(scope="module")
def drivers(data_dir, capture):
    names = sorted({capture.cross_parts(c)[0] for c in capture.cross_sequences})
    return {name: open_capture(data_dir / "mini_nersemble" / name) for name in names}


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


class Recall:
    """An avatar that answers with the capture's own pictures, found by the descriptor that drives it; offset:
    what it adds."""

    descriptor = "blendshapes"

    def __init__(self, capture, drivers, size, offset=0.0):
        self.offset, self.answers = offset, {}
        for case in driving_cases(capture, drivers, self.descriptor, frame_step=1):
            for descriptor, frame in zip(case.descriptors, case.frames):
                self.answers[descriptor.tobytes()] = (case.sequence, frame)
        for sequence in capture.split().train_sequences:  # of which the cases have every sixth frame
            for frame, descriptor in enumerate(capture.descriptors(sequence, self.descriptor)):
                self.answers[descriptor.tobytes()] = (sequence, frame)
        self.capture, self.size = capture, size

    def render(self, descriptors, head_poses, cameras):
        out = []
        for descriptor in descriptors:
            sequence, frame = self.answers[descriptor.tobytes()]
            views = np.stack([self.capture.frames(sequence, c.serial)[frame] for c in cameras]) / np.float32(
                255
            )
            f = views.shape[1] // self.size
            out.append(views.reshape(len(cameras), self.size, f, self.size, f, 3).mean((2, 4)) + self.offset)
        return np.stack(out)


def blocks(values):
    """[..., H, W] with every pixel as a block of 2 x 2: what is left of it when pictures are compared is
    `values`."""
    return np.kron(values, np.ones((2, 2), values.dtype))


def test_errors_by_hand_and_normalised_by_their_own_region():
    truth = np.full((3, 40, 40, 3), 0.5, np.float32)
    images, masks = truth.copy(), np.zeros((3, 40, 40), bool)
    masks[:2, :8] = True  # the third one is empty
    images[0, :8] += 0.1
    errors = picture_errors(images, truth, {"part": masks, "frame": np.ones_like(masks)}, ["mae", "psnr"])
    np.testing.assert_allclose(
        errors["psnr"]["part"], [20, 100, np.nan], atol=1e-4
    )  # -10 log10(0.1^2); equal pictures
    np.testing.assert_allclose(
        errors["psnr"]["frame"], [20 + 10 * np.log10(5), 100, 100], atol=1e-4
    )  # a fifth of the pixels
    np.testing.assert_allclose(errors["mae"]["part"], [25.5, 0, np.nan], atol=1e-3)
    np.testing.assert_allclose(errors["mae"]["frame"], [5.1, 0, 0], atol=1e-3)
    whole = picture_errors(
        (images * 255).astype(np.uint8), (truth * 255).astype(np.uint8), {"part": masks}, ["mae"]
    )
    np.testing.assert_allclose(whole["mae"]["part"], [153 - 127, 0, np.nan], atol=1e-3)  # whole grey levels


def test_pictures_are_compared_at_half_their_size():
    truth = np.full((1, 40, 40, 3), 0.5, np.float32)
    finer = truth + np.where(np.indices((40, 40)).sum(0) % 2, 0.2, -0.2).astype(np.float32)[:, :, None]
    frame = {"frame": np.ones((1, 40, 40), bool)}
    assert picture_errors(finer, truth, frame, ["mae"])["mae"]["frame"][0] < 1e-3
    images = truth.copy()
    images[0, :20] += 0.1
    masks = np.zeros((2, 1, 40, 40), bool)
    masks[0, :, 19:] = True  # half of row 9 of 20: counts, and is wrong
    masks[1, :, 19:, ::2] = True  # a quarter of each of its pixels: does not count
    errors = picture_errors(images, truth, dict(zip(("half", "quarter"), masks)), ["mae"])["mae"]
    np.testing.assert_allclose([errors["half"][0], errors["quarter"][0]], [25.5 / 11, 0], atol=1e-3)


def test_ssim_knows_structure():
    small = noise((2, 40, 40))
    truth = np.repeat(blocks(small)[..., None], 3, -1)
    frame = {"frame": np.ones((2, 80, 80), bool)}
    similar = lambda images: picture_errors(images, truth, frame, ["ssim"])["ssim"]["frame"]  # noqa: E731
    np.testing.assert_allclose(similar(truth), 1, atol=1e-5)
    assert (similar(truth[:, :, ::-1].copy()) < 0.2).all()
    assert (similar(truth * np.float32(0.9)) > 0.9).all()
    # torchmetrics on the small pictures, without the reflected rim; then the mean over the region alone
    a, b = (torch.from_numpy(x)[:, None] for x in (noise((2, 40, 40), 1), small))
    _, full = structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = np.zeros((2, 80, 80), bool)
    inside[:, 20:40, 30:60] = True
    images = np.repeat(blocks(a[:, 0].numpy())[..., None], 3, -1)
    found = picture_errors(images, truth, {"part": inside}, ["ssim"])["ssim"]["part"]
    np.testing.assert_allclose(found, full[:, 0, 10:20, 15:30].mean((1, 2)), atol=1e-5)
    sparse = picture_errors(images, truth, {"part": inside}, ["mae", "ssim"], slow_step=2)
    np.testing.assert_allclose(sparse["ssim"]["part"], [found[0], np.nan], atol=1e-6)
    assert np.isfinite(sparse["mae"]["part"]).all()  # which is quick


def test_flip_counts_inside_the_region():
    pytest.importorskip("flip_evaluator")
    truth = np.repeat(noise((1, 96, 96, 3)) * np.float32(0.5), 4, 0)
    masks = np.zeros((4, 96, 96), bool)
    masks[:3, 20:50, 24:68] = True
    images = truth.copy()
    images[1, 80:] = 1  # outside
    images[2, 30:40, 30:50] = 1  # inside
    error = picture_errors(images, truth, {"part": masks}, ["flip"])["flip"]["part"]
    assert error[0] == 0 and error[1] == 0 and 0.05 < error[2] < 1 and np.isnan(error[3])


def test_flip_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    flip_evaluator.cache_clear()
    try:
        frame = {"frame": np.ones((1, 40, 40), bool)}
        with pytest.warns(UserWarning, match="pip install flip-evaluator"):
            errors = picture_errors(noise((1, 40, 40, 3)), noise((1, 40, 40, 3), 1), frame)
    finally:
        flip_evaluator.cache_clear()
    assert np.isnan(errors["flip"]["frame"][0])
    assert all(np.isfinite(errors[m]["frame"][0]) for m in ("mae", "psnr", "ssim"))


def test_what_the_encoder_sees_by_region_and_half_a_pixel():
    truth, scores = np.zeros((2, 478, 3)), np.zeros((2, 52))
    moved, acted = truth.copy(), scores.copy()
    moved[:, LANDMARKS["mouth"]] = [3, 4, 100]  # depth does not count
    moved[1, 0] = np.nan
    acted[:, BLENDSHAPE_NAMES.index("jawOpen")] = 0.26
    errors = encoder_errors(moved, acted, truth, scores)
    np.testing.assert_allclose(errors["landmarks"]["mouth"], [5, np.nan])
    np.testing.assert_allclose(errors["landmarks"]["eyes"], [0, 0])
    np.testing.assert_allclose(errors["landmarks"]["face"], [5 * len(LANDMARKS["mouth"]) / 478, np.nan])
    np.testing.assert_allclose(errors["aed"]["face"], [0.26 / 52] * 2)
    assert errors["aed"]["mouth"][0] > 0.26 / 52 and errors["aed"]["eyes"][0] == 0
    ramp = np.broadcast_to(np.arange(20.0)[None, None, :, None], (1, 20, 20, 3))
    np.testing.assert_allclose(
        half_pixel_shift(ramp)[0, 1:, 1:], ramp[0, 1:, 1:] - 0.5
    )  # what was half a pixel to the left


def test_regions_hold_their_landmarks_and_do_not_overlap(capture):
    camera = capture.cameras[capture.encoder_camera]
    for sequence in ("EXP-8-jaw-1", "EMO-4-disgust+happy"):
        points = camera.project(capture.landmarks68(sequence)[10])[0]
        masks = face_regions(points, camera.height, camera.width)
        assert tuple(masks) == REGIONS
        x, y = points.astype(int).T
        held = {name: mask[y, x] == 1 for name, mask in masks.items()}
        assert held["face"].all() and held["mouth"][48:].all() and held["cheeks+nose"][30]
        assert held["eyes"][17:27].all() and held["eyes"][36:48].all()
        for part in REGIONS[1:]:
            assert 0.02 < masks[part].sum() / masks["face"].sum() < 0.6
            assert (masks[part] <= masks["face"]).all()
        assert (masks["mouth"] + masks["eyes"] + masks["cheeks+nose"] <= 1).all()


def test_an_unusable_landmark_empties_the_regions():
    points = noise((68, 2)) * 50
    points[3] = np.nan
    assert all(mask.sum() == 0 for mask in face_regions(points, 64, 64).values())


def test_the_answers_descriptors_are_never_read(capture, drivers):
    """Cross-driving: an avatar gets the driver's descriptors and poses; touching those of the answer is an
    error here."""

    class Sealed:
        def __getattr__(self, name):
            return getattr(capture, name)

        def descriptors(self, sequence, name):
            assert not sequence.startswith("CROSS-"), "the answer's own descriptors were read"
            return capture.descriptors(sequence, name)

        def head_poses(self, sequence):
            assert not sequence.startswith("CROSS-"), "the answer's own head poses were read"
            return capture.head_poses(sequence)

        require_head_poses = head_poses

    seen = set()
    for case in driving_cases(Sealed(), drivers, "blendshapes"):
        if case.protocol == "cross":
            driver, sequence = capture.cross_parts(case.sequence)
            np.testing.assert_array_equal(
                case.descriptors, drivers[driver].descriptors(sequence, "blendshapes")[case.frames]
            )
            np.testing.assert_array_equal(
                case.head_poses, drivers[driver].require_head_poses(sequence)[case.frames]
            )
            seen.add(driver)
    assert seen == set(drivers)
    # The answer's own descriptors differ from the driver's: reading them instead would be noticed.
    name = capture.cross_sequences[0]
    driver, sequence = capture.cross_parts(name)
    assert not np.allclose(
        capture.descriptors(name, "blendshapes"), drivers[driver].descriptors(sequence, "blendshapes")
    )


def test_no_case_shows_a_training_sequence_as_held_out(capture, drivers):
    split = capture.split()
    for case in driving_cases(capture, drivers, "blendshapes"):
        if case.protocol == "training views":
            assert case.sequence in split.train_sequences and set(case.serials) == set(split.train_cameras)
        elif case.protocol == "hold-out cameras":
            assert case.sequence in split.train_sequences and set(case.serials) == set(split.holdout_cameras)
        elif case.protocol == "self":
            assert case.sequence in split.holdout_sequences
        assert np.isfinite(case.descriptors).all()


def test_a_missing_driver_is_named(capture, drivers):
    lacking = {name: driver for name, driver in drivers.items() if name != "102"}
    with pytest.raises(ValueError, match="needs driver 102"):
        list(driving_cases(capture, lacking, "blendshapes"))


@dataclasses.dataclass(frozen=True)
class Poseless(NersembleSource):
    """A source whose captures have no head poses."""

    def read_attached(self, sequence, serial):
        return {
            name: array
            for name, array in super().read_attached(sequence, serial).items()
            if name != "head_pose"
        }


def poseless(capture):
    return dataclasses.replace(capture, source=Poseless(**vars(capture.source)))


def test_missing_head_poses_are_named(capture, drivers):
    with pytest.raises(ValueError, match="001: sequence EXP-1-head has no head poses; .*fit_head_poses"):
        list(driving_cases(poseless(capture), drivers, "blendshapes"))
    with pytest.raises(ValueError, match="102: sequence .* has no head poses; .*fit_head_poses"):
        list(driving_cases(capture, drivers | {"102": poseless(drivers["102"])}, "blendshapes"))
    with pytest.raises(ValueError, match="001: sequence FREE has no head poses; .*fit_head_poses"):
        frame_errors(None, poseless(capture), "FREE", np.zeros((1, 52)), np.array([0]), size=SIZE)


def test_frames_that_cannot_drive_are_left_out(capture, drivers):
    class Gappy:
        encoder_camera, cameras = drivers["101"].encoder_camera, drivers["101"].cameras

        def descriptors(self, sequence, name):
            values = drivers["101"].descriptors(sequence, name).copy()
            values[:5] = np.nan
            return values

        def require_head_poses(self, sequence):
            return drivers["101"].require_head_poses(sequence)

    for case in driving_cases(capture, drivers | {"101": Gappy()}, "blendshapes", frame_step=1):
        if case.protocol == "cross":
            assert case.frames.min() == (5 if "-101-" in case.sequence else 0)


def test_sparse_training_frames_are_not_all_neutral(capture, drivers):
    """Sequences begin with a neutral face; with one frame a sequence that frame is from its middle."""
    cases = [
        c
        for c in driving_cases(capture, drivers, "blendshapes", frame_step=8)
        if c.protocol == "training views"
    ]
    assert {len(c.frames) for c in cases} == {1}
    moving = [capture.truth(c.sequence)["amplitude"][c.frames[0]] > 0 for c in cases]
    assert np.mean(moving) > 0.6
    dense = next(
        c
        for c in driving_cases(capture, drivers, "blendshapes", frame_step=1)
        if c.protocol == "training views"
    )
    assert np.all(np.diff(dense.frames) == 6) and dense.frames[0] <= 5


def test_a_perfect_avatar_is_perfect_and_a_brighter_one_is_not(capture, drivers, tmp_path):
    avatars = {
        "perfect": Recall(capture, drivers, SIZE),
        "brighter": Recall(capture, drivers, SIZE, offset=0.02),
    }
    out = tmp_path / "metrics.json"
    table = evaluate(
        avatars, capture, drivers, size=SIZE, out=out, frame_step=6, settings={"seed": 3}, progress=False
    )
    assert [g for g in GROUPS if g in table.index.get_level_values(0)] == list(GROUPS)
    perfect, brighter = table.xs("perfect", level="avatar"), table.xs("brighter", level="avatar")
    assert (perfect[["psnr", "psnr_face"]] == 100).all(axis=None)
    assert np.allclose(perfect[["ssim", "ssim_face"]], 1) and (perfect["flip_face"] == 0).all()
    assert (perfect[[f"mae_{r}" for r in REGIONS]] == 0).all(axis=None)
    np.testing.assert_allclose(brighter["psnr"], -20 * np.log10(0.02), atol=0.01)
    np.testing.assert_allclose(brighter[[f"mae_{r}" for r in REGIONS]], 5.1, atol=0.02)
    assert not set(MEASURED) & set(table.columns)
    assert table["landmarks"].isna().all() and NOISE_FLOOR not in table.index.get_level_values(
        1
    )  # there was no encoder
    assert (
        perfect.loc["self-strong", "views"]
        <= perfect.loc["self-seen", "views"]
        < perfect.loc["self", "views"]
    )
    stored = json.loads(out.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert stored["settings"] == {"seed": 3} and stored["baseline"] == "perfect"
    assert len(stored["table"]) == len(table)
    assert {row["sequence"] for row in stored["by_sequence"]} >= set(capture.cross_sequences)


def test_without_landmarks_whole_frames_are_graded(capture, drivers):
    class Blank:
        def __getattr__(self, name):
            return getattr(capture, name)

        def landmarks68(self, sequence):
            return None

    table = evaluate(
        {"brighter": Recall(capture, drivers, SIZE, offset=0.02)},
        Blank(),
        drivers,
        size=SIZE,
        frame_step=24,
        progress=False,
    )
    np.testing.assert_allclose(table["psnr"], -20 * np.log10(0.02), atol=0.01)
    assert table["ssim"].notna().all() and table[["psnr_face", "flip_face", "mae_face"]].isna().all(axis=None)


def test_errors_frame_by_frame_are_those_of_the_table(capture, drivers):
    """Brighter by 0.02 is 5.1 grey levels everywhere; what drives is what was given, not what the capture
    holds."""
    name = capture.cross_sequences[0]
    driver, sequence = capture.cross_parts(name)
    frames = np.array([3, 20, 11])
    avatar = Recall(capture, drivers, SIZE, offset=0.02)
    driving = drivers[driver].descriptors(sequence, "blendshapes")
    errors = frame_errors(avatar, capture, name, driving[frames], frames, size=SIZE)
    assert set(errors) == set(REGIONS) and all(len(v) == 3 for v in errors.values())
    np.testing.assert_allclose(errors["face"], 5.1, atol=0.02)
    other = frame_errors(avatar, capture, name, driving[frames + 1], frames, size=SIZE)
    assert (other["face"] != errors["face"]).any()


def test_seen_and_unseen_follow_the_archetypes(capture, drivers):
    """Seen frames are of archetypes that a training sequence has; unseen ones of none."""
    split = capture.split()
    trained = set(np.concatenate([capture.truth(s)["archetype"] for s in split.train_sequences]))
    labels = archetype_labels(capture)
    counted = dict.fromkeys(("self-seen", "self-unseen", "self-strong"), 0)
    for case in driving_cases(capture, drivers, "blendshapes", frame_step=1):
        if case.protocol != "self":
            continue
        truth = capture.truth(case.sequence)
        for frame, names in zip(case.frames, frame_groups(case, labels)):
            archetype, strong = truth["archetype"][frame], truth["amplitude"][frame] >= 1
            wanted = [] if archetype < 0 else ["self-seen"] if archetype in trained else ["self-unseen"]
            wanted += ["self-strong"] * bool(wanted == ["self-seen"] and strong)
            assert names == ["self", *wanted]
            for name in wanted:
                counted[name] += 1
    assert min(counted.values()) >= 10, counted


def test_landmarks_and_aed_with_the_encoder(capture, drivers, tmp_path):
    """MediaPipe on the truth itself: no error; half a pixel of shift: a floor above zero and far below a
    head's size."""
    pytest.importorskip("mediapipe")
    from raf_lite.descriptors import MediaPipeEncoder

    small = dataclasses.replace(
        capture.split(), train_sequences=(), holdout_sequences=capture.split().holdout_sequences[:1]
    )

    class OneSequence:
        cross_sequences = ()

        def __getattr__(self, name):
            return getattr(capture, name)

        def split(self, name="default"):
            return small

    class Colours:
        """Whose face: what the landmarks' box looks like, 4 x 4 pixels of it."""

        def descriptors(self, pictures, landmarks):
            low, high = (f(landmarks[..., :2], axis=1).astype(int) for f in (np.min, np.max))
            return np.stack(
                [
                    picture[b[1] : t[1], b[0] : t[0]][:: (t - b)[1] // 4, :: (t - b)[0] // 4][:4, :4].ravel()
                    for picture, b, t in zip(pictures, low, high)
                ]
            )

    only, alex = OneSequence(), LPIPS("alex")
    for head in alex.heads:
        head.weight.abs_()  # as fitted ones are: no difference counts as likeness
    networks = Networks({"alex": alex}, Colours())
    with MediaPipeEncoder() as encoder:
        table = evaluate(
            {"perfect": Recall(capture, drivers, 256)},
            only,
            {},
            size=256,
            encoder=encoder,
            networks=networks,
            frame_step=10,
            progress=False,
        )
    perfect, floor = table.loc[("self", "perfect")], table.loc[("self", NOISE_FLOOR)]
    for region in ("", "_mouth", "_eyes"):
        assert perfect[f"landmarks{region}"] < 1e-3 and perfect[f"aed{region}"] < 1e-4
        assert 0 < floor[f"landmarks{region}"] < 2 and 0 < floor[f"aed{region}"] < 0.05
    assert perfect["lpips_alex"] == perfect["lpips_alex_face"] == 0 < floor["lpips_alex_face"]
    assert perfect["identity"] == pytest.approx(1) and 0.9 < floor["identity"] < 0.9999
    assert (
        "jitter" not in table and "lpips_vgg" not in table
    )  # there are other cameras; there is no such network


def test_shaking_by_hand():
    """Landmarks that jump to and fro by d have second differences of 2 d; what the whole head does is no
    shaking, and a frame without a face leaves out the three that it is in."""
    rng = np.random.default_rng(0)
    face = rng.normal(size=(478, 3)).astype(np.float32)
    face[:, 2] *= 0.1
    width = np.linalg.norm(face[33] - face[263])
    moving = np.stack([face] * 7)
    loose = np.setdiff1d(LANDMARKS["mouth"], RIGID)
    moving[1::2, loose, 0] += 0.01 * width
    still = shaking(np.stack([face * (1 + 0.1 * t) + t * t for t in range(7)]))
    assert max(still.values()) < 1e-5
    found = shaking(moving)
    assert found["mouth"] == pytest.approx(0.02, rel=0.01) and found["eyes"] < 1e-5
    assert found["face"] == pytest.approx(0.02 * len(loose) / 478, rel=0.01)
    moving[6] = np.nan
    assert shaking(moving)["mouth"] == pytest.approx(found["mouth"], rel=1e-3)
    moving[3] = np.nan
    assert np.isfinite(shaking(moving)["mouth"])
    moving[::2] = np.nan
    assert all(np.isnan(v) for v in shaking(moving).values())
    assert all(np.isnan(v) for v in shaking(np.full((4, 478, 3), np.nan)).values())


def test_jitter_is_measured_in_frames_in_a_row():
    frames = np.array([0, 1, 4, 5, 6, 7, 12])
    case = Case("self", "FREE", ("1",), frames, frames[:, None] * 1.0, np.zeros((7, 4, 4)))
    (run,) = _runs(iter([dataclasses.replace(case, protocol="training views", sequence="x"), case])).values()
    assert run.frames.tolist() == run.descriptors[:, 0].tolist() == [4, 5, 6, 7] and len(run.head_poses) == 4


def test_change_from_baseline_by_hand():
    index = pd.MultiIndex.from_tuples(
        [("cross", "base"), ("cross", "raf"), ("cross", NOISE_FLOOR)], names=["group", "avatar"]
    )
    table = pd.DataFrame(
        {
            "views": [4, 4, 4],
            "psnr": [30.0, 31.5, np.nan],
            "psnr_face": [28.0, 27.0, np.nan],
            "ssim": [0.9, 0.8, np.nan],
            "ssim_face": [0.7, 0.6, np.nan],
            "mae_face": [10.0, 8.0, np.nan],
            "aed": [0.2, 0.3, 0.01],
            "jitter": [1.2, 1.1, np.nan],
            "lpips_alex": [0.1, 0.12, np.nan],
            "identity": [0.95, 0.96, 0.99],
        },
        index=index,
    )
    change = change_from_baseline(table)
    assert list(change.index) == [("cross", "raf")]
    row = change.loc[("cross", "raf")]
    assert not any(n in name for name in row.index for n in ("ssim", "identity", "jitter"))  # no errors
    assert row["lpips_alex %"] == pytest.approx(20)
    assert row["psnr dB"] == 1.5 and row["psnr_face dB"] == -1
    assert row["mae_face %"] == pytest.approx(-20) and row["aed %"] == pytest.approx(50)
