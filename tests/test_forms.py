"""Forms of descriptors: by hand, in banks and training, and an avatar of landmarks that a video drives."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from lab import chromium
from test_export import Opened, unpack

from raf_lite import ExpressionBank, GaussianAvatar, TrainConfig, Trainer
from raf_lite.avatar import driven_by, driving_descriptors, own_reference
from raf_lite.avatar.hull import Similarity
from raf_lite.bank import expected_mean, write_bank
from raf_lite.captures import open_capture, write_video
from raf_lite.captures.formats.encoding import encoding_file
from raf_lite.captures.origin import origin
from raf_lite.cli import main
from raf_lite.descriptors import ENCODER, NAMED_FORMS, Detections, VideoDetections, forms, in_form
from raf_lite.evaluation import evaluate
from raf_lite.evaluation.protocols import driving_cases
from raf_lite.export import pack_avatar, write_player, write_ply
from raf_lite.export.expressions import EXPRESSIONS, expression_directions
from raf_lite.retrieval import RetrievalAugmentation
from raf_lite.training import TrainingSet
from raf_lite.viewing.video import comparison_frames
from raf_lite.widgets import mirror
from raf_lite.widgets.mirror import NOBODY

CONFIG = TrainConfig(
    steps=20, size=48, coarse_steps=0, gaussians=300, descriptor="landmarks-mean", retrieval="centred"
)


@pytest.fixture(scope="module")
def person(data_dir):
    """The first subject with four sequences: two to train on, one held out, one to be driven in."""
    capture = open_capture(data_dir / "mini_nersemble" / "001")
    return replace(
        capture, sequences=("EXP-1-head", "EXP-8-jaw-1", "FREE"), cross_sequences=("CROSS-101-FREE",)
    )


@pytest.fixture(scope="module")
def driver(data_dir):
    return open_capture(data_dir / "mini_nersemble" / "101")


@pytest.fixture(scope="module")
def trained(person, data_dir, tmp_path_factory):
    """An avatar of landmarks minus the own mean, trained with retrieval; its file; what it was trained on."""
    folder = tmp_path_factory.mktemp("landmarks")
    data = TrainingSet.from_capture(person, CONFIG, progress=False)
    bank = ExpressionBank.load(data_dir / "bank", descriptor=CONFIG.descriptor)
    Trainer(data, CONFIG, folder, bank=bank, device="cpu", progress=False).train()
    return GaussianAvatar.load(folder / "avatar.safetensors"), folder / "avatar.safetensors", data


@pytest.fixture(scope="module")
def clip(driver, tmp_path_factory):
    """Six frames of a driver as a film, and its encoding with the stored landmarks; frame 2 shows nobody."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, driver.frames("FREE", driver.encoder_camera)[:60:10], 12.0)
    stored = driver.annotations("FREE")
    landmarks = forms.landmark_basis().inverse(stored["landmarks_pca"][:60:10].astype(np.float32))
    arrays = {
        "blendshapes": stored["blendshapes"][:60:10].astype(np.float32),
        "landmarks": 100 * landmarks + 50,
        "encoder_pose": np.tile(np.eye(4, dtype=np.float32), (6, 1, 1)),
    }
    for array in arrays.values():
        array[2] = np.nan
    found = np.arange(6) != 2
    faces = found.astype(np.uint8)
    encoding = VideoDetections(
        **arrays, face_found=found, faces=faces, fps=12.0, size=(256, 256), origin=origin([path])
    )
    encoding.save(encoding_file(path))
    return path, encoding


# ------------------------------------------------------------------------------------------------- by hand


def test_names_say_what_is_encoded_and_what_is_taken_out():
    assert [forms.parts(name) for name in NAMED_FORMS] == [
        (encoded, form) for encoded in ("blendshapes", "landmarks") for form in ("raw", "neutral", "mean")
    ]
    assert forms.parts("landmarks_pca-neutral") == ("landmarks", "neutral")
    assert forms.parts("flame-expr") == ("flame-expr", "raw")
    assert [forms.column(n) for n in ("landmarks", "landmarks_pca", "flame_expr-mean")] == [
        "landmarks_pca",
        "landmarks_pca",
        "flame_expr",
    ]
    video = np.array([[1, 10], [2, 20], [6, 60]], np.float32)
    assert in_form(video, "raw", video[0], video) is video
    assert in_form(video, "neutral", video[:2], video).tolist() == [[-0.5, -5], [0.5, 5], [4.5, 45]]
    assert in_form(video, "mean", video[0], video).tolist() == [[-2, -20], [-1, -10], [3, 30]]


def test_a_bank_takes_each_donors_own_constant_out(tmp_path):
    rows = np.array([[1, 0], [10, 0], [3, 0], [10, 4], [5, 3]], np.float32)
    donors, neutral = ["ann", "bo", "ann", "bo", "ann"], [False, True, False, False, True]
    write_bank(
        tmp_path,
        columns={"blendshapes": rows[:, ::-1], "landmarks_pca": rows},
        donors=donors,
        neutral=neutral,
        encoder="e",
    )
    mean = ExpressionBank.load(tmp_path, descriptor="landmarks-mean")
    assert mean.descriptors.tolist() == [[-2, -1], [0, -2], [0, -1], [0, 2], [2, 2]]
    assert (mean.descriptor, mean.encoder, mean.raw.tolist()) == ("landmarks-mean", "e", rows.tolist())
    assert mean.donors.tolist() == donors and mean.neutral.tolist() == neutral
    about = ExpressionBank.load(tmp_path, descriptor="blendshapes-neutral")
    assert about.descriptors.tolist() == [[-3, -4], [0, 0], [-3, -2], [4, 0], [0, 0]]
    assert ExpressionBank.load(tmp_path, descriptor="landmarks").descriptor == "landmarks"
    with pytest.raises(ValueError, match="'landmarks-mean', of which no other form can be made"):
        mean.in_form("neutral")
    with pytest.raises(ValueError, match="add raw ones to the bank as it is stored"):
        mean.add(rows[:1], ["cy"])
    with pytest.raises(ValueError, match="no descriptor 'flame'"):
        ExpressionBank.load(tmp_path, descriptor="flame-mean")
    mean.save(tmp_path / "kept")
    assert (ExpressionBank.load(tmp_path / "kept", "landmarks-mean").descriptors == mean.descriptors).all()

    unmarked = ExpressionBank.from_arrays(rows, donors, neutral=[False, True, False, False, False])
    with pytest.warns(UserWarning, match=r"no row of donor\(s\) ann is marked as neutral"):
        taken = unmarked.in_form("neutral")
    assert taken.descriptors.tolist() == [
        [-2, 0],
        [0, 0],
        [0, 0],
        [0, 4],
        [2, 3],
    ]  # [3, 0] is nearest to [3, 1]


def small(descriptor, neutral=(0.5, 0.25)):
    return GaussianAvatar(
        torch.zeros(4, 3),
        torch.full((4, 3), 0.5),
        0.1,
        Similarity(np.zeros(3), 1.0),
        descriptor=descriptor,
        descriptor_mean=torch.tensor([1.0, 2.0]),
        descriptor_scale=1.0,
        neutral_descriptor=np.array(neutral),
    )


def test_a_driver_is_brought_to_the_avatars_form(capsys):
    driver = np.array([[0, 0], [3, 6], [np.nan, np.nan], [6, 0]], np.float32)
    assert driving_descriptors(small("landmarks"), driver).tolist() == [[0, 0], [3, 6], [3, 6], [6, 0]]
    assert driving_descriptors(small("landmarks-mean"), driver).tolist() == [
        [-3, -2],
        [0, 4],
        [0, 4],
        [3, -2],
    ]
    assert not capsys.readouterr().out
    # Frames 0 and 3 are as near to the mean [3, 2]; the first is taken.
    assert driving_descriptors(small("landmarks-neutral"), driver).tolist() == [
        [0, 0],
        [3, 6],
        [3, 6],
        [6, 0],
    ]
    assert "neutral frame: frame 0, the nearest to the mean" in capsys.readouterr().out
    named = driving_descriptors(small("landmarks-neutral", (0, 0)), driver, 1)
    assert named.tolist() == [[-3, -6], [0, 0], [0, 0], [3, -6]]
    formed = driving_descriptors(small("landmarks-mean"), driver, descriptor="landmarks-mean")
    np.testing.assert_array_equal(formed[0], driver[0])  # already what the avatar takes
    for avatar, given in (("landmarks-mean", "blendshapes"), ("blendshapes", "blendshapes-mean")):
        with pytest.raises(ValueError, match=f"driven by '{avatar}', and these descriptors are '{given}'"):
            driving_descriptors(small(avatar), driver, descriptor=given)
    with pytest.raises(ValueError, match="3 dimensions and this avatar's 'landmarks-mean' have 2"):
        driving_descriptors(small("landmarks-mean"), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="'flame_expr-mean', and a video gives blendshapes and landmarks"):
        driven_by(small("flame_expr-mean"), NOBODY)


# --------------------------------------------------------------------------------------- training, retrieval


def test_training_takes_the_mean_of_its_own_frames_out(person, trained):
    avatar, _, data = trained
    raw = np.concatenate([person.descriptors(s, "landmarks_pca") for s in ("EXP-1-head", "EXP-8-jaw-1")])
    raw = raw[np.isfinite(raw).all(1)]
    np.testing.assert_allclose(data.reference, raw.mean(0), atol=1e-6)
    np.testing.assert_allclose(data.descriptors, raw - raw.mean(0), atol=1e-6)
    held_out = person.descriptors("FREE", "landmarks_pca") - raw.mean(0)
    np.testing.assert_allclose(data.held_out[:100], held_out[:100], atol=1e-6)
    assert avatar.descriptor == "landmarks-mean" and data.encoder == ENCODER
    np.testing.assert_array_equal(own_reference(avatar), data.reference)
    for damaged in ("x", [1.0, None], [[1.0]], [float("nan")]):
        avatar.provenance = {**avatar.provenance, "reference": damaged}
        with pytest.raises(ValueError, match="provenance holds no 'reference'"):
            own_reference(avatar)
    avatar.provenance = {**avatar.provenance, "reference": data.reference.tolist()}
    neutral = TrainingSet.from_capture(person, CONFIG.with_(descriptor="landmarks-neutral"), progress=False)
    assert neutral.names[neutral.neutral] == person.neutral
    assert not neutral.descriptors[neutral.neutral].any()
    np.testing.assert_allclose(neutral.descriptors, raw - raw[neutral.neutral], atol=1e-6)


def test_the_bank_must_have_the_form_and_not_the_subject(trained, data_dir, tmp_path):
    _, _, data = trained
    with pytest.raises(ValueError, match="the bank holds 'landmarks' and training has 'landmarks-mean'"):
        Trainer(
            data, CONFIG, tmp_path, bank=ExpressionBank.load(data_dir / "bank", "landmarks"), device="cpu"
        )
    # The subject as a donor under another name, with other frames besides: its mean there is another one.
    rng = np.random.default_rng(0)
    own = data.descriptors[:8] + data.reference
    rows = np.concatenate([own, own + 1, rng.normal(size=(40, data.descriptors.shape[1]))])
    bank = ExpressionBank.from_arrays(
        rows, [7] * 16 + [8] * 40, encoder=ENCODER, descriptor="landmarks_pca"
    ).in_form("mean")
    with pytest.warns(UserWarning, match="frames of the subject itself, as donor 7"):
        augmentation = RetrievalAugmentation(bank).fit(data.descriptors, reference=data.reference)
    assert augmentation.excluded == (7,)


def test_landmarks_of_an_encoding_are_those_that_captures_store(clip, driver):
    path, encoding = clip
    film = open_capture(path)
    found = encoding.face_found
    stored = driver.descriptors("FREE", "landmarks_pca")[:60:10]
    for name in ("landmarks", "landmarks_pca", "landmarks-mean"):
        made = forms.raw_descriptors(film, "video", name)
        np.testing.assert_allclose(made[found], stored[found], atol=5e-3)
        assert np.isnan(made[~found]).all() and forms.capture_encoder(film, "video", name) == ENCODER
    mean = forms.capture_descriptors(film, "video", "landmarks-mean")
    np.testing.assert_allclose(mean[found].mean(0), 0, atol=1e-6)


# -------------------------------------------------------------------------------------------------- driving


def test_a_video_drives_an_avatar_of_landmarks_and_it_is_exported(trained, clip, driver, tmp_path, capsys):
    avatar, file, _ = trained
    path, encoding = clip
    stored = driver.descriptors("FREE", "landmarks_pca")[:60:10]
    given = driven_by(avatar, encoding)
    seen = stored[encoding.face_found].mean(0)
    expected = stored - seen
    expected[2] = expected[1]
    np.testing.assert_allclose(given, expected, atol=5e-3)
    of_others = partial(expected_mean, avatar.descriptor)  # the driver's mean as films and exports take it
    given = driven_by(avatar, encoding, expected_mean=of_others)
    expected += seen - of_others(seen, int(encoding.face_found.sum()))
    np.testing.assert_allclose(given, expected, atol=1e-2)

    (tmp_path / path.name).write_bytes(path.read_bytes())
    replace(encoding, origin=origin([tmp_path / path.name])).save(encoding_file(tmp_path / path.name))
    film, out = str(tmp_path / path.name), str(tmp_path / "out.mp4")
    assert main(["drive", str(file), film, "--out", out, "--size", "48", "--neutral", "1"]) == 0
    wanted = [f"--{kind}={tmp_path / name}" for kind, name in (("ply", "a.ply"), ("glb", "a.glb"))]
    wanted += [f"--player={tmp_path / 'a.html'}", f"--sequence={tmp_path / 'film'}"]
    assert main(["export", str(file), "--video", film, *wanted]) == 0
    assert len(list((tmp_path / "film").glob("*.ply"))) == 6 and (tmp_path / "a.html").is_file()
    write_ply(avatar, given[0], tmp_path / "b.ply")
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    assert main(["export", str(file), "--video", film, *wanted, "--neutral", "0", "--relative", "mean"]) == 2
    assert "--relative and --neutral both say" in capsys.readouterr().err


def test_grading_and_films_are_in_the_avatars_form(trained, person, driver, data_dir):
    avatar, _, data = trained
    cases = {
        case.protocol: case
        for case in driving_cases(person, {"101": driver}, avatar.descriptor, 20, own_reference(avatar))
    }
    own = person.descriptors("FREE", "landmarks_pca")[cases["self"].frames] - data.reference
    np.testing.assert_allclose(cases["self"].descriptors, own, atol=1e-6)
    everything = np.concatenate([driver.descriptors(s, "landmarks_pca") for s in driver.sequences])
    other = driver.descriptors("FREE", "landmarks_pca")[cases["cross"].frames] - np.nanmean(everything, 0)
    np.testing.assert_allclose(cases["cross"].descriptors, other, atol=1e-5)
    table = evaluate({"mine": avatar}, person, {"101": driver}, size=64, frame_step=40, progress=False)
    assert np.isfinite(table.loc[("self", "mine"), "psnr"]) and ("cross", "mine") in table.index
    pictures = comparison_frames({"mine": avatar}, person, driver, "CROSS-101-FREE", 64, slice(2))
    assert pictures.shape == (2, 88, 256, 3)
    shipped = GaussianAvatar.load(data_dir / "checkpoints" / "001-centred.safetensors")
    with pytest.raises(ValueError, match="'mine' is driven by 'landmarks-mean' and 'other' by 'blendshapes'"):
        evaluate({"mine": avatar, "other": shipped}, person, {"101": driver}, size=64)


class Seen:
    """An encoder that sees given landmarks, one frame after the other."""

    def __init__(self, landmarks):
        self.landmarks = iter(landmarks)

    def detect(self, frames):
        return Detections(
            np.zeros((1, 52), np.float32),
            next(self.landmarks)[None],
            np.eye(4, dtype=np.float32)[None],
            face_found=np.array([True]),
        )


def test_live_the_expected_mean_is_taken_out_until_somebody_rests(trained, clip):
    avatar, (_, encoding) = trained[0], clip
    landmarks = encoding.landmarks[encoding.face_found]
    given = forms.landmark_basis().encode_landmarks(landmarks)
    live = mirror(avatar, size=32).driver
    live._encoder = Seen(landmarks)
    picture = np.zeros((8, 8, 3), np.uint8)
    trained_mean = avatar.descriptor_mean.numpy()
    shown = []
    for rest in (False, False, True, False):
        assert live.drive(picture, rest=rest)[1]
        shown.append(live._descriptor)
    for t in (0, 1):
        own = expected_mean("landmarks", given[: t + 1].mean(0), t + 1)
        np.testing.assert_allclose(shown[t], given[t] - own + trained_mean, atol=1e-5)
    np.testing.assert_allclose(shown[2], avatar.neutral_descriptor, atol=1e-6)
    np.testing.assert_allclose(shown[3], given[3] - given[2] + avatar.neutral_descriptor, atol=1e-6)


# -------------------------------------------------------------------------------------------------- sliders


def test_named_expressions_do_to_landmarks_what_their_names_say(trained, data_dir):
    basis, directions = forms.landmark_basis(), expression_directions(trained[0])
    assert list(directions) == list(EXPRESSIONS) and not expression_directions(small("blendshapes-mean"))
    assert not expression_directions(
        small("landmarks")
    )  # of 2 numbers, which are no coefficients of the basis
    points = basis.inverse(np.stack([np.zeros(basis.dim), *directions.values()]))
    rest, shown = points[0], dict(zip(directions, points[1:], strict=True))

    def gap(shape, upper, lower):  # y goes down the face
        return shape[lower, 1] - shape[upper, 1]

    assert gap(shown["jawOpen"], 13, 14) > gap(rest, 13, 14) + 0.1  # inner lips
    assert gap(shown["eyeBlink"], 159, 145) < 0.7 * gap(rest, 159, 145)  # lids of the right eye
    assert shown["browInnerUp"][55, 1] < rest[55, 1] and shown["browInnerUp"][285, 1] < rest[285, 1]
    smiling, corners = shown["mouthSmile"], rest[291, 0] - rest[61, 0]
    assert smiling[61, 1] < rest[61, 1] and smiling[291, 0] - smiling[61, 0] > corners
    assert shown["mouthPucker"][291, 0] - shown["mouthPucker"][61, 0] < corners


@pytest.mark.may_skip("needs chromium")
def test_the_page_adds_named_expressions_to_what_it_shows(trained, clip, tmp_path):
    avatar, (_, encoding) = trained[0], clip
    values = driven_by(avatar, encoding)
    page = write_player({"mine": avatar}, tmp_path / "p.html", sequences={"clip": values}, size=32)
    blend = unpack(pack_avatar(avatar, values))
    direction = expression_directions(avatar)["mouthSmile"]
    with chromium() as browser:
        at = Opened(browser, page)

        def shown():
            return np.reshape(at.page.evaluate("Array.from(player.gaussians())"), (14, -1))

        rest = shown()
        np.testing.assert_allclose(rest, blend(avatar.neutral_descriptor), atol=1e-3)
        at.slide("mouthSmile", 0.5)
        smiling = shown()
        assert np.abs(smiling - rest).max() > 1e-3
        np.testing.assert_allclose(smiling, blend(avatar.neutral_descriptor + direction / 2), atol=1e-3)
        assert "mouthSmile 0.50" in at.page.locator("canvas").get_attribute("aria-label")
        at.page.evaluate("player.show(3)")  # the smile stays while a sequence plays
        np.testing.assert_allclose(shown(), blend(values[3].round(4) + direction / 2), atol=1e-3)
        at.page.get_by_role("button", name="Reset expression").click()
        np.testing.assert_array_equal(shown(), rest)
