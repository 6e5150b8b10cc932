"""`make demo`: the whole idea in one honest run, from the shipped capture to a table and a comparison
video."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch

import raf_lite
from raf_lite._install import needs
from raf_lite.bank import ExpressionBank
from raf_lite.captures import open_capture
from raf_lite.descriptors.mediapipe import encoder_if_possible
from raf_lite.evaluation import NOISE_FLOOR, change_from_baseline, evaluate, networks_at_hand
from raf_lite.manifest import find_data
from raf_lite.training import PRESETS, Trainer, TrainingSet
from raf_lite.viewing import comparison_frames, comparison_video, write_report

with needs("captures"):
    import pandas as pd

# name -> setting of raf_lite.retrieval (None: no retrieval)
RUNS = {"baseline": None, "RAF (paper-k16)": "paper-k16", "RAF (centred)": "centred"}
# Beside them, no RAF: what it changes in the settings. Another descriptor drives it, so it is graded and
# filmed apart.
PRIOR = "motion prior (not RAF)"
PRIOR_CHANGES = {"descriptor": "landmarks-neutral", "prior": True}
SUBJECT = "001"


def run(out: str | Path = "out/demo", data: str | Path | None = None) -> Path:
    """Train a baseline, two retrieval-augmented avatars and one over the motion prior of one person, grade
    them, film them, and write a report.

    out: gets report.html, comparison.mp4, metrics.json, the last one's comparison_prior.mp4 and
    metrics_prior.json, and avatars/. data: folder of the shipped captures and bank.
    With RAF_FAST=1 everything is tiny, and the report says so. Returns the report's path.
    """
    started = time.perf_counter()
    out, data = Path(out), Path(data) if data else find_data()
    fast = os.environ.get("RAF_FAST") == "1"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = PRESETS["fast" if fast else "gpu" if device == "cuda" else "cpu"]
    if device == "cuda" and not fast:
        # The shipped capture is small; the preset's long schedule is for captures of the size of NeRSemble's.
        config = config.with_(steps=5000, size=256, coarse_steps=2500, gaussians=20000)
    capture = open_capture(data / "mini_nersemble" / SUBJECT)
    bank = ExpressionBank.load(data / "bank", descriptor=config.descriptor)
    print(
        f"raf_lite {raf_lite.__version__}, {device}{', RAF_FAST: numbers mean nothing' if fast else ''}:"
        f" {len(RUNS) + 1} avatars of subject {SUBJECT}, {config.steps} steps each at {config.size} px,"
        f" bank of {len(bank)} frames"
    )
    training_set = TrainingSet.from_capture(capture, config)
    avatars, seconds = {}, {}
    for name, retrieval in RUNS.items():
        clock = time.perf_counter()
        folder = out / "avatars" / (retrieval or "baseline")
        trainer = Trainer(training_set, config.with_(retrieval=retrieval), folder, bank=bank, device=device)
        avatars[name] = trainer.train(resume=True)
        seconds[name] = time.perf_counter() - clock
    clock = time.perf_counter()
    over_prior = config.with_(**PRIOR_CHANGES)
    training_set = TrainingSet.from_capture(capture, over_prior)
    trainer = Trainer(training_set, over_prior, out / "avatars" / "prior", device=device)
    beside = {PRIOR: trainer.train(resume=True)}
    seconds[PRIOR] = time.perf_counter() - clock
    encoder = encoder_if_possible()
    drivers = {name.split("-")[1] for name in capture.cross_sequences}
    drivers = {driver: open_capture(data / "mini_nersemble" / driver) for driver in sorted(drivers)}
    settings = {
        "raf_lite": raf_lite.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "fast": fast,
        "subject": SUBJECT,
        "config": config.as_dict(),
        "runs": RUNS,
        PRIOR: PRIOR_CHANGES,
        "bank_rows": len(bank),
        "training_frames": len(training_set.names),
        "training_seconds": {k: round(v, 1) for k, v in seconds.items()},
    }
    clock = time.perf_counter()
    networks = networks_at_hand()
    tables = [
        evaluate(
            graded,
            capture,
            drivers,
            size=config.size,
            out=out / name,
            encoder=encoder,
            networks=networks,
            frame_step=12 if fast else 4,
            settings=settings,
        )
        for graded, name in ((avatars, "metrics.json"), (beside, "metrics_prior.json"))
    ]
    if encoder is not None:
        encoder.close()
    table = _joined(*tables)
    change = change_from_baseline(table)
    moments = slice(0, 12) if fast else slice(None)
    for shown, film in ((avatars, "comparison.mp4"), (beside, "comparison_prior.mp4")):
        comparison_video(out / film, shown, capture, drivers, size=256, frames=moments)
    video = out / "comparison.mp4"
    strips = [
        (
            comparison_frames(shown, capture, drivers[d], f"CROSS-{d}-FREE", 256, slice(t, t + 1))[0],
            f"Driver {d}, sequence FREE, frame {t}: driver, ground truth, then {who} and the error.",
        )
        for d, t in zip(drivers, (22, 46, 58), strict=False)
        for shown, who in ((avatars, "each avatar"), (beside, f"the {PRIOR}"))
    ]
    notes = [
        f"{PRIOR}: this avatar differs from the baseline in two things, and neither is retrieval. Landmarks"
        " minus neutral drive it, not blendshapes, and its Gaussians start from how other people's faces"
        " move; notebook 11 changes the latter alone. It was graded on the same frames, and its film is"
        " comparison_prior.mp4."
    ]
    if encoder is None:
        notes.append("Landmark error and AED are missing: MediaPipe could not be loaded here.")
    settings["grading_and_video_seconds"] = round(time.perf_counter() - clock, 1)
    settings["minutes"] = round((time.perf_counter() - started) / 60, 2)
    report = write_report(
        out / "report.html", table, change, settings | {"size": config.size}, video, strips, notes=notes
    )
    with pd.option_context(
        "display.width", 250, "display.max_columns", None, "display.float_format", "{:.3f}".format
    ):
        print(
            table, "\n\nchange from the baseline (percent of an error: negative is better):\n", change, sep=""
        )
    print(
        f"\n{settings['minutes']} minutes. Report: {report}\nVideos:  {video}, {out / 'comparison_prior.mp4'}"
        f"\nNumbers: {out / 'metrics.json'}, {out / 'metrics_prior.json'}\nAvatars: {out / 'avatars'}"
    )
    return report


def _joined(table: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """Two tables of `evaluate` on the same frames as one: in each group the rows of `beside`, of which the
    noise floor is the same, stand after the avatars of `table`."""
    rows = pd.concat([table, beside.drop(index=NOISE_FLOOR, level="avatar", errors="ignore")])
    groups, names = table.index.unique("group"), rows.index.unique("avatar")
    order = sorted(names, key=lambda name: name == NOISE_FLOOR)
    return rows.loc[[(group, name) for group in groups for name in order if (group, name) in rows.index]]
