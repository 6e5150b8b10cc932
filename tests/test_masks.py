"""Masks are judged before training, in every format: `check` and `TrainingSet.from_capture` say the same
sentence."""

from __future__ import annotations

import json
import re
import shutil

import format_writers as writers
import numpy as np
import pytest
from PIL import Image

from raf_lite.captures import open_capture, read_video, write_video
from raf_lite.captures.capture import over_white
from raf_lite.captures.check import check_capture
from raf_lite.captures.masks import SAMPLE, mask_problem
from raf_lite.training import PRESETS, TrainingSet

HEAD = np.zeros((40, 48), np.uint8)
HEAD[8:, 14:34] = 255
FLAME = {"gha": "bfm_exp", "nersemble": "flame_expr", "insta": "flame_exp"}


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (HEAD, None),
        (HEAD[8:, 10:38], None),  # so close that the head touches the upper edge
        (np.roll(HEAD, 12, 1), None),
        ((HEAD * 0.6).astype(np.uint8), None),
        (255 - HEAD, "inverted"),
        (255 - np.roll(HEAD, 6, 1), "inverted"),
        (np.zeros_like(HEAD), "is empty"),
        (HEAD // 255, "goes up to 1 of 255 only"),
        (HEAD // 16, "goes up to 15 of 255 only"),  # 12 bit, read as 16
        (np.full_like(HEAD, 255), "white everywhere"),
    ],
)
def test_a_mask_is_judged(mask, problem):
    said = mask_problem(mask)
    assert said is None if problem is None else problem in said


def rewritten(folder, name, change, only=None):
    """Masks of a written capture, changed; only: frames."""
    if name == "nersemble":
        s = writers.scene()
        for path in folder.glob("sequences/EXP-8-jaw-1/alpha_maps/*.mp4"):
            c = ("222200037", "222200046", "222200039").index(path.stem.removeprefix("cam_"))
            path.unlink()
            masks = [change(m) if only is None or t in only else m for t, m in enumerate(s.masks[:, c])]
            write_video(path, masks, 24.3, gray=True)
        return
    for path in sorted(folder.glob({"gha": "images/*/mask_*.jpg", "insta": "images/*.png"}[name])):
        frame = int(path.parent.name if name == "gha" else path.stem)
        if only is not None and frame not in only:
            continue
        if name == "gha":
            Image.fromarray(change(np.asarray(Image.open(path).convert("L")))).save(path, quality=98)
        else:
            picture = np.array(Image.open(path))
            picture[..., 3] = change(picture[..., 3])
            Image.fromarray(picture).save(path)


WRITERS = {
    "gha": writers.write_gha,
    "nersemble": writers.write_nersemble_benchmark,
    "insta": writers.write_insta,
}
FAULTS = {
    "inverted": (lambda m: 255 - m, "it is inverted"),
    "empty": (np.zeros_like, "is empty"),
    "full": (lambda m: np.full_like(m, 255), "is white everywhere"),
    "dim": (lambda m: m // 255, "of 255 only"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_check_and_training_refuse_with_one_sentence(tmp_path, name, fault):
    folder = WRITERS[name](tmp_path)
    change, words = FAULTS[fault]
    if (name, fault) == ("insta", "dim"):
        change = lambda m: m // 8  # noqa: E731 - alpha of 0 and 1 in a PNG is read right
    rewritten(folder, name, change)
    problems = [p for p in check_capture(open_capture(folder)).problems if "mask of sequence" in p]
    assert problems and words in problems[0], problems
    with pytest.raises(ValueError, match=re.escape(problems[0])):
        TrainingSet.from_capture(
            open_capture(folder), PRESETS["fast"].with_(descriptor=FLAME[name], size=96), progress=False
        )
    assert re.search(r"sequence \S+, camera \S+, frame 0 ", problems[0])


@pytest.mark.parametrize("name", WRITERS)
def test_one_bad_mask_among_good_ones_is_met_before_training(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    rewritten(folder, name, lambda m: 255 - m, only=[2])
    with pytest.raises(ValueError, match=r"frame 2 is white around the head and black within"):
        TrainingSet.from_capture(
            open_capture(folder), PRESETS["fast"].with_(descriptor=FLAME[name], size=96), progress=False
        )


def images(folder, count=3, **masks):
    """A folder of pictures with masks of these frames, the others' being HEAD."""
    (folder / "masks").mkdir(parents=True)
    for t in range(count):
        Image.fromarray(np.full((*HEAD.shape, 3), 90, np.uint8)).save(folder / f"{t}.png")
        Image.fromarray(masks.get(f"t{t}", HEAD)).save(folder / f"masks/{t}.png")
    return folder


def problems_of(folder):
    return [p for p in check_capture(open_capture(folder)).problems if "held out" not in p]


def test_headers_of_all_frames_are_read(tmp_path):
    assert problems_of(images(tmp_path / "good", 40)) == []
    assert (
        "masks/33.png is 20x20 (WxH)"
        in problems_of(images(tmp_path / "size", 40, t33=np.zeros((20, 20), np.uint8)))[0]
    )
    folder = images(tmp_path / "picture", 40)
    Image.fromarray(np.full((20, 20, 3), 9, np.uint8)).save(folder / "17.png")
    assert "17.png is 20x20 (WxH), but camera 0 takes images of 48x40" in problems_of(folder)[0]


def test_the_sample_holds_first_and_last_and_is_spread(tmp_path):
    assert "frame 39 is empty" in problems_of(images(tmp_path / "last", 40, t39=np.zeros_like(HEAD)))[0]
    source = open_capture(images(tmp_path / "many", 40)).source
    frames = [frame for frame, _ in source.sample_masks("video", "0", SAMPLE)]
    assert len(frames) == SAMPLE and frames[0] == 0 and frames[-1] == 39 and set(np.diff(frames)) <= {2, 3}


def test_alpha_that_nobody_cut_out_and_alpha_of_some_frames(tmp_path):
    for t in range(3):
        Image.fromarray(np.full((*HEAD.shape, 4), 255, np.uint8)).save(tmp_path / f"{t}.png")
    assert (
        "frame 0 is white everywhere (as the alpha of a picture that nobody cut out is)"
        in problems_of(tmp_path)[0]
    )
    for t in range(2):
        Image.fromarray(np.dstack([np.full((*HEAD.shape, 3), 90, np.uint8), HEAD])).save(
            tmp_path / f"{t}.png"
        )
    Image.fromarray(np.full((*HEAD.shape, 3), 90, np.uint8)).save(tmp_path / "2.png")
    assert "2.png has no transparency, and 0.png has" in problems_of(tmp_path)[0]


def test_masks_beside_the_landmarks_are_named(tmp_path, data_dir):
    """A rendered capture whose masks are those of another place in the picture: in range, and of no head."""
    folder = tmp_path / "001"
    for part in ("calibration", "annotations", "sequences/EXP-1-head"):
        shutil.copytree(data_dir / "mini_nersemble/001" / part, folder / part)
    assert check_capture(open_capture(folder)).problems[:1] in (
        [],
        ["nothing is held out: this capture can train an avatar, but its own frames can't test it"],
    )
    for path in folder.glob("sequences/*/alpha_maps/*.mp4"):
        masks = read_video(path, gray=True)
        masks = np.concatenate([np.zeros_like(masks[:, :, :110]), masks[:, :, :-110]], 2)
        path.unlink()
        write_video(path, masks, 12, gray=True)
    problem = check_capture(open_capture(folder)).problems[0]
    assert re.search(
        r"only \d+ % of the landmarks of EXP-1-head frame 0 fall on the mask of camera \d+; cameras, landm",
        problem,
    )
    with pytest.raises(ValueError, match="of the landmarks of EXP-1-head frame 0 fall on the mask"):
        TrainingSet.from_capture(open_capture(folder), PRESETS["fast"].with_(size=64), progress=False)


def test_each_frame_and_camera_has_its_own_background(tmp_path):
    s, folder = writers.scene(), writers.write_gha(tmp_path)
    for t in range(0, writers.FRAMES, 2):
        for c in (1, 2):
            alpha = s.masks[t, c][..., None] / 255
            dark = (s.images[t, c] * alpha + 40 * (1 - alpha)).astype(np.uint8)
            Image.fromarray(dark).save(folder / f"images/{t:04d}/image_2222{c}.jpg", quality=98)
    data = TrainingSet.from_capture(
        open_capture(folder), PRESETS["fast"].with_(descriptor="bfm_exp", size=96), progress=False
    )
    for t in range(writers.FRAMES):
        for c in range(3):
            assert np.median(data.images[t, c][data.masks[t, c] < 5]) > 245, (t, c)
    frame, mask = np.full((4, 4, 3), 252, np.uint8), np.zeros((4, 4))
    np.testing.assert_array_equal(over_white(frame, mask), frame)


# -------------------------------------------------------------------------------- intrinsics of every frame


def test_a_lens_that_zooms_is_named(tmp_path):
    vhap = writers.write_vhap(tmp_path / "v", test_from=99)
    file = vhap / "transforms_train.json"
    content = json.loads(file.read_text())
    content["frames"][-1]["cx"] += 3
    file.write_text(json.dumps(content))
    with pytest.raises(
        ValueError,
        match=r"transforms_train.json frame 11: camera 01 has other intrinsics than in frames before",
    ):
        open_capture(vhap)

    insta = writers.write_insta(tmp_path / "i")
    file = insta / "transforms_train.json"
    content = json.loads(file.read_text())
    content["frames"][2]["fl_x"] = content["fl_x"]
    file.write_text(json.dumps(content))
    open_capture(insta)
    content["frames"][2]["fl_x"] *= 1.5
    file.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"transforms_train.json frame 2: its fl_x is 345.*a lens must not zoom"
    ):
        open_capture(insta)

    imavatar = writers.write_imavatar(tmp_path / "m")
    file = next(imavatar.glob("*/MVI_1810/flame_params.json"))
    content = json.loads(file.read_text())
    content["frames"][1]["intrinsics"] = [2 * content["intrinsics"][0], *content["intrinsics"][1:]]
    file.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"flame_params.json frame 1: its intrinsics are unlike those at the top"
    ):
        open_capture(imavatar)
