"""The avatars that several lessons share: shipped, or the learner's own."""

import numpy as np
import pytest

from raf_lite import Session
from raf_lite.avatar import GaussianAvatar
from raf_lite.captures import open_capture
from raf_lite.course import avatars as course
from raf_lite.manifest import verify_manifest, write_manifest
from raf_lite.training import PRESETS, Trainer

FULL, FAST = Session("cpu", fast=False), Session("cpu", fast=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_ships_is_what_the_lessons_train(data_dir, here, capsys):
    capture = open_capture(data_dir / "mini_nersemble" / course.SUBJECT)
    for name in course.AVATARS:
        avatar = course.trained_avatar(name, FULL)
        # What an avatar says it was trained with; settings that came later are of films of one camera.
        asked = course.lesson_config(FULL, name).as_dict()
        assert asked | avatar.provenance["config"] == asked and len(avatar.provenance["config"]) > 20
        assert avatar.provenance["training_frames"] == sum(
            len(capture.descriptors(s, "blendshapes")) for s in capture.split().train_sequences
        )
    assert capsys.readouterr().out.count("the shipped one (1800 steps)") == 2


def test_the_shipped_files_are_what_is_saved_today(data_dir, tmp_path):
    """They were written when `save` was given what an avatar knew of itself."""
    for name in course.AVATARS:
        shipped = data_dir / "checkpoints" / f"{course.SUBJECT}-{name}.safetensors"
        avatar = GaussianAvatar.load(shipped)
        assert avatar.neutral_descriptor.shape == (52,) and avatar.front is not None
        avatar.save(tmp_path / "again.safetensors", half=True)
        assert (tmp_path / "again.safetensors").read_bytes() == shipped.read_bytes()


def test_shipped_avatars_show_the_person(data_dir):
    """Within the face, at least 26 dB on frames of the person's hold-out sequence."""
    capture = open_capture(data_dir / "mini_nersemble" / course.SUBJECT)
    camera = capture.cameras[capture.encoder_camera]
    kept = slice(0, None, 20)
    truth = capture.over_white("FREE", camera.serial)[kept] / np.float32(255)
    for name in course.AVATARS:
        shown = course.trained_avatar(name, FAST).render(
            capture.descriptors("FREE", "blendshapes")[kept], capture.head_poses("FREE")[kept], [camera]
        )[:, 0]
        assert -10 * np.log10(np.square(shown - truth).mean()) > 26


def test_a_learners_own_avatar_comes_first_and_a_broken_one_is_passed_over(here, capsys):
    own = course.trained_avatar("baseline", FULL)
    path = course.avatar_folder("baseline", FULL) / "avatar.safetensors"
    path.parent.mkdir(parents=True)
    own.provenance = {"whose": "the learner's"}
    own.save(path)
    assert course.trained_avatar("baseline", FULL).provenance["whose"] == "the learner's"
    assert (
        "the shipped"
        in (capsys.readouterr(), course.trained_avatar("baseline", FAST), capsys.readouterr())[2].out
    )
    path.write_bytes(path.read_bytes()[:1000])
    assert "config" in course.trained_avatar("baseline", FULL).provenance
    out = capsys.readouterr().out
    assert "passed over" in out and "damaged" in out and "the shipped one" in out
    with pytest.raises(ValueError, match="no avatar 'best'; choose one of baseline, centred"):
        course.trained_avatar("best", FULL)


def test_half_precision_halves_the_file_and_keeps_the_picture(data_dir, tmp_path):
    avatar = course.trained_avatar("baseline", FULL)
    avatar.means.data.add_(1e-5)  # no longer what half precision can hold
    avatar.save(tmp_path / "whole.safetensors")
    avatar.save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * (
        tmp_path / "whole.safetensors"
    ).stat().st_size
    half = GaussianAvatar.load(tmp_path / "half.safetensors")
    assert all(p.dtype == q.dtype for p, q in zip(avatar.parameters(), half.parameters()))
    capture = open_capture(data_dir / "mini_nersemble" / course.SUBJECT)
    camera = capture.cameras[capture.encoder_camera].scaled(0.5)
    pictures = [
        a.render(capture.descriptors("FREE", "blendshapes")[:3], capture.head_poses("FREE")[:3], [camera])
        for a in (avatar, half)
    ]
    assert 0 < np.abs(pictures[0] - pictures[1]).max() < 3 / 255


def test_checkpoints_are_built_into_the_manifest(data_dir, tmp_path, monkeypatch):
    """The command's own path, with seconds of training; a second call trains nothing again."""
    for part in ("mini_nersemble", "bank"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / part).symlink_to(data_dir / part)
    write_manifest(
        tmp_path / "data", origin={"mini_nersemble": "here", "bank": "here"}, licence="l", conventions={}
    )
    monkeypatch.setattr(
        course,
        "lesson_config",
        lambda session, name="baseline": PRESETS["fast"].with_(steps=3, retrieval=course.AVATARS[name]),
    )
    course.build_checkpoints(tmp_path / "data", tmp_path / "work")
    assert verify_manifest(tmp_path / "data") == []
    made = {p.name: p.read_bytes() for p in (tmp_path / "data" / "checkpoints").iterdir()}
    assert set(made) == {"001-baseline.safetensors", "001-centred.safetensors"}
    monkeypatch.setattr(Trainer, "_save_checkpoint", lambda self: pytest.fail("trained again"))
    course.build_checkpoints(tmp_path / "data", tmp_path / "work")
    assert made == {p.name: p.read_bytes() for p in (tmp_path / "data" / "checkpoints").iterdir()}


def test_the_stand_in_learns_and_sees_the_same_rows_with_and_without_retrieval():
    rng = np.random.default_rng(0)
    own = rng.random((200, 6), np.float32)
    answer = np.stack([own[:, 0] - own[:, 1], own[:, 2] * own[:, 3]], 1)
    seen = []

    class Spy:
        def augment(self, descriptors, generator, index=None):
            seen.append(index.copy())
            return descriptors, {}

    plain = course.train_landmark_net(own, answer, None, steps=400, seed=3)
    same = course.train_landmark_net(own, answer, Spy(), steps=400, seed=3)
    other = course.train_landmark_net(own, answer, Spy(), steps=400, seed=4)
    assert np.square(plain(own) - answer).mean() < 0.02 * answer.var()
    assert np.array_equal(plain(own), same(own)) and not np.array_equal(plain(own), other(own))
    assert len(seen) == 800 and not np.array_equal(seen[0], seen[400])
