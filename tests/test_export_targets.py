"""Several forms in one go: the same files as each writer makes, and what cannot be written is refused before
anything is."""

import numpy as np
import pytest
from test_export import descriptors, small_avatar

from raf_lite.avatar.loading import load_avatars
from raf_lite.export import (
    Driver,
    export_avatars,
    write_basis,
    write_glb,
    write_player,
    write_ply,
    write_sequence,
)


def same(one, other):
    return one.read_bytes() == other.read_bytes()


def test_every_form_is_what_its_writer_makes(tmp_path):
    avatar, values = small_avatar(), descriptors()
    (tmp_path / "apart").mkdir()
    here, apart = tmp_path / "together", tmp_path / "apart"
    wrote = export_avatars(
        {"me": avatar},
        ply=here / "a.ply",
        glb=here / "a.glb",
        basis=here / "basis",
        sequence=here / "film",
        player=here / "a.html",
        driver=Driver("clip", values, frame=2),
    )
    assert wrote == [
        here / name
        for name in ("a.ply", "a.glb", "basis.safetensors", "basis.json", "film/sequence.json", "a.html")
    ]
    write_ply(avatar, values[2], apart / "a.ply")
    write_glb(avatar, values[2], apart / "a.glb")
    write_basis(avatar, apart / "basis")
    write_sequence(avatar, values, apart / "film")
    write_player({"me": avatar}, apart / "a.html", sequences={"clip": values})
    names = [path.relative_to(apart) for path in apart.rglob("*") if path.is_file()]
    assert len(names) == 5 + len(values) + 1 and all(same(here / name, apart / name) for name in names)


def test_without_a_driver_the_face_is_neutral_and_nothing_plays(tmp_path):
    avatar = small_avatar()
    export_avatars({"me": avatar}, ply=tmp_path / "a.ply", player=tmp_path / "a.html")
    write_ply(avatar, avatar.descriptor_mean.numpy(), tmp_path / "b.ply")  # it does not know its neutral
    write_player({"me": avatar}, tmp_path / "b.html", sequences={})
    assert same(tmp_path / "a.ply", tmp_path / "b.ply") and same(tmp_path / "a.html", tmp_path / "b.html")


def test_relative_driving_takes_the_drivers_mean_out(tmp_path):
    avatar, values = small_avatar(), descriptors()
    export_avatars(
        {"me": avatar}, ply=tmp_path / "a.ply", driver=Driver("clip", values, relative="mean", frame=1)
    )
    write_ply(avatar, values[1] - values.mean(0) + avatar.descriptor_mean.numpy(), tmp_path / "b.ply")
    assert same(tmp_path / "a.ply", tmp_path / "b.ply")


@pytest.mark.parametrize(
    "avatars, wanted, driver, wrong",
    [
        (1, {}, None, "nothing says what to write"),
        (2, {"player": "a.html", "glb": "a.glb"}, None, "only --player takes several avatars"),
        (1, {"ply": "a.ply", "sequence": "film"}, None, "a sequence needs a driver"),
        (
            1,
            {"ply": "a.ply"},
            Driver("clip", descriptors(), frame=3),
            "clip has frames 0 to 2, and no frame 3",
        ),
        (
            1,
            {"ply": "a.ply"},
            Driver("clip", descriptors(dim=4)),
            "4 dimensions and this avatar's 'own' have 5",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(avatars, wanted, driver, wrong, tmp_path):
    with pytest.raises(ValueError, match=wrong):
        export_avatars(
            {str(n): small_avatar(seed=n) for n in range(avatars)},
            driver=driver,
            **{form: tmp_path / name for form, name in wanted.items()},
        )
    assert list(tmp_path.iterdir()) == []


def test_avatars_bear_the_names_of_their_files_or_folders(tmp_path):
    for seed, name in enumerate(
        ("baseline/avatar.safetensors", "centred/avatar.safetensors", "mine.safetensors")
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        small_avatar(seed=seed).save(tmp_path / name)
    avatars = load_avatars([tmp_path / "mine.safetensors", *sorted(tmp_path.glob("*/*"))], "cpu")
    assert list(avatars) == ["mine", "baseline", "centred"]
    for seed, name in enumerate(("baseline", "centred", "mine")):
        np.testing.assert_array_equal(avatars[name].means.detach(), small_avatar(seed=seed).means.detach())
    with pytest.raises(ValueError, match="a second avatar called 'mine'; rename"):
        load_avatars([tmp_path / "mine.safetensors"] * 2)
    with pytest.raises(ValueError, match="no avatar is named"):
        load_avatars([])


def test_an_avatar_beside_the_command_has_its_folders_name(tmp_path, monkeypatch):
    small_avatar().save(tmp_path / "avatar.safetensors")
    monkeypatch.chdir(tmp_path)
    assert list(load_avatars(["avatar.safetensors"])) == [tmp_path.name]
