"""What everything else stands on: the shipped data, the rig, this machine."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional


def fetch() -> int:
    """Download the shipped data (33 MB, once) where raf_lite was installed without its repository."""
    from raf_lite.data_release import fetch_data

    print(f"the data are {fetch_data()}")
    return 0


def rig() -> int:
    """Download and pack the ICT-FaceKit rig (about 400 MB, once)."""
    from raf_lite.rig.pack import download_rig

    print(f"the rig's pack is {download_rig()}")
    return 0


def metrics() -> int:
    """Download the networks of LPIPS and identity (164 MB, once), which evaluate and train VIDEO then ask."""
    from raf_lite._install import how_to_install
    from raf_lite.evaluation.identity import FaceIdentity, fetch_identity
    from raf_lite.evaluation.lpips import fetch_lpips

    print(*fetch_lpips(), fetch_identity(), sep="\n")
    try:
        FaceIdentity()
    except ImportError:
        print(f"dlib is not installed, which identity needs; {how_to_install('metrics')}")
    return 0


def build(*, out: Path = Path("data"), jobs: int = 2) -> int:
    """Render and encode everything under data/; goes on where it was stopped.

    Args:
        out: Folder to build.
        jobs: Processes.
    """
    from raf_lite.rig.build import build_data

    build_data(out, jobs=jobs)
    prior(data=out)
    return checkpoints(out=out)


def prior(*, data: Path = Path("data"), out: Path | None = None) -> int:
    """Learn how other people's faces move, from the bank (three minutes on one core); needs the rig.

    Args:
        data: Folder with the bank; the prior goes there, and into its manifest.
        out: Write it to this file instead.
    """
    from raf_lite.rig.prior import build_prior

    print(f"the motion prior is {build_prior(data, out)}")
    return 0


def checkpoints(*, out: Path = Path("data")) -> int:
    """Train the two avatars that ship with the lessons; the last part of build.

    Args:
        out: Folder with the capture and the bank.
    """
    from raf_lite._files import cache_dir
    from raf_lite.course.avatars import build_checkpoints

    build_checkpoints(out, cache_dir("checkpoints"))
    return 0


def verify(data: Positional[Path | None] = None) -> int:
    """Compare a data folder with its manifest.

    Args:
        data: The folder; without it the one that the lessons use.
    """
    from raf_lite.manifest import broken, find_data, how_to_mend, verify_manifest

    folder = data or find_data()
    problems = verify_manifest(folder)
    for problem in problems:
        print(problem)
    mend = how_to_mend(folder) if broken(problems) else "remove what is not listed"
    print(f"{folder}: {f'{len(problems)} problem(s); {mend}' if problems else 'as built'}")
    return 1 if problems else 0


def doctor() -> int:
    """Say whether the course runs here, and give a mend for what is amiss."""
    from raf_lite.course.doctor import doctor

    return 0 if doctor() else 1
