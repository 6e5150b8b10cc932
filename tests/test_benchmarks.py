"""The benchmarks measure what they say: their baseline, counts and stopwatch are checked, and each runs in a
tiny form."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from nbclient.exceptions import CellExecutionError
from test_training import CONFIG, toy_set

from raf_lite.captures import open_capture
from raf_lite.captures.video import probe_video
from raf_lite.rig.studio import FRONTAL
from raf_lite.splatting import rasterize
from raf_lite.training import TrainConfig

sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package: run as `python benchmarks/NAME.py`

import full_size  # noqa: E402
import gpu  # noqa: E402
import gpu_runs  # noqa: E402
import lessons  # noqa: E402
import scenes  # noqa: E402
import splatting  # noqa: E402
import torch_tiles  # noqa: E402
import training_step  # noqa: E402

# --------------------------------------------------------------------------------------- scenes and baseline


def test_a_head_scene_is_as_large_as_it_says():
    scene = scenes.head_scene(4000, 128, cameras=2)
    _, _, meta = rasterize(**scene)
    radius = (meta["means2d"] - 64).norm(dim=-1).amax(1)  # of the silhouette; a circle of 60 % of the picture
    assert (math.pi * radius**2 / 128**2).tolist() == pytest.approx([0.6, 0.6], rel=0.03)
    # Of each 2D covariance, the larger eigenvalue is at most that of a sphere of 6 pixels seen at the near
    # side of the ball.
    inverse = meta["conics"][0][(meta["radii"][0] > 0).all(-1)].double()
    covariance = torch.linalg.inv(inverse[:, [0, 1, 1, 2]].reshape(-1, 2, 2))
    sigma = torch.linalg.eigvalsh(covariance)[:, 1].sqrt()
    assert 2.5 < sigma.median() < 6 and sigma.max() < 6 * 4 / 3 * 1.2
    half = scenes.head_scene(4000, 64, cameras=2)
    torch.testing.assert_close(half["scales"], scene["scales"])  # the same scene, smaller


@pytest.mark.parametrize(
    "gaussians", [0, 40, 700]
)  # of which the last goes through the look for finished tiles
def test_torch_tiles_are_the_reference(gaussians):
    scene = scenes.moved(scenes.head_scene(gaussians, 40, cameras=2), dtype=torch.float64)
    scene["opacities"], scene["scales"] = scene["opacities"].sqrt(), scene["scales"] * 3
    answers = []
    for render in (torch_tiles.rasterize_tiles, lambda **s: rasterize(**s, backend="torch")):
        leaves = scenes.moved(scene, requires_grad=scenes.PARAMETERS)
        image, alpha = render(**leaves)[:2]
        weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ((image + alpha) * weights).sum().backward()
        answers.append([image, alpha, *(leaves[name].grad for name in scenes.PARAMETERS)])
    if gaussians == 700:
        splats, x = middle_tile(scene)
        assert torch_tiles._needed(splats, x, x) < len(splats)
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def middle_tile(scene):
    """Splats of the middle tile of the first camera as `torch_tiles` lists them, and its pixel centres."""
    _, _, meta = rasterize(**scene, backend="torch")
    start, end = meta["isect_offsets"][0, 1, 1], meta["isect_offsets"][0, 1, 2]
    n = meta["flatten_ids"][start:end].long()
    splats = torch.cat([meta["means2d"][0, n], meta["conics"][0, n], scene["opacities"][n, None]], 1)
    return splats, torch.arange(16, 32, dtype=torch.float64) + 0.5


def test_pairs_are_counted_as_the_reference_blends():
    scene = scenes.head_scene(150, 24)
    scene["opacities"] = scene["opacities"].sqrt()
    _, _, meta = rasterize(**scene, backend="torch")
    looked_at = blended = 0
    offsets = [*meta["isect_offsets"].flatten().tolist(), len(meta["flatten_ids"])]
    for y in range(24):
        for x in range(24):
            tile, transmittance = y // 16 * 2 + x // 16, 1.0
            for n in meta["flatten_ids"][offsets[tile] : offsets[tile + 1]].tolist():
                looked_at += 1
                dx, dy = (meta["means2d"][0, n] - torch.tensor([x + 0.5, y + 0.5])).tolist()
                a, b, c = meta["conics"][0, n].tolist()
                sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
                alpha = min(0.999, scene["opacities"][n].item() * math.exp(-sigma))
                if alpha < 1 / 255:
                    continue
                if transmittance * (1 - alpha) <= 1e-4:
                    break
                transmittance *= 1 - alpha
                blended += 1
    ours = splatting.scene_pairs(scene)
    assert ours == pytest.approx((looked_at, blended), rel=2e-3) and blended < looked_at < 150 * 24 * 24
    # One Gaussian that fills the image: every pixel looks at it and blends it.
    one = {**scenes.head_scene(1, 16), "means": torch.zeros(1, 3), "scales": torch.full((1, 3), 9.0)}
    assert splatting.scene_pairs(one) == (256, 256)


def test_the_bound_adds_up_and_the_peak_is_a_rate():
    forward, both = splatting.flops(1000, 100, 10)
    assert forward == 1000 * 23 + 100 * 9 + 10 * 180 and both == forward + 100 * 55 + 10 * 600
    peak = splatting.fma_peak(0.05)
    assert 1e9 < peak < 1e13
    # The kernel does what is counted: its result is that of as many multiply-adds.
    sums = np.ones((1, 8), np.float32)
    splatting._multiply_add(sums, 2, np.float32(0.5), np.float32(0.25))
    assert sums == pytest.approx(np.full((1, 8), 0.5 + 0.5 * 0.5**64))


def test_the_splatting_benchmark_in_small():
    result = splatting.measure((200,), (32,), seconds=0.05, tiles_seconds=0.05)
    assert [r["stage"] for r in result["rows"]] == ["forward", "forward+backward"]
    for row in result["rows"]:
        assert row["numba"]["fastest_ms"] > row["bound_ms"] > 0
        ratio = row["torch_tiles"]["median_ms"] / row["numba"]["median_ms"]
        assert row["times_faster_than_torch_tiles"] == pytest.approx(ratio, rel=0.02, abs=0.06)
    parts = splatting.kernel_milliseconds(scenes.head_scene(200, 32), 0.05)
    assert set(parts) == {
        "python and torch",
        *(name for names in splatting.KERNELS.values() for name in names),
    }
    assert min(parts.values()) > 0
    row = {
        "gaussians": 20_000,
        "size": 128,
        "stage": "forward+backward",
        "times_faster_than_torch_tiles": 61,
        "times_the_bound": 13,
    }
    verdicts = splatting.judge(
        {"rows": [row], "start": {"cold": {"first_call_s": 19}, "warm": {"first_call_s": 1.5}}}
    )
    assert {name: v["met"] for name, v in verdicts.items()} == {
        "times_faster_than_torch_tiles": True,
        "times_the_bound": False,
        "cold_start_s": True,
        "warm_start_s": False,
    }


def test_a_start_is_timed_in_a_process_of_its_own(tmp_path, monkeypatch):
    started = time.perf_counter()
    seconds = splatting.start_seconds(None)
    assert 0 < seconds["first_call_s"] + seconds["import_torch_s"] < time.perf_counter() - started
    # Compiling takes too long for a test; that an empty folder would be compiled into is what matters.
    monkeypatch.setattr(
        splatting, "FIRST_CALL", "import numba; print([1, numba.config.CACHE_DIR.endswith('empty') * 7])"
    )
    assert splatting.start_seconds(tmp_path / "empty")["first_call_s"] == 7


# -------------------------------------------------------------------------------------------------- lessons


def notebook(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def test_a_lesson_is_timed_from_cold_and_its_memory_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path))
    seen = tmp_path / "seen.json"
    look = (
        "import json, os; json.dump([os.environ['RAF_FAST'], os.environ['RAF_LITE_CACHE'], os.listdir()],"
        f" open({str(seen)!r}, 'w'))"
    )
    small = lessons.time_notebook(notebook(look, "open('left behind', 'w').close()"), "fast")
    fast, cache, files = json.loads(seen.read_text())
    assert (
        fast == "1"
        and cache != str(tmp_path)
        and files == []
        and os.environ["RAF_LITE_CACHE"] == str(tmp_path)
    )
    monkeypatch.setattr(lessons, "SLOW", 1)
    large = lessons.time_notebook(
        notebook(look, "import time; held = b'1' * 600_000_000; time.sleep(1.5)"), "full"
    )
    fast, _, files = json.loads(seen.read_text())
    assert fast == "0" and files == []
    (slow,) = large["slow_cells"].values()
    assert 1.5 < slow < large["seconds"] and not small["slow_cells"]
    assert large["memory_gb"] == pytest.approx(small["memory_gb"] + 0.6, abs=0.1)
    with pytest.raises(CellExecutionError, match="broken"):
        lessons.time_notebook(notebook("raise ValueError('broken')"), "fast")


def test_times_are_carried_to_all_that_quote_them(tmp_path):
    name = "04_gaussian_splatting"
    places = ("notebooks/manifest.toml", f"notebooks/sources/{name}.py", "README.md")
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    runs = {"full": {"seconds": 241.0, "memory_gb": 3.2}, "fast": {"seconds": 31.0, "memory_gb": 4.1}}
    assert lessons.carry({name: runs}, tmp_path) == [name]
    assert lessons.carry({name: runs}, tmp_path) == []
    manifest, source, readme = ((tmp_path / place).read_text(encoding="utf-8") for place in places)
    entry = tomllib.loads(manifest)["lessons"]
    others = tomllib.loads((ROOT / places[0]).read_text(encoding="utf-8"))["lessons"]
    assert (
        entry.pop(name) == others.pop(name) | {"minutes_cpu": 7, "seconds_fast": 35, "memory_gb": 5}
        and entry == others
    )
    assert "raf_lite.setup(minutes_cpu=7)" in source
    assert len([line for line in readme.splitlines() if name in line and line.endswith("| 7 |")]) == 1
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match=rf"README\.md does not say how long {name} takes"):
        lessons.carry({name: runs}, tmp_path)
    with pytest.raises(ValueError, match=r"\[lessons\.11_more\] has no line 'minutes_cpu = '"):
        lessons.carry({"11_more": runs}, tmp_path)


def test_what_is_quoted_was_measured():
    measured = json.loads(lessons.RESULT.read_text(encoding="utf-8"))["lessons"]
    manifest = lessons.course.read_manifest()["lessons"]
    assert list(measured) == list(manifest)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, runs in measured.items():
        assert lessons.quoted(runs).items() <= manifest[name].items(), name
        assert next(line for line in readme.splitlines() if f"notebooks/{name}.ipynb" in line).endswith(
            f"| {manifest[name]['minutes_cpu']} |"
        )
        said = ""
        for cell in lessons.course.build(name, False).cells:
            said = cell.source if cell.cell_type == "markdown" else f"{said} {cell.source}"
            if cell.id in runs["full"]["slow_cells"]:
                told = re.search(r"(about|half) [\w ]*(second|minute|\d s\b)", said, re.I)
                assert told, f"{name}, {cell.id}: say how long it takes"
    assert sum(runs["full"]["seconds"] for runs in measured.values()) <= 30 * 60
    assert sum(runs["fast"]["seconds"] for runs in measured.values()) <= 8 * 60


# ------------------------------------------------------------------------------------------------ full size


def test_full_size_preparation_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(full_size, "HEIGHT", 96)
    monkeypatch.setattr(full_size, "WIDTH", 64)
    out = tmp_path / "r.json"
    full_size.main(
        ["--steps", "5", "--cameras", "7", "--size", "48", "--scratch", str(tmp_path), "--out", str(out)]
    )
    result = json.loads(out.read_text())
    assert result["prepared"] == [5, 6, 48, 32, 3] and result["finished_read_again"] == 0
    assert result["unfinished_read_again"] == 1
    assert 0.02 < result["peak_own_memory_gb"] <= result["peak_memory_gb"] < 2
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    with pytest.raises(RuntimeError, match=r"(?s)status 1: .*nothing here"):
        full_size.prepare(tmp_path / "nothing here", tmp_path / "cache", 48)


# -------------------------------------------------------------------------------------------- training step


def test_the_parts_of_a_step_add_up(tmp_path):
    steps = training_step.profile(toy_set(), CONFIG.with_(steps=30), tmp_path)
    assert len(steps) == 29
    for step in steps:
        assert set(step) == {*training_step.PARTS, "step"} and min(step.values()) >= 0
        assert sum(step[part] for part in training_step.PARTS) == pytest.approx(step["step"])
    even = [dict.fromkeys(training_step.PARTS, 1.0) | {"rasterise backward": 4.0, "step": 12.0}] * 100
    summary = training_step.summarise(even, 60)
    assert (
        summary["coarse"]["steps"] == 40 and summary["fine"]["steps"] == 20 and summary["all"]["steps"] == 80
    )
    assert summary["fine"]["ms"]["rasterise backward"] == 4
    assert summary["all"]["rasterisation_share"] == pytest.approx(5 / 12, abs=1e-3)


def test_the_priors_cost_is_that_of_its_steps(tmp_path, monkeypatch, data_dir):
    """A prior that takes half a second to ask, every 50 steps, costs 10 ms a step more."""
    from raf_lite.avatar.prior import PlacedPrior

    def slow(self, means, quats, motion):
        until = time.process_time() + 0.5
        while time.process_time() < until:
            pass

    monkeypatch.setattr(PlacedPrior, "follow", slow)
    capture = replace(open_capture(data_dir / "mini_nersemble" / "001"), sequences=("EXP-1-head",))
    cost = training_step.prior_cost(capture, 32, tmp_path, blocks=1)
    assert cost["steps"] == 50 and cost["with_ms"] - cost["without_ms"] > 1
    assert 5 < cost["asked"] < TrainConfig().steps / 50
    once = cost["asked_anew"] * cost["without_ms"] * TrainConfig().steps / cost["asked"]
    assert once == pytest.approx(500, rel=0.1)
    assert cost["ratio"] == pytest.approx(cost["with_ms"] / cost["without_ms"], rel=0.01)


def test_the_stopwatch_does_not_change_training(tmp_path):
    from raf_lite.avatar import GaussianAvatar
    from raf_lite.training import Trainer

    training_step.profile(toy_set(), CONFIG, tmp_path / "timed")
    plain = Trainer(toy_set(), CONFIG, tmp_path / "plain", device="cpu", progress=False).train()
    timed = GaussianAvatar.load(tmp_path / "timed" / "avatar.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), timed.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------------ GPU


def make_wheel(folder, name, tag="py3-none-any"):
    """A wheel with one module that holds its own name."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"NAME = {name!r}\n")
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: not-there\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_wheels_are_unpacked_and_those_that_do_not_fit_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(FileNotFoundError, match="no wheel in .*--wheels"):
        gpu.install_wheels(tmp_path, tmp_path / "site")
    make_wheel(tmp_path, "raf_lite_test_wheel")
    make_wheel(tmp_path, "raf_lite_other_wheel", tag="cp27-cp27m-win32")
    done = gpu.install_wheels(tmp_path, tmp_path / "site")
    assert done["installed"] == ["raf_lite_test_wheel-1.0-py3-none-any.whl"]
    assert "not a supported wheel" in done["refused"]["raf_lite_other_wheel-1.0-cp27-cp27m-win32.whl"]
    import raf_lite_test_wheel

    assert raf_lite_test_wheel.NAME == "raf_lite_test_wheel" and str(tmp_path) in raf_lite_test_wheel.__file__


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
@pytest.mark.may_skip("a machine with CUDA cannot show what happens without")
def test_without_cuda_it_ends_with_one_sentence(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 1 and not run.stdout and not list(tmp_path.iterdir())
    assert run.stderr.count("\n") == 1 and "no CUDA GPU here" in run.stderr


def test_backends_are_compared_where_float32_decides_alike():
    make, options = gpu_runs.SCENES["head, antialiased, depth, 3 cameras"]
    answer = gpu_runs.compare(make(), options, {"numba": ("numba", "cpu"), "torch": ("torch", "cpu")})
    assert 0.7 < answer["decided_pixels"] < 1
    for pair in ("numba - torch", "numba - reference", "torch - reference"):
        assert 0 < answer[pair]["image"] < 5e-5 and answer[pair]["image"] <= answer[pair]["image_everywhere"]
        assert set(answer[pair]["gradients"]) == set(scenes.PARAMETERS)
        assert all(0 < error < 1e-4 for error in answer[pair]["gradients"].values())


def test_a_wrong_rasteriser_is_found(monkeypatch):
    def wrong(*args, backend, **kwargs):
        render, alphas, meta = rasterize(*args, backend=backend, **kwargs)
        return (render * 1.001 if backend == "numba" else render), alphas, meta

    monkeypatch.setattr(gpu_runs, "rasterize", wrong)
    answer = gpu_runs.compare(
        scenes.head_scene(200, 32), {}, {"numba": ("numba", "cpu"), "torch": ("torch", "cpu")}
    )
    assert (
        answer["numba - reference"]["image"] > 3e-4 and answer["numba - torch"]["gradients"]["colors"] > 3e-4
    )
    assert answer["torch - reference"]["image"] < 1e-5


@pytest.fixture
def small_data(tmp_path, data_dir, monkeypatch):
    """Two training sequences, a hold-out and an answer of the shipped subject, with one driver and the
    bank."""
    for person, sequences in (
        ("001", ("EXP-1-head", "EXP-8-jaw-1", "FREE", "CROSS-101-FREE")),
        ("101", ("FREE",)),
    ):
        here, there = data_dir / "mini_nersemble" / person, tmp_path / "data" / "mini_nersemble" / person
        shutil.copytree(here / "calibration", there / "calibration")
        shutil.copy(here / "capture.json", there)
        for sequence in sequences:
            shutil.copytree(here / "sequences" / sequence, there / "sequences" / sequence)
            (there / "annotations").mkdir(exist_ok=True)
            shutil.copy(here / "annotations" / f"{sequence}.npz", there / "annotations")
    shutil.copytree(data_dir / "bank", tmp_path / "data" / "bank")
    (tmp_path / "data" / "MANIFEST.json").write_text("{}")
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


TINY = {
    "device": "cpu",
    "theirs": "torch",
    "timings": ((50, 24),),
    "frame_step": 13,
    "with_rig": False,
    "preset": TrainConfig(steps=1000, size=32, coarse_steps=500, gaussians=150),
}


def test_the_whole_gpu_run_in_small(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_runs, "SCENES", {"tiny": (lambda: scenes.head_scene(60, 24), {})})
    assert gpu_runs.run(tmp_path / "out", 3, {"installed": ["a.whl"], "refused": {}}, **TINY)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"gpu.json", "gpu.mp4"}
    video = probe_video(tmp_path / "out" / "gpu.mp4")
    assert video.width == 256 * (2 + 2 * len(gpu_runs.RUNS)) and video.frames > 20
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert set(result["comparison"]["tiny"]) == {
        "decided_pixels",
        "numba - torch",
        "numba - reference",
        "torch - reference",
    }
    assert [(t["backend"], t["gaussians"]) for t in result["timings"]] == [("numba", 50), ("torch", 50)]
    assert (
        result["machine"]["device"] == "cpu"
        and "cuda" not in result["machine"]
        and "rendered_512" not in result
    )
    trained = result["shipped_capture"]
    # The time allowed fewer steps than the preset has, and the record says how many there were.
    assert 1 <= trained["steps"] < trained["steps_of_preset"] == 1000 and trained["pixels"] == [32, 32]
    for name in gpu_runs.RUNS:
        spent = trained[name]["ms_per_step"] * trained["steps"] / 1e3
        assert trained[name]["seconds"] == pytest.approx(spent, abs=0.1)
    step = trained["step"]
    ours, bare = step["ours"]["ms_per_step"], step["bare loop, nothing moves"]["ms_per_step"]
    assert step["ours over bare"] == pytest.approx(ours / bare, rel=0.05) and bare > 0
    groups = {(row["group"], row["avatar"]) for row in trained["grades"]}
    assert groups == {
        (g, a) for g in ("training views", "hold-out cameras", "self", "cross") for a in gpu_runs.RUNS
    }
    assert all(row["psnr"] > 5 and "landmarks" not in row for row in trained["grades"])


def test_a_part_that_fails_says_so_and_claims_nothing(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_runs, "SCENES", {})
    monkeypatch.setattr(gpu_runs, "train_pair", lambda *args, **kwargs: 1 / 0)
    assert not gpu_runs.run(tmp_path, 8, {}, **TINY)
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert (
        result["shipped_capture"] == {"failed": "ZeroDivisionError: division by zero"}
        and len(result["timings"]) == 2
    )


def test_the_rendered_capture_is_the_shipped_one_at_another_size(ict_pack, data_dir, tmp_path):
    shipped = data_dir / "mini_nersemble" / "001"
    serials = [FRONTAL, "220700191"]
    capture = gpu_runs.render_capture(
        shipped, tmp_path, size=64, sequences=("EXP-1-head",), serials=serials, workers=1
    )
    original = open_capture(shipped)
    capture.check()
    assert capture.cameras[FRONTAL].width == 64 and capture.neutral == original.neutral
    for read in (lambda c: c.descriptors("EXP-1-head", "blendshapes"), lambda c: c.head_poses("EXP-1-head")):
        np.testing.assert_allclose(read(capture), read(original), atol=1e-5)
    ours, theirs = capture.images("EXP-1-head", FRONTAL), original.images("EXP-1-head", FRONTAL)
    theirs = theirs.reshape(len(theirs), 64, theirs.shape[1] // 64, 64, theirs.shape[2] // 64, 3).mean((2, 4))
    assert np.abs(ours - theirs).mean() < 0.01
