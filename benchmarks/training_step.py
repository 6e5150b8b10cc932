"""Where a training step spends its time: python benchmarks/training_step.py (about three minutes; leave the
machine to it).

Trains the whole `cpu` preset on the shipped capture with the package's own loop, a stopwatch at the seams of
its parts, and prints milliseconds and share of each part, for the coarse steps (half the size) and the fine
ones that follow. Then what a step over the motion prior costs, against one without, in turns, with the
study's settings. Writes benchmarks/results/training_step.json with machine and versions. Quote shares;
milliseconds are noisy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from machine import RESULTS, describe_machine

from raf_lite._files import write_json
from raf_lite.avatar import gaussian_avatar
from raf_lite.captures import Capture, open_capture
from raf_lite.manifest import find_data
from raf_lite.training import PRESETS, TrainConfig, Trainer, TrainingSet, trainer

PARTS = (
    "deformation",
    "rasterise forward",
    "loss forward",
    "loss backward",
    "rasterise backward",
    "deformation backward",
    "guard",
    "optimiser",
    "rest",
)
RASTERISATION = ("rasterise forward", "rasterise backward")
TARGET_SHARE = 0.6  # of the step, at most, that rasterisation takes
PRIOR_PIXELS = (64, 128)  # of the study's coarse and fine steps
BLOCK = 50  # steps over the prior, and as many without, in turns
WARM_UP = 20  # steps at the start of each phase that are left out


class Stopwatch:
    """Notes when the parts of each step of one `Trainer` begin and end; the loop itself is the package's own,
    untouched.

    Autograd calls a tensor's hook when its gradient is known, which tells the parts of the backward pass
    apart.
    """

    def __init__(self):
        self.steps: list[
            dict[str, float]
        ] = []  # name of an event -> time of its last occurrence in that step

    def note(self, event: str) -> None:
        self.steps[-1][event] = time.perf_counter()

    def around(self, call: Callable, begin: str, end: str) -> Callable:
        """`call`, noting `begin` and `end`."""

        def timed(*args, **kwargs):
            self.note(begin)
            out = call(*args, **kwargs)
            self.note(end)
            return out

        return timed

    def on_gradient(self, tensor, event: str):
        if tensor.requires_grad:
            tensor.register_hook(lambda _: self.note(event))

    def splat(self, call: Callable) -> Callable:
        """The seam of a step: an avatar's `splat` begins once what the step sees has been drawn and
        scaled."""

        def timed(*args, **kwargs):
            self.steps.append({})
            self.note("step begins")
            return call(*args, **kwargs)

        return timed

    def rasterize(self, call: Callable) -> Callable:
        def timed(*args, **kwargs):
            self.note("rasterise forward begins")
            for tensor in args[:5]:  # means, quats, scales, opacities, colors
                self.on_gradient(tensor, "rasterise backward ends")
            image, alpha, meta = call(*args, **kwargs)
            for tensor in (image, alpha):
                self.on_gradient(tensor, "loss backward ends")
            self.note("rasterise forward ends")
            return image, alpha, meta

        return timed

    def loss(self, call: Callable) -> Callable:
        def timed(*args, **kwargs):
            self.note("loss forward begins")
            terms = call(*args, **kwargs)
            self.on_gradient(terms["total"], "backward begins")
            self.note("loss forward ends")
            return terms

        return timed

    def milliseconds(self) -> list[dict[str, float]]:
        """Of each step but the last, its parts in ms; `rest` is what remains until the next one begins."""
        out = []
        for step, following in zip(self.steps, self.steps[1:], strict=False):
            parts = {
                "deformation": ("step begins", "rasterise forward begins"),
                "rasterise forward": ("rasterise forward begins", "rasterise forward ends"),
                "loss forward": ("loss forward begins", "loss forward ends"),
                "loss backward": ("backward begins", "loss backward ends"),
                "rasterise backward": ("loss backward ends", "rasterise backward ends"),
                "deformation backward": ("rasterise backward ends", "guard begins"),
                "guard": ("guard begins", "guard ends"),
                "optimiser": ("optimiser begins", "optimiser ends"),
            }
            times = {name: (step[end] - step[begin]) * 1e3 for name, (begin, end) in parts.items()}
            times["step"] = (following["step begins"] - step["step begins"]) * 1e3
            times["rest"] = times["step"] - sum(times[name] for name in parts)
            out.append(times)
        return out


def profile(data: TrainingSet, config: TrainConfig, folder) -> list[dict[str, float]]:
    """Train once and return the parts of each step (but the last) in ms."""
    watch, run = Stopwatch(), Trainer(data, config, folder, device="cpu", progress=False)
    run.avatar.splat = watch.splat(run.avatar.splat)
    run._guard = watch.around(run._guard, "guard begins", "guard ends")
    run.optimizer.register_step_pre_hook(lambda *_: watch.note("optimiser begins"))
    run.optimizer.register_step_post_hook(lambda *_: watch.note("optimiser ends"))
    with (
        mock.patch.object(gaussian_avatar, "rasterize", watch.rasterize(gaussian_avatar.rasterize)),
        mock.patch.object(trainer, "reconstruction_loss", watch.loss(trainer.reconstruction_loss)),
    ):
        run.train()
    return watch.milliseconds()


def prior_cost(capture: Capture, pixels: int, folder: Path, blocks: int = 12) -> dict[str, float]:
    """Processor time of steps over the motion prior and of those without, taken in turns, so that whatever
    else runs here slows both.

    ratio: with over without. asked_anew: what of the latter is spent on the prior's numbers anew, as often
    as in a training of the default length (`asked` times). ms are of processor time a step.
    """
    config = TrainConfig(
        size=pixels, coarse_steps=0, views=1, gaussians=4000, descriptor="landmarks-neutral", prior=True
    )
    data = TrainingSet.from_capture(capture, config, progress=False)
    runs = {
        prior: Trainer(data, config.with_(prior=prior), folder, device="cpu", progress=False)
        for prior in (False, True)
    }
    used = {False: 0.0, True: 0.0}
    with mock.patch.object(Trainer, "asks_prior", return_value=False):  # timed by itself
        for block in range(blocks + 1):
            for prior, run in runs.items():
                started = time.process_time()
                for _ in range(BLOCK):
                    run._take_step()
                used[prior] += (time.process_time() - started) * (block > 0)  # the first warms up
    started = time.process_time()
    for _ in range(blocks):
        runs[True].avatar.follow()
    once = (time.process_time() - started) / blocks
    asked = sum(runs[True].asks_prior(step) for step in range(config.steps))
    anew = once * asked / config.steps
    without, over = (used[prior] / blocks / BLOCK for prior in (False, True))
    return {
        "without_ms": round(without * 1e3, 3),
        "with_ms": round((over + anew) * 1e3, 3),
        "ratio": round((over + anew) / without, 3),
        "asked_anew": round(anew / without, 3),
        "asked": asked,
        "steps": blocks * BLOCK,
    }


def summarise(steps: list[dict[str, float]], coarse_steps: int) -> dict[str, dict]:
    """For "coarse" and "fine" steps and for "all": medians in ms ("all": means over the run), and shares of a
    step."""
    phases = {"coarse": steps[WARM_UP:coarse_steps], "fine": steps[coarse_steps + WARM_UP :]}
    out = {}
    for phase, rows in phases.items():
        if rows:
            out[phase] = {part: statistics.median(row[part] for row in rows) for part in (*PARTS, "step")}
    out["all"] = {part: statistics.fmean(row[part] for row in steps[WARM_UP:]) for part in (*PARTS, "step")}
    return {
        phase: {
            "ms": {k: round(v, 3) for k, v in ms.items()},
            "rasterisation_share": round(sum(ms[part] for part in RASTERISATION) / ms["step"], 3),
            "steps": len(phases.get(phase, steps[WARM_UP:])),
        }
        for phase, ms in out.items()
    }


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    config, capture = PRESETS["cpu"], open_capture(find_data() / "mini_nersemble" / "001")
    data = TrainingSet.from_capture(capture, config)
    result = {"machine": describe_machine(), "config": config.as_dict()}
    with tempfile.TemporaryDirectory() as folder:
        phases = summarise(profile(data, config, folder), config.coarse_steps)
        prior = {f"{pixels} px": prior_cost(capture, pixels, Path(folder)) for pixels in PRIOR_PIXELS}
    result |= {
        "phases": phases,
        "target_share": TARGET_SHARE,
        "met": phases["all"]["rasterisation_share"] <= TARGET_SHARE,
        "prior": prior,
    }
    print(f"{'':<22}" + "".join(f"{phase:>18}" for phase in phases))
    for part in (*PARTS, "step"):
        cells = [f"{p['ms'][part]:>8.2f} ms {p['ms'][part] / p['ms']['step']:>5.0%}" for p in phases.values()]
        print(f"{part:<22}" + "".join(f"{cell:>18}" for cell in cells))
    print(
        f"rasterisation: {phases['all']['rasterisation_share']:.0%} of the run's steps, target <="
        f" {TARGET_SHARE:.0%}: " + ("met" if result["met"] else "NOT met")
    )
    for pixels, cost in prior.items():
        print(
            f"a step over the motion prior, {pixels}: {cost['ratio'] - 1:+.0%} processor time, of which"
            f" {cost['asked_anew']:.0%} for asking it anew, {cost['asked']} times in a training"
        )
    write_json(RESULTS / "training_step.json", result)


if __name__ == "__main__":
    main()
