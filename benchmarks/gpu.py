"""Everything a CUDA machine should be asked, in one command of under eight minutes:

    python3 benchmarks/gpu.py --wheels FOLDER

No virtual environment and no network: it uses the machine's own Python, torch and packages, and beside them
the wheels in FOLDER, unpacked into a temporary folder. Those are a gsplat 1.5.3 compiled for this Python,
torch and GPU, and whatever raf_lite needs and the machine lacks (av, faiss-cpu, flip-evaluator, pooch, ...;
one that is missing is named). gsplat as it is on PyPI would compile its kernels first, which takes longer
than all the rest.

It compares the numba rasteriser with gsplat's, image and gradients; times both; trains the `gpu` preset with
and without retrieval on the shipped capture and, where the rig is, on a 512x512 rendering of it; and writes
gpu.json and gpu.mp4 to benchmarks/results.
What could not be measured is not in there, or is with the reason.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is imported

ROOT = Path(__file__).resolve().parent.parent


def install_wheels(folder: Path, target: Path) -> dict:
    """Unpack every wheel of `folder` into `target`, without network and dependencies, and put that first on
    sys.path.

    Returns the names under "installed", and under "refused" with pip's reason those that do not fit this
    Python or system. Raises FileNotFoundError for a folder without wheels.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise FileNotFoundError(
            f"there is no wheel in {folder}; name the folder that holds gsplat's with --wheels"
        )
    done: dict = {"installed": [], "refused": {}}
    for wheel in wheels:  # one by one: a wheel that does not fit should not stop the others
        pip = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-index",
                "--no-deps",
                "--no-compile",
                "--no-cache-dir",
                "--disable-pip-version-check",
                "--target",
                str(target),
                str(wheel),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if pip.returncode == 0:
            done["installed"].append(wheel.name)
        else:
            done["refused"][wheel.name] = (pip.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    sys.path.insert(0, str(target))
    return done


def why_not_here() -> str | None:
    """What keeps this machine from running the benchmark, in a sentence; None if nothing does."""
    try:
        import torch
    except ImportError:
        return f"torch is not installed for {sys.executable}; start this with the Python that has it"
    if not torch.cuda.is_available():
        return (
            "torch sees no CUDA GPU here, and this benchmark measures nothing else; run it on a machine that"
            " has one"
        )
    try:
        import gpu_runs  # noqa: F401
    except ImportError as error:
        return f"the package '{error.name}' is missing; put its wheel into the folder given by --wheels"
    from raf_lite.splatting import gsplat_backend

    reason = gsplat_backend.unusable_because()
    return None if reason is None else f"gsplat is not usable ({reason}); {gsplat_backend.INSTALL}"


def main(arguments: list[str] | None = None) -> None:
    """Install, check, run. Ends with one sentence and exit status 1 where it cannot run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this machine lacks")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="where gpu.json and gpu.mp4 go"
    )
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="time for everything; training is shortened to fit"
    )
    args = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    with tempfile.TemporaryDirectory() as target:
        try:
            wheels = (
                install_wheels(args.wheels, Path(target)) if args.wheels else {"installed": [], "refused": {}}
            )
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from error
        for name, reason in wheels["refused"].items():
            print(f"left out {name}: {reason}")
        reason = why_not_here()
        if reason is not None:
            raise SystemExit(reason)
        import gpu_runs

        if not gpu_runs.run(args.out, args.minutes * 60, wheels):
            raise SystemExit(f"a part failed; {args.out / 'gpu.json'} says which and holds the others")


if __name__ == "__main__":
    main()
