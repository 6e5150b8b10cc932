"""`make demo` in its tiny form: everything it promises is there, whole, and says that it was tiny."""

import json
import os
import subprocess
import sys

import pytest

from raf_lite.avatar import GaussianAvatar
from raf_lite.captures.video import probe_video
from raf_lite.course.demo import PRIOR, RUNS


@pytest.fixture(scope="module")
def demo(tmp_path_factory, data_dir):
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "raf_lite.cli", "demo", "--out", str(out)]
    environment = os.environ | {"RAF_FAST": "1", "RAF_LITE_DATA": str(data_dir)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return out, run.stdout


def test_it_writes_what_it_promises(demo):
    out, printed = demo
    files = ("report.html", "comparison.mp4", "comparison_prior.mp4", "metrics.json", "metrics_prior.json")
    assert {p.name for p in out.iterdir()} == {*files, "avatars"}
    for name in files:
        assert str(out / name) in printed
    assert "the numbers mean nothing" in (out / "report.html").read_text()
    for film, shown in (("comparison.mp4", len(RUNS)), ("comparison_prior.mp4", 1)):
        video = probe_video(out / film)
        assert video.width == 256 * (2 + 2 * shown) and video.frames == 3 * 12
    folders = {retrieval or "baseline" for retrieval in RUNS.values()}
    assert {p.name for p in (out / "avatars").iterdir()} == {*folders, "prior"}
    for folder in folders:
        avatar = GaussianAvatar.load(out / "avatars" / folder / "avatar.safetensors")
        assert avatar.provenance["config"]["retrieval"] in RUNS.values()


def test_its_numbers_are_complete(demo):
    out, printed = demo
    metrics = json.loads((out / "metrics.json").read_text())
    graded = {(row["group"], row["avatar"]) for row in metrics["table"]}
    assert {
        (g, a)
        for g in ("training views", "hold-out cameras", "self-seen", "self-unseen", "self-strong", "cross")
        for a in RUNS
    } <= graded
    assert metrics["settings"]["fast"] and metrics["settings"]["runs"] == RUNS
    for row in metrics["table"]:
        if row["avatar"] in RUNS:
            assert row["psnr"] > 15 and all(
                row[f"mae_{r}"] > 0 for r in ("face", "mouth", "eyes", "cheeks+nose")
            )
        if row["group"] == "cross":
            assert row["landmarks"] > 0 and row["aed"] > 0
    assert "change from the baseline" in printed


def test_the_one_over_the_prior_is_no_raf_and_says_so(demo):
    out, printed = demo
    avatar = GaussianAvatar.load(out / "avatars" / "prior" / "avatar.safetensors")
    assert avatar.prior is not None and avatar.descriptor == "landmarks-neutral"
    assert avatar.provenance["config"]["retrieval"] is None and "not RAF" in PRIOR
    report = (out / "report.html").read_text()
    assert "differs from the baseline in two things" in report and "comparison_prior.mp4" in report
    first, beside = (
        json.loads((out / name).read_text())["table"] for name in ("metrics.json", "metrics_prior.json")
    )
    pictures = {row["group"]: row["views"] for row in first if row["avatar"] == "baseline"}
    assert {row["group"]: row["views"] for row in beside if row["avatar"] == PRIOR} == pictures
    tables = printed.partition("change from the baseline")
    for part, rows in zip(tables[::2], (len(pictures), len(pictures))):  # of each group, once
        assert part.count(PRIOR) == rows
    noise = [row for row in first if row["avatar"] == "noise floor"]
    assert tables[0].count("noise floor") == len(noise) > 0
