"""Writers that are killed leave the old or the new, and two at once both get in: benchmarks/kills.py in
small, and locks."""

from __future__ import annotations

import json
import os
import re
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, posix

from raf_lite import _files
from raf_lite._files import STALE_SECONDS, locked, write_json
from raf_lite.bank import ExpressionBank, add_donor

sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package

import kills  # noqa: E402

kills.PROCESSES.set_forkserver_preload(kills.IMPORTED)


@posix
@pytest.mark.parametrize("name", ["bank add, in place", "bank of version 1, added to"])
def test_a_bank_that_is_killed_at_any_point_is_the_old_or_the_new(tmp_path, name):
    figures = kills.measure_kills(kills.WRITERS[name], tmp_path, random_kills=0)
    assert figures["points"] >= 10  # three parts and the manifest, each flushed and renamed, and the folder
    assert (
        set(figures["at_points"]) == {"old", "new"}
        and sum(figures["at_points"].values()) == 2 * figures["points"]
    )
    assert figures["left_after_next_write"] == []


@posix
def test_a_build_that_is_killed_leaves_the_old_or_the_new_or_what_its_check_names(tmp_path):
    figures = kills.measure_kills(kills.WRITERS["data build, its last step"], tmp_path, random_kills=0)
    assert set(figures["at_points"]) == {"old", "named", "new"} and figures["left_after_next_write"] == []


@posix
def test_two_who_add_at_once_are_both_in_the_bank_and_no_reader_meets_half_of_one(tmp_path):
    figures = kills.measure_pairs(kills.WRITERS["bank add, in place"], tmp_path, pairs=2)
    assert figures["both"] == 2 and figures["broken_readings"] == 0 < figures["readings"]


def test_the_page_has_the_numbers_of_the_runs():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results" / "kills.json").read_text(encoding="utf-8"))
    for name, found in results["writers"].items():
        sums = [
            found["at_points"].get(key, 0) + found["at_random"].get(key, 0)
            for key in ("old", "new", "named", "broken")
        ]
        assert f"| {name} | {sum(sums)} | {' | '.join(map(str, sums))} |" in text
        assert sum(sums) >= 50 and sums[3] == 0
        # Who finds a finished avatar takes no lock, so the line on who held it last stays.
        assert set(found["left_after_next_write"]) <= ({".lock-holder"} if "avatar" in name else set())
        assert sums[2] == 0 or name == "data build, its last step"
        if two := found.get("two_writers"):
            assert (
                f"| {name} | {two['runs']} | {two['both']} | {two['readings']} | {two['broken_readings']} |"
                in text
            )
            assert two["both"] == two["runs"] and two["broken_readings"] == 0


def test_whoever_waits_too_long_is_told_who_is_there(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(
            TimeoutError, match=rf"^process {os.getpid()} on .* is writing to .* after 0.05 s; try"
        ),
    ):
        with locked(tmp_path, seconds=0.05):
            pass
    with locked(tmp_path, seconds=0):
        pass


@posix
def test_temporary_files_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path):
    place = _files._place()
    dead, other = 2**22 + 1, "0" * 8  # no system counts so far
    names = {
        "dead": f".a~{place}-{dead}-x1.json",
        "living": f".a~{place}-{os.getpid()}-x2.json",
        "elsewhere": f".a~{other}-{dead}-x3.json",
        "old": f".a~{other}-{dead}-x4.json",
        "not ours": ".a-x5.json",
    }
    for name in names.values():
        (tmp_path / name).touch()
    os.utime(tmp_path / names["old"], (time.time() - STALE_SECONDS - 9,) * 2)
    write_json(tmp_path / "b.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "b.json",
        names["living"],
        names["elsewhere"],
        names["not ours"],
    }


def test_a_bank_of_the_first_version_loads_and_becomes_the_second_when_it_is_written(tmp_path):
    kills._save_first_version(tmp_path)
    assert (tmp_path / "descriptors.npz").exists() and (tmp_path / "index.faiss").exists()
    before = ExpressionBank.load(tmp_path)
    before.save(tmp_path)
    np.testing.assert_array_equal(ExpressionBank.load(tmp_path).descriptors, before.descriptors)
    assert json.loads((tmp_path / "bank.json").read_text())["version"] == 2
    assert not any(
        (tmp_path / name).exists() for name in ("descriptors.npz", "thumbnails.npz", "index.faiss")
    )
    # Files of these names in a folder that is no bank are somebody else's.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "truth.npz").touch()
    before.save(tmp_path / "new")
    assert (tmp_path / "new" / "truth.npz").exists()


def test_a_reader_begins_again_where_a_writer_was_faster(tmp_path, monkeypatch):
    from raf_lite.bank import storage

    bank = ExpressionBank.from_arrays([[0.0, 1.0]], ["ann"])
    bank.save(tmp_path)
    bank.add([[2.0, 3.0]], ["bo"])
    first = storage.read_manifest(tmp_path)
    bank.save(tmp_path)
    manifests = iter([first, storage.read_manifest(tmp_path)])
    monkeypatch.setattr(storage, "read_manifest", lambda folder: next(manifests))
    assert len(ExpressionBank.load(tmp_path)) == 2


# ------------------------------------------------------------------------- the same frames, and other kinds


def test_frames_that_are_added_twice_make_no_rows(tmp_path):
    rng = np.random.default_rng(0)
    frames = {"blendshapes": rng.uniform(size=(20, 52))}
    still = {"blendshapes": np.repeat(rng.uniform(size=(3, 52)), 10, 0)}  # most repeat each other
    assert add_donor(tmp_path, frames, encoder="e") == ("0", 20, 0)
    assert add_donor(tmp_path, still, encoder="e") == ("1", 3, 27)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert add_donor(tmp_path, frames, encoder="e") == ("0", 0, 20)
    assert add_donor(tmp_path, still, encoder="e") == ("1", 0, 30)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.warns(UserWarning, match=re.escape("as donor 0, and now as 7 too")):
        assert add_donor(tmp_path, frames, encoder="e", donor="7") == ("7", 20, 0)


def test_descriptors_and_donors_come_from_pandas_and_from_tensors():
    pd, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    values = [[0.0, 1.5], [2.0, 3.0]]
    tensor = torch.tensor(values, requires_grad=True)
    frame = pd.DataFrame(values, columns=["a", "b"])
    for descriptors in (
        frame,
        frame.astype("Float64"),
        frame.astype(object),
        tensor,
        tensor.bfloat16(),
        tensor.half(),
    ):
        for donors, expected in (
            (pd.Series(["ann", "bo"]), ["ann", "bo"]),
            (pd.Categorical(["ann", "bo"]), ["ann", "bo"]),
            (pd.Series([3, 4], dtype="Int64"), [3, 4]),
            (torch.tensor([3, 4]), [3, 4]),
        ):
            bank = ExpressionBank.from_arrays(
                descriptors, donors, neutral=pd.Series([True, False], dtype="boolean")
            )
            assert (bank.descriptors.tolist(), bank.donors.tolist()) == (values, expected)
            assert bank.neutral.tolist() == [True, False]
            assert bank.search(tensor[:1], 1).rows.tolist() == [[0]]
    for wrong in (pd.Series(["ann", None]), pd.Series(["ann", 3]), [2**70, 1]):
        with pytest.raises(ValueError, match="donors must be integers or strings"):
            ExpressionBank.from_arrays(values, wrong)


def test_an_index_that_faiss_cannot_read_again_is_built_when_the_bank_is_loaded(tmp_path):
    descriptors = np.random.default_rng(0).normal(size=(60, 4))
    bank = ExpressionBank.from_arrays(descriptors, np.arange(60) % 5, index="ZnLattice2x4_4")
    again = ExpressionBank.load(bank.save(tmp_path))
    assert again.factory == "ZnLattice2x4_4" and not list(tmp_path.glob("index*"))
    for ours, theirs in zip(again.search(descriptors, 3), bank.search(descriptors, 3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_search_settings_are_attributes_of_the_index_also_of_a_loaded_one(tmp_path):
    rng = np.random.default_rng(0)
    descriptors, queries = rng.normal(size=(2000, 16)), rng.normal(size=(50, 16))
    exact = ExpressionBank.from_arrays(descriptors, np.zeros(2000, int)).search(queries, 5).rows
    for factory, setting, least, most in (
        ("IVF32,Flat", "nprobe", 1, 32),
        ("PCA16,IVF32,Flat", "nprobe", 1, 32),
        ("HNSW4", "efSearch", 5, 2000),
    ):
        bank = ExpressionBank.from_arrays(descriptors, np.zeros(2000, int), index=factory)
        for searched in (bank, ExpressionBank.load(bank.save(tmp_path / factory.replace(",", "-")))):
            setattr(searched.index, setting, least)
            few = (searched.search(queries, 5).rows == exact).mean()
            setattr(searched.index, setting, most)
            assert getattr(searched.index, setting) == most
            assert few < (searched.search(queries, 5).rows == exact).mean() > 0.95
        other = "efSearch" if setting == "nprobe" else "nprobe"
        with pytest.raises(AttributeError):
            setattr(searched.index, other, 3)
