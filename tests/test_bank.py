"""The expression bank: search against brute force, exclusion, storage, statistics, and what it refuses."""

from __future__ import annotations

import json
import re
import signal

import numpy as np
import pytest
from conftest import posix
from hypothesis import given, settings
from hypothesis import strategies as st

from raf_lite._files import sha256_file
from raf_lite.bank import ExpressionBank, encode_thumbnail, load_truth, write_bank


def brute_force(queries, descriptors, k, allowed):
    """float64 distances of the k nearest allowed rows, by the definition."""
    distances = np.sqrt(((queries[:, None].astype(np.float64) - descriptors[None, allowed]) ** 2).sum(2))
    return np.sort(distances, axis=1)[:, :k]


def some_bank(rng, donors=6, frames=30, dim=5, spread=2.0, **options):
    names = np.repeat(np.arange(donors), frames)
    descriptors = rng.normal(size=(donors * frames, dim)) + spread * rng.normal(size=(donors, dim))[names]
    return ExpressionBank.from_arrays(descriptors.astype(np.float32), names, **options)


# --- search -------------------------------------------------------------------------------------------------------------------


def test_search_gives_the_distances_of_a_hand_worked_case():
    bank = ExpressionBank.from_arrays([[0, 0], [3, 4], [6, 8]], donors=["a", "b", "a"])
    distances, rows = bank.search(np.array([[0, 0], [3, 0]]), 2)
    assert rows.tolist() == [[0, 1], [0, 1]] and rows.dtype == np.int64
    np.testing.assert_allclose(distances, [[0, 5], [3, 4]])
    distances, rows = bank.search(np.array([[0.0, 0.0]]), 1, exclude_donors=["a"])
    assert rows.tolist() == [[1]] and distances.tolist() == [[5.0]]
    found = bank.search(np.array([[0.0, 0.0]]), 1, exclude_donors=["a"])
    assert found.rows.tolist() == [[1]] and found.distances.tolist() == [[5.0]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 60), queries=st.integers(0, 40), dim=st.integers(1, 12),
       offset=st.sampled_from([0.0, 50.0]), data=st.data())
def test_flat_search_equals_brute_force(seed, rows, queries, dim, offset, data):
    rng = np.random.default_rng(seed)
    # Integers on a small grid give ties and duplicates; the offset is what |x|^2 + |y|^2 - 2xy in float32 suffers from.
    descriptors = (rng.integers(-3, 4, size=(rows, dim)) / 4 + offset).astype(np.float32)
    donors = rng.integers(0, 4, size=rows)
    asked = (rng.normal(size=(queries, dim)) + offset).astype(np.float32)
    excluded = data.draw(st.sets(st.integers(0, 5), max_size=3))
    allowed = np.flatnonzero([donor not in excluded for donor in donors])
    bank = ExpressionBank.from_arrays(descriptors, donors)
    if len(allowed) == 0:
        with pytest.raises(ValueError, match="only the excluded donors"):
            bank.search(asked, 1, excluded)
        return
    k = data.draw(st.integers(1, len(allowed)))
    distances, found = bank.search(asked, k, excluded)
    assert distances.shape == found.shape == (queries, k) and distances.dtype == np.float32
    assert np.isin(found, allowed).all()
    assert all(len(set(row)) == k for row in found.tolist())
    np.testing.assert_allclose(distances, brute_force(asked, descriptors, k, allowed), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(distances, np.linalg.norm(asked[:, None] - descriptors[found], axis=2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF4,Flat", "PCA3,Flat", "SQ8", "IVF4,PQ5x4", "IVF4,SQ8,RFlat"])
def test_every_index_honours_exclusion_and_returns_k_rows(factory):
    bank = some_bank(np.random.default_rng(1), donors=8, frames=50, index=factory)
    queries = bank.descriptors[bank.donors == 3]
    distances, rows = bank.search(queries, 40, exclude_donors=[3, 4, 5, 6, 7])
    assert (bank.donors[rows] <= 2).all()
    assert all(len(set(row)) == 40 for row in rows.tolist())
    np.testing.assert_allclose(distances, np.linalg.norm(queries[:, None] - bank.descriptors[rows], axis=2), rtol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_an_index_keeps_its_search_settings_under_exclusion():
    import faiss

    bank = some_bank(np.random.default_rng(2), donors=8, frames=100, index="IVF16,Flat")
    queries = bank.descriptors[bank.donors == 0]
    exact = brute_force(queries, bank.descriptors, 5, np.flatnonzero(bank.donors != 0))

    def found_share():
        return np.isclose(bank.search(queries, 5, [0])[0], exact, rtol=1e-4).mean()

    narrow = found_share()
    faiss.extract_index_ivf(bank.index).nprobe = 16  # all cells: exact
    assert narrow < found_share() == 1.0


@pytest.mark.parametrize("factory", ["LSH", "PQ5x4fs"])
def test_an_index_that_cannot_exclude_says_so(factory):
    bank = some_bank(np.random.default_rng(0), index=factory)
    assert bank.search(bank.descriptors[:3], 2)[1].shape == (3, 2)
    with pytest.raises(ValueError, match=f"'{factory}' cannot leave donors out"):
        bank.search(bank.descriptors[:3], 2, [0])


def test_one_donor_may_be_named_without_a_list():
    bank = ExpressionBank.from_arrays(np.eye(3), donors=["ann", "ann", "n"])
    assert bank.search(np.eye(3)[:1], 1, exclude_donors="ann")[1].tolist() == [[2]]


def test_added_rows_are_found_with_their_provenance():
    bank = ExpressionBank.from_arrays(np.zeros((2, 3)), donors=np.array([7, 7], dtype=np.uint64), neutral=[True, False])
    image = np.full((8, 8, 3), 200, dtype=np.uint8)
    bank.add(np.ones((2, 3)), [8, 9], neutral=[False, True], thumbnails={1: encode_thumbnail(image)})
    assert len(bank) == 4 and bank.donors.tolist() == [7, 7, 8, 9] and bank.donors.dtype.kind == "i"
    assert bank.neutral.tolist() == [True, False, False, True]
    assert bank.search(np.full((1, 3), 0.9), 2)[1].tolist() == [[2, 3]]
    assert bank.thumbnail_rows.tolist() == [3] and bank.thumbnail(0) is None
    assert np.abs(bank.thumbnail(3).astype(int) - image).max() <= 3  # lossy


def test_centred_takes_off_each_donors_own_mean():
    bank = ExpressionBank.from_arrays([[1.0], [3.0], [10.0]], donors=["a", "a", "b"])
    assert bank.centred().descriptors.tolist() == [[-1.0], [1.0], [0.0]]
    names, means = bank.donor_means()
    assert names.tolist() == ["a", "b"] and means.tolist() == [[2.0], [10.0]]


def test_descriptors_are_copied_and_cannot_be_changed():
    given_array = np.zeros((2, 3), dtype=np.float32)
    bank = ExpressionBank.from_arrays(given_array, [0, 1])
    given_array[0] = 9
    assert bank.descriptors[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        bank.descriptors[0] = 1


# --- statistics ---------------------------------------------------------------------------------------------------------------


def test_statistics_of_a_hand_worked_bank():
    # Donor means 1 and 11, grand mean 6: between 4 * 25 = 100, total 36 + 16 + 16 + 36 = 104.
    bank = ExpressionBank.from_arrays([[0.0], [2.0], [10.0], [12.0]], [0, 0, 1, 1], neutral=[True, False, False, False])
    stats = bank.stats()
    assert stats["donors"] == 2 and stats["rows"] == 4 and stats["dim"] == 1 and stats["neutral_rows"] == 1
    assert stats["rows_per_donor"] == {"min": 2, "median": 2.0, "max": 2}
    assert stats["leakage"]["variance_share"] == pytest.approx(100 / 104)
    assert stats["leakage"]["variance_share_chance"] == pytest.approx(1 / 3)
    assert stats["leakage"]["nearest_same_donor"] == 1.0
    assert stats["leakage"]["nearest_same_donor_chance"] == pytest.approx(1 / 3)
    assert stats["coverage"]["nearest"] == {q: 2.0 for q in ("5", "25", "50", "75", "95")}
    assert stats["coverage"]["nearest_other_donor"]["50"] == 9.0  # of 10, 8, 8, 10
    json.dumps(stats)


def test_leakage_is_at_chance_when_donors_mean_nothing():
    rng = np.random.default_rng(0)
    leakage = ExpressionBank.from_arrays(rng.normal(size=(2000, 6)), rng.integers(0, 20, 2000)).stats()["leakage"]
    assert leakage["variance_share"] == pytest.approx(leakage["variance_share_chance"], abs=0.003)
    assert leakage["nearest_same_donor"] == pytest.approx(leakage["nearest_same_donor_chance"], abs=0.015)
    assert leakage["nearest_same_donor_chance"] == pytest.approx(1 / 20, abs=0.003)


def test_statistics_of_banks_too_small_for_them():
    alone = ExpressionBank.from_arrays([[1.0]], [0]).stats()
    assert alone["coverage"] == {"nearest": None, "nearest_other_donor": None} and alone["leakage"]["variance_share"] is None
    twins = ExpressionBank.from_arrays([[1.0], [1.0], [1.0]], [0, 0, 0]).stats()
    assert twins["coverage"]["nearest"]["95"] == 0.0 and twins["leakage"]["nearest_same_donor"] == 1.0


# --- storage ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_bank():
    rng = np.random.default_rng(5)
    pictures = {row: encode_thumbnail(rng.integers(0, 255, size=(12, 10, 3), dtype=np.uint8)) for row in (0, 4, 9)}
    return some_bank(rng, donors=3, frames=4, encoder="demo 1.0", descriptor="own", neutral=np.arange(12) % 4 == 0,
                     encoder_pose=np.tile(np.eye(4), (12, 1, 1)), thumbnails=pictures)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF2,Flat"])
def test_save_and_load_give_the_same_bank(tmp_path, factory, full_bank):
    bank = ExpressionBank.from_arrays(full_bank.descriptors, np.array(["ann", "bo", "cy"])[full_bank.donors], encoder="demo 1.0",
                                      descriptor="own", index=factory, neutral=full_bank.neutral,
                                      encoder_pose=full_bank.encoder_pose)
    bank.add(full_bank.descriptors[:2] + 1, ["dee", "dee"], encoder_pose=full_bank.encoder_pose[:2])
    again = ExpressionBank.load(bank.save(tmp_path / "bank"))
    for name in ("descriptors", "donors", "neutral", "encoder_pose"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bank, name))
    assert (again.encoder, again.descriptor, again.factory) == ("demo 1.0", "own", factory)
    for one, other in zip(again.search(bank.descriptors, 3, ["bo"]), bank.search(bank.descriptors, 3, ["bo"])):
        np.testing.assert_array_equal(one, other)
    again.add(np.zeros((1, 5)), ["ed"], encoder_pose=np.eye(4)[None])
    assert again.search(np.zeros((1, 5)), 1)[1].tolist() == [[14]]


def test_thumbnails_come_back(tmp_path, full_bank):
    again = ExpressionBank.load(full_bank.save(tmp_path))
    assert again.thumbnail_rows.tolist() == [0, 4, 9] and again.thumbnail(1) is None
    for row in (0, 4, 9):
        assert again.thumbnail(row).shape == (12, 10, 3)
        np.testing.assert_array_equal(again.thumbnail(row), full_bank.thumbnail(row))
    assert not np.array_equal(again.thumbnail(0), again.thumbnail(4))


def part(folder, name):
    """The file of a bank that holds "descriptors", "thumbnails", "truth" or "index"."""
    (path,) = folder.glob(f"{name}*.*")
    return path


def write_two_columns(folder, **options):
    rng = np.random.default_rng(3)
    faces, points = rng.random((6, 4)).astype(np.float16), rng.normal(size=(6, 3)).astype(np.float32)
    write_bank(folder, columns={"blendshapes": faces, "landmarks_pca": points}, donors=[0, 0, 0, 1, 1, 1], encoder="mp",
               truth={"weights": rng.random((6, 2)), "names": np.array(["a", "b"])}, **options)
    return faces, points


def test_a_bank_of_two_columns_loads_either(tmp_path):
    faces, points = write_two_columns(tmp_path)
    with np.load(part(tmp_path, "descriptors"), allow_pickle=False) as npz:
        assert npz["blendshapes"].dtype == np.float16 and npz["landmarks_pca"].dtype == np.float32
    for bank in (ExpressionBank.load(tmp_path), ExpressionBank.load(tmp_path, descriptor="blendshapes")):
        np.testing.assert_array_equal(bank.descriptors, faces.astype(np.float32))
        assert bank.descriptor == "blendshapes" and bank.encoder_pose is None and not bank.neutral.any()
    np.testing.assert_array_equal(ExpressionBank.load(tmp_path, "landmarks_pca").descriptors, points)
    with pytest.raises(ValueError, match="no descriptor 'flame'; choose one of blendshapes, landmarks_pca"):
        ExpressionBank.load(tmp_path, "flame")


def test_loading_never_opens_the_truth(tmp_path):
    write_two_columns(tmp_path)
    truth = load_truth(tmp_path)
    assert truth["weights"].shape == (6, 2) and truth["names"].tolist() == ["a", "b"]
    part(tmp_path, "truth").unlink()
    assert len(ExpressionBank.load(tmp_path)) == 6
    with pytest.raises(FileNotFoundError, match=r"truth-\w+.npz is missing"):
        load_truth(tmp_path)


def test_a_bank_of_videos_has_no_truth(tmp_path, full_bank):
    with pytest.raises(FileNotFoundError, match="has no truth.npz"):
        load_truth(full_bank.save(tmp_path))


def test_saving_over_a_bank_with_more_in_it_is_refused(tmp_path):
    write_two_columns(tmp_path)
    bank = ExpressionBank.load(tmp_path)
    with pytest.raises(ValueError, match="save to a folder of its own"):
        bank.save(tmp_path)
    assert len(load_truth(tmp_path)) == 2


def test_the_same_bank_gives_the_same_bytes(tmp_path, full_bank):
    full_bank.save(tmp_path / "a")
    full_bank.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert [re.sub(r"-[0-9a-f]{16}\.", ".", name) for name in names] == [
        ".lock", "bank.json", "descriptors.npz", "index.faiss", "thumbnails.npz"]
    for name, digest in json.loads((tmp_path / "a" / "bank.json").read_text())["files"].items():
        assert sha256_file(tmp_path / "a" / name) == digest and f"-{digest[:16]}." in name


@pytest.mark.parametrize("name", ["descriptors", "thumbnails", "index"])
def test_damaged_and_missing_files_are_named(tmp_path, full_bank, name):
    full_bank.save(tmp_path)
    path = part(tmp_path, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .* write the bank again"):
        ExpressionBank.load(tmp_path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        ExpressionBank.load(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path.name} is missing"):
        ExpressionBank.load(tmp_path)


def test_a_manifest_that_is_not_ours_is_named(tmp_path, full_bank):
    with pytest.raises(FileNotFoundError, match="bank.json is missing"):
        ExpressionBank.load(tmp_path)
    full_bank.save(tmp_path)
    manifest = tmp_path / "bank.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(ValueError, match="version 99 and this package reads raf_lite.bank version 2"):
        ExpressionBank.load(tmp_path)
    for text in ("{", "[]", "{}"):
        manifest.write_text(text)
        with pytest.raises(ValueError, match="bank.json is not a bank's manifest"):
            ExpressionBank.load(tmp_path)


def test_an_index_of_another_bank_is_refused(tmp_path, full_bank):
    folder = write_bank(tmp_path, columns={"own": full_bank.descriptors[:5]}, donors=full_bank.donors[:5], encoder="demo",
                        index=("own", "IVF1,Flat", full_bank.index))
    with pytest.raises(ValueError, match=r"index-\w+.faiss indexes other rows"):
        ExpressionBank.load(folder)


@posix
def test_a_full_disk_leaves_the_old_bank_whole(tmp_path, full_bank):
    import resource

    full_bank.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bigger = some_bank(np.random.default_rng(0), frames=400, encoder="demo 1.0", descriptor="own")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The descriptors fit in this; the index, 48,000 bytes and a header, does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (48_000, hard))
    try:
        with pytest.raises(OSError):
            bigger.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(ExpressionBank.load(tmp_path)) == len(full_bank)
    bigger.save(tmp_path)
    assert len(ExpressionBank.load(tmp_path)) == len(bigger)


# --- bad input ----------------------------------------------------------------------------------------------------------------


def test_descriptors_that_make_no_bank():
    good = np.zeros((3, 2))
    bad = good.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match="row 1 of the bank's descriptors holds NaN"):
        ExpressionBank.from_arrays(bad, [0, 1, 2])
    with pytest.raises(ValueError, match="row 2 .* infinite"):
        ExpressionBank.from_arrays([[0.0], [0.0], [1e300]], [0, 1, 2])
    with pytest.raises(ValueError, match="bank is empty"):
        ExpressionBank.from_arrays(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match=r"shape \[N, D\], not \[3\]"):
        ExpressionBank.from_arrays(np.zeros(3), [0, 1, 2])
    with pytest.raises(ValueError, match="must be numbers"):
        ExpressionBank.from_arrays([["a"]], [0])
    with pytest.raises(ValueError, match="donors has shape .2. but there are 3 descriptors"):
        ExpressionBank.from_arrays(good, [0, 1])
    with pytest.raises(ValueError, match="donors must be integers or strings, not float64"):
        ExpressionBank.from_arrays(good, [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="cannot build the index 'Falt' over 3 descriptors"):
        ExpressionBank.from_arrays(good, [0, 1, 2], index="Falt")
    with pytest.raises(ValueError, match="cannot build the index 'IVF8,Flat' over 3 descriptors"):
        ExpressionBank.from_arrays(good, [0, 1, 2], index="IVF8,Flat")
    with pytest.raises(ValueError, match=r"neutral must be bool with shape \[3\]"):
        ExpressionBank.from_arrays(good, [0, 1, 2], neutral=[1, 0, 0])
    with pytest.raises(ValueError, match="encoder_pose has shape"):
        ExpressionBank.from_arrays(good, [0, 1, 2], encoder_pose=np.eye(4))
    with pytest.raises(ValueError, match="thumbnail is for row 3, but the bank has rows 0 to 2"):
        ExpressionBank.from_arrays(good, [0, 1, 2], thumbnails={3: encode_thumbnail(np.zeros((4, 4, 3), np.uint8))})
    with pytest.raises(ValueError, match="thumbnail of row 0 is not WebP"):
        ExpressionBank.from_arrays(good, [0, 1, 2], thumbnails={0: b"\x89PNG"})
    with pytest.raises(ValueError, match="uint8"):
        encode_thumbnail(np.zeros((4, 4, 3)))


def test_queries_that_do_not_fit_the_bank():
    bank = ExpressionBank.from_arrays(np.zeros((3, 2)), [1, 1, 2], encoder="A")
    with pytest.raises(ValueError, match="queries have 5 dimensions and the bank's 'descriptors' have 2"):
        bank.search(np.zeros((1, 5)), 1)
    with pytest.raises(ValueError, match="row 0 of queries holds NaN"):
        bank.search(np.full((1, 2), np.nan), 1)
    with pytest.raises(ValueError, match="queries come from encoder 'B' and the bank from 'A'"):
        bank.search(np.zeros((1, 2)), 1, encoder="B")
    assert bank.search(np.zeros((1, 2)), 1, encoder="unknown")[1].shape == (1, 1)
    for k, excluded, left in ((4, (), 3), (0, (), 3), (2, [1], 1)):
        with pytest.raises(ValueError, match=f"k = {k}, but the bank has {left} rows"):
            bank.search(np.zeros((1, 2)), k, excluded)
    with pytest.raises(ValueError, match=r"holds only the excluded donors \[1, 2\]"):
        bank.search(np.zeros((1, 2)), 1, {1, 2})
    with pytest.raises(ValueError, match="not of the type of the bank's donors"):
        bank.search(np.zeros((1, 2)), 1, ["1"])


def test_rows_that_cannot_be_added_leave_the_bank_as_it_was(full_bank):
    pose = np.eye(4)[None]
    for arguments, message in [
        (dict(descriptors=np.zeros((1, 4)), donors=[0], encoder_pose=pose), "added descriptors have 4 dimensions"),
        (dict(descriptors=np.full((1, 5), np.inf), donors=[0], encoder_pose=pose), "row 0 of added descriptors"),
        (dict(descriptors=np.zeros((1, 5)), donors=[0, 1], encoder_pose=pose), "donors has shape"),
        (dict(descriptors=np.zeros((1, 5)), donors=["x"], encoder_pose=pose), "not of the type of the bank's donors"),
        (dict(descriptors=np.zeros((1, 5)), donors=[0]), "lack encoder poses"),
        (dict(descriptors=np.zeros((1, 5)), donors=[0], encoder_pose=pose, encoder="other"), "encoder 'other'"),
    ]:
        with pytest.raises(ValueError, match=message):
            full_bank.add(**arguments)
    assert len(full_bank) == full_bank.index.ntotal == 12


def test_columns_that_make_no_bank_folder(tmp_path):
    good = np.zeros((2, 3), dtype=np.float32)
    for arguments, message in [
        (dict(columns={}), "at least one descriptor column"),
        (dict(columns={"donors": good}), "'donors' cannot name a descriptor column"),
        (dict(columns={"a": good[:0]}), "column 'a' has 0 rows"),
        (dict(columns={"a": good, "b": good[:1]}), "column 'b' has 1 rows where 2"),
        (dict(columns={"a": good * np.nan}), "row 0 of column 'a' holds NaN"),
        (dict(columns={"a": good}, truth={"w": np.array([None, 1])}), "truth field 'w' is an object array"),
        (dict(columns={"a": good}, encoder_pose=np.zeros((2, 3, 3))), "encoder_pose has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_bank(tmp_path / "no", donors=[0, 1], encoder="e", **arguments)
    assert not (tmp_path / "no").exists()
