"""What `gpu.py` runs once the machine is ready; every part works on a CPU too, which is how the tests run
them."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import numpy as np
import torch
from machine import describe_machine, milliseconds
from scenes import GAUSSIAN_PARAMETERS, PARAMETERS, decided_pixels, head_scene, moved

from raf_lite._files import read_npz, write_json
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Capture, open_capture
from raf_lite.captures.formats.nersemble import write_calibration
from raf_lite.evaluation import evaluate
from raf_lite.manifest import find_data
from raf_lite.splatting import rasterize
from raf_lite.training import PRESETS, TrainConfig, Trainer, TrainingSet
from raf_lite.training.losses import reconstruction_loss
from raf_lite.viewing import comparison_video

SUBJECT = "001"
RUNS = {"baseline": None, "RAF (paper-k16)": "paper-k16"}
RENDERED_SEQUENCES = ("EXP-1-head", "EXP-4-lips", "EXP-5-mouth", "EXP-8-jaw-1", "EMO-4-disgust+happy", "FREE")
RENDERED_SIZE = 512
CRF = 20

# ----------------------------------------------------------------------------- are the rasterisers the same?

# name -> scene, and options of `rasterize`
SCENES: dict[str, tuple[Callable[[], dict], dict]] = {
    "head": (lambda: head_scene(1500, 96), {}),
    "head, antialiased, depth, 3 cameras": (
        lambda: head_scene(800, 64, cameras=3, seed=1),
        {"rasterize_mode": "antialiased", "render_mode": "RGB+ED"},
    ),
    "one channel": (lambda: head_scene(800, 64, channels=1, seed=2), {}),
    "8 channels": (lambda: head_scene(800, 64, channels=8, seed=3), {"rasterize_mode": "antialiased"}),
    "cameras inside": (lambda: head_scene(800, 64, cameras=2, distance=0.3, seed=4), {"near_plane": 0.2}),
}


def _render_with_gradients(
    scene: dict, options: dict, backend: str, device: str, dtype: torch.dtype, weights: tuple | None
):
    """Render, alpha and meta in float64 on the CPU, and the gradients of sum(weights * (render, alpha)) where
    they are given."""
    leaves = moved(scene, device=device, dtype=dtype, requires_grad=PARAMETERS if weights else ())
    render, alpha, meta = rasterize(**leaves, **options, backend=backend)
    gradients = {}
    if weights:
        loss = sum((x * w.to(x)).sum() for x, w in zip((render, alpha), weights, strict=True))
        found = torch.autograd.grad(loss, [leaves[name] for name in PARAMETERS])
        gradients = {name: g.cpu().double() for name, g in zip(PARAMETERS, found, strict=True)}
    return render.detach().cpu().double(), alpha.detach().cpu().double(), meta, gradients


def compare(scene: dict, options: dict, backends: Mapping[str, tuple[str, str]]) -> dict:
    """Differences of two backends from each other and from the float64 reference, on one scene.

    backends: name -> (backend, device), two of them. Pixels where float32 may decide otherwise
    (`decided_pixels`) are left out of gradients and of `image`, and counted; `image_everywhere` has them in.
    Images: largest difference of colour or alpha. Gradients: largest difference over the largest entry, for a
    random weighting of all pixels and channels.
    """
    render, alpha, meta, _ = _render_with_gradients(scene, options, "torch", "cpu", torch.float64, None)
    decided = decided_pixels(meta, scene["width"], scene["height"])[..., None]
    if options.get("render_mode", "RGB").endswith("ED"):
        decided &= alpha > 0.05  # an expected depth is a quotient by alpha
    g = torch.Generator().manual_seed(0)
    weights = tuple(torch.randn(x.shape, generator=g, dtype=torch.float64) * decided for x in (render, alpha))
    runs = {
        name: _render_with_gradients(scene, options, *place, torch.float32, weights)
        for name, place in backends.items()
    }
    runs["reference"] = _render_with_gradients(scene, options, "torch", "cpu", torch.float64, weights)
    a, b = backends
    out: dict = {"decided_pixels": round(float(decided.float().mean()), 4)}
    for one, other in ((a, b), (a, "reference"), (b, "reference")):
        (*images, _, gradients), (*images2, _, gradients2) = runs[one], runs[other]
        difference = torch.cat([(x - y).abs() for x, y in zip(images, images2, strict=True)], -1)
        out[f"{one} - {other}"] = {
            "image": float((difference * decided).max()),
            "image_everywhere": float(difference.max()),
            "gradients": {
                k: float((v - gradients2[k]).abs().max() / gradients2[k].abs().max())
                for k, v in gradients.items()
            },
        }
    return out


# ------------------------------------------------------------------------------------------------ how fast?


def time_rasteriser(backend: str, device: str, gaussians: int, size: int, seconds: float = 1.0) -> dict:
    """Forward without gradients and forward + backward on a head-like scene, in ms."""
    leaves = moved(head_scene(gaussians, size), device=device, requires_grad=GAUSSIAN_PARAMETERS)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def forward():
        with torch.no_grad():
            rasterize(**leaves, backend=backend)
        wait()

    def both():
        for name in GAUSSIAN_PARAMETERS:
            leaves[name].grad = None
        rasterize(**leaves, backend=backend)[0].square().mean().backward()
        wait()

    return {
        "backend": backend,
        "device": device,
        "gaussians": gaussians,
        "size": size,
        "forward": milliseconds(forward, seconds=seconds),
        "forward+backward": milliseconds(both, seconds=seconds),
    }


# ------------------------------------------------------------------------------------------------- training


def fitted(
    config: TrainConfig, data: TrainingSet, device: str, seconds: float, folder: Path, probe: int = 60
) -> TrainConfig:
    """`config` with as many of its steps as `seconds` allow, by a timed probe; coarse steps keep their
    share."""
    share = config.coarse_steps / config.steps

    def shortened(steps: int) -> TrainConfig:
        return config.with_(steps=steps, coarse_steps=round(steps * share))

    for steps in (max(2, probe // 10), probe):  # the first one warms up
        run = Trainer(data, shortened(steps), folder / "probe", device=device, progress=False)
        started = time.perf_counter()
        run.train()
        each = (time.perf_counter() - started) / steps
    return shortened(min(config.steps, max(1, int(seconds / each))))


def train_pair(
    capture: Capture,
    config: TrainConfig,
    bank: ExpressionBank,
    folder: Path,
    *,
    device: str,
    seconds: float,
    probe: int = 60,
) -> tuple[dict[str, GaussianAvatar], dict]:
    """Avatars by name, with and without retrieval, from the same number of steps; and how that went.

    seconds: for each run; the record says how many of the preset's steps that were.
    """
    data = TrainingSet.from_capture(capture, config, progress=False)
    short = fitted(config, data, device, seconds, folder, probe)
    avatars, record = (
        {},
        {
            "steps": short.steps,
            "steps_of_preset": config.steps,
            "gaussians": config.gaussians,
            "views": config.views,
            "training_frames": len(data.names),
            "pixels": list(data.images.shape[2:4]),
        },
    )
    for name, retrieval in RUNS.items():
        run = Trainer(
            data,
            short.with_(retrieval=retrieval),
            folder / (retrieval or "baseline"),
            bank=bank,
            device=device,
            progress=False,
        )
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        avatars[name] = run.train()
        spent = time.perf_counter() - started
        record[name] = {"seconds": round(spent, 1), "ms_per_step": round(spent / short.steps * 1e3, 2)}
        if run.device.type == "cuda":
            record[name]["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        print(f"  {name}: {short.steps} steps in {spent:.0f} s", flush=True)
    record["step"] = time_steps(data, config, folder / "step", device=device, steps=max(2, 2 * probe))
    return avatars, record


def time_steps(
    data: TrainingSet, config: TrainConfig, folder: Path, *, device: str, steps: int = 150
) -> dict:
    """Milliseconds of a full-size step of ours, and of the barest loop there is over Gaussians that do not
    move: parameters, rasterise, the same loss, Adam. Beside them the most memory either held at once, in MiB
    (CUDA only). The difference is what deformation, drawing frames and guarding cost."""
    run = Trainer(data, config.with_(steps=2 * steps, coarse_steps=0), folder, device=device, progress=False)
    with torch.no_grad():
        still, _ = run.avatar.gaussians(run.descriptors[:1].to(run.device))
    leaves = {
        "means": still["means"][0].clone(),
        "quats": still["quats"][0].clone(),
        "scales": still["scales"][0].log(),
        "opacities": torch.logit(still["opacities"].clamp(1e-4, 1 - 1e-4)),
        "colors": torch.logit(still["colors"][0].clamp(1e-4, 1 - 1e-4)),
    }
    leaves = {name: value.detach().requires_grad_() for name, value in leaves.items()}
    adam = torch.optim.Adam(list(leaves.values()), lr=1e-3, eps=1e-15, fused=True)
    weights = {
        "ssim_weight": config.ssim_weight,
        "mask_weight": config.mask_weight,
        "offset_weight": config.offset_weight,
    }

    def bare() -> None:
        row = int(torch.randint(len(data.names), (1,), generator=run.generator))
        cameras = torch.randperm(len(data.cameras), generator=run.generator)[: config.views]
        target = run.images[row, cameras].to(run.device).float() / 255
        mask = run.masks[row, cameras].to(run.device).float() / 255
        viewmats = run.views[row, cameras].to(run.device)
        image, alpha, _ = rasterize(
            leaves["means"],
            leaves["quats"],
            leaves["scales"].exp(),
            leaves["opacities"].sigmoid(),
            leaves["colors"].sigmoid(),
            viewmats,
            run.Ks[cameras],
            mask.shape[2],
            mask.shape[1],
            backgrounds=torch.ones(len(viewmats), 3, device=run.device),
            rasterize_mode="antialiased",
        )
        offsets = torch.zeros(1, 13, device=run.device)
        adam.zero_grad(set_to_none=True)
        reconstruction_loss(image, alpha, offsets, target, mask, **weights)["total"].backward()
        adam.step()

    record: dict = {"gaussians": config.gaussians, "views": config.views, "steps": steps}
    for name, step in (("ours", run._take_step), ("bare loop, nothing moves", bare)):
        for _ in range(max(2, steps // 10)):
            step()
        if run.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        record[name] = {"ms_per_step": round((time.perf_counter() - started) / steps * 1e3, 3)}
        if run.device.type == "cuda":
            record[name]["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    record["ours over bare"] = round(
        record["ours"]["ms_per_step"] / record["bare loop, nothing moves"]["ms_per_step"], 2
    )
    return record


def graded(
    avatars: Mapping[str, GaussianAvatar],
    capture: Capture,
    drivers: Mapping[str, Capture],
    size: int,
    frame_step: int,
) -> list[dict]:
    """Rows of `evaluate`'s table, without what needs an expression encoder."""
    table = evaluate(
        avatars, capture, drivers, size=size, frame_step=frame_step, progress=False
    ).reset_index()
    table = table[table["avatar"].isin(list(avatars))].round(4)
    return [{k: v for k, v in row.items() if v == v} for row in table.to_dict("records")]  # NaN: not measured


# ----------------------------------------------------------------------------------- the capture at 512x512


def _render_sequence(
    shipped: Path, participant: Path, sequence: str, size: int, serials: list[str] | None, threads: int
) -> None:
    """Render one of the shipped subject's sequences again at `size` pixels, with the descriptors that
    ship."""
    import numba

    from raf_lite.rig.build import SETTINGS
    from raf_lite.rig.head import HeadModel, head_pose_matrix
    from raf_lite.rig.pack import load_pack
    from raf_lite.rig.studio import Person, studio_cameras
    from raf_lite.rig.writer import write_sequence

    numba.set_num_threads(min(threads, numba.get_num_threads()))
    person = Person.from_seed(dict(SETTINGS.subjects)[int(SUBJECT)])
    performance = person.perform(sequence, SETTINGS.frames)
    stored = read_npz(shipped / "annotations" / f"{sequence}.npz")
    poses = head_pose_matrix(performance.head_rotation, performance.head_translation)
    if poses.shape != stored["head_pose"].shape or np.abs(poses - stored["head_pose"]).max() > 1e-3:
        raise ValueError(
            f"{shipped}: {sequence} is not what this version of the rig performs, so its descriptors do not"
            " fit; rebuild the data with `raf-lite data build`"
        )
    # The performance is the shipped one, so the shipped encoder output belongs to it, frame by frame.
    encoded = {k: v for k, v in stored.items() if k not in ("head_pose", "landmarks68")}
    head = HeadModel(load_pack()).bake(person.shape, person.look)
    write_sequence(
        participant,
        sequence,
        head,
        performance,
        studio_cameras(size, serials),
        SETTINGS.fps,
        crf=CRF,
        annotate=lambda frames: encoded,
    )


def render_capture(
    shipped: Path,
    root: Path,
    *,
    size: int = RENDERED_SIZE,
    sequences: tuple[str, ...] = RENDERED_SEQUENCES,
    serials: list[str] | None = None,
    workers: int | None = None,
) -> Capture:
    """The shipped subject rendered at `size` pixels under `root`; needs the rig.

    shipped: the subject's folder under data/. serials: cameras (default: all). workers: processes (default:
    half the CPUs). Raises ValueError where the shipped data were rendered by another version of the rig.
    """
    from raf_lite.rig.studio import studio_cameras

    participant = root / SUBJECT
    workers = min(len(sequences), workers or max(1, (os.cpu_count() or 2) // 2))
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(_render_sequence, shipped, participant, sequence, size, serials, threads)
            for sequence in sequences
        ]
        for job in jobs:
            job.result()
    write_calibration(participant, studio_cameras(size, serials))
    write_json(
        participant / "capture.json", json.loads((shipped / "capture.json").read_text(encoding="utf-8"))
    )
    return open_capture(participant)


# ------------------------------------------------------------------------------------------------ all of it


def run(out: Path, seconds: float, wheels: dict, **settings) -> bool:
    """`measure_all`, with a folder for avatars and pictures that is gone afterwards."""
    with tempfile.TemporaryDirectory() as work:
        return measure_all(out, Path(work), seconds, wheels, **settings)


def measure_all(
    out: Path,
    work: Path,
    seconds: float,
    wheels: dict,
    *,
    preset: TrainConfig = PRESETS["gpu"],
    device: str = "cuda",
    theirs: str = "gsplat",
    timings: tuple[tuple[int, int], ...] = ((20_000, 128), (20_000, 256), (60_000, 512)),
    frame_step: int = 6,
    with_rig: bool = True,
) -> bool:
    """Every part in turn; gpu.json is written after each, so that what was measured survives whatever comes
    next.

    Returns whether all parts went through. A part that fails, or that there was no time for, is recorded with
    the reason."""
    started = time.perf_counter()
    left = lambda: seconds - (time.perf_counter() - started)  # noqa: E731
    data_dir = find_data()
    shipped = data_dir / "mini_nersemble" / SUBJECT
    ours = {"numba": ("numba", "cpu"), theirs: (theirs, device)}
    result: dict = {
        "machine": describe_machine() | _describe_device(device, theirs),
        "wheels": wheels,
        "preset": preset.as_dict(),
    }
    bank = ExpressionBank.load(data_dir / "bank", descriptor=preset.descriptor)

    def compare_all() -> dict:
        return {name: compare(make(), options, ours) for name, (make, options) in SCENES.items()}

    def time_all() -> list[dict]:
        return [
            time_rasteriser(backend, place, *size) for size in timings for backend, place in ours.values()
        ]

    def train_shipped() -> dict:
        capture = open_capture(shipped)
        avatars, record = train_pair(
            capture,
            preset,
            bank,
            work / "shipped",
            device=device,
            seconds=left() * (0.2 if with_rig else 0.3),
        )
        drivers = {
            d: open_capture(shipped.parent / d)
            for d in sorted({s.split("-")[1] for s in capture.cross_sequences})
        }
        record["grades"] = graded(avatars, capture, drivers, preset.size, frame_step)
        video = comparison_video(
            out / "gpu.mp4", avatars, capture, dict(list(drivers.items())[:1]), size=256, frames=slice(0, 48)
        )
        return record | {"video": video.name}

    def train_rendered() -> dict:
        from raf_lite.rig.pack import find_pack

        if find_pack() is None:
            return {
                "skipped": "the rig is not here; run `raf-lite data rig`, or set RAF_LITE_ICT to its pack"
            }
        if left() < 90:
            return {"skipped": f"only {left():.0f} s were left"}
        clock = time.perf_counter()
        capture = render_capture(shipped, work / "capture")
        rendering = round(time.perf_counter() - clock, 1)
        avatars, record = train_pair(
            capture, preset, bank, work / "rendered", device=device, seconds=max(5.0, left() * 0.3)
        )
        return record | {
            "rendering_seconds": rendering,
            "grades": graded(avatars, capture, {}, preset.size, 2 * frame_step),
        }

    parts = {"comparison": compare_all, "timings": time_all, "shipped_capture": train_shipped}
    if with_rig:
        parts["rendered_512"] = train_rendered
    whole = True
    for name, part in parts.items():
        print(f"{name} ...", flush=True)
        clock = time.perf_counter()
        try:
            result[name] = part()
        except Exception as error:  # a machine is lent for minutes: the other parts must not be lost
            result[name], whole = {"failed": f"{type(error).__name__}: {error}"}, False
            print(f"  failed: {error}")
        result.setdefault("seconds", {})[name] = round(time.perf_counter() - clock, 1)
        write_json(out / "gpu.json", result)
    print(f"{time.perf_counter() - started:.0f} s; {out / 'gpu.json'}")
    return whole


def _describe_device(device: str, backend: str) -> dict:
    if device != "cuda":
        return {"device": device}
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        backend: importlib.metadata.version(backend),
    }
