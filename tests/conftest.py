"""Shared fixtures, and the rule that green means run: on CI a test skipped for a missing package fails."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is imported

import pytest

ROOT = Path(__file__).parent.parent


NEEDS_POSIX = "needs POSIX: symbolic links without privileges, sh, or limits of a process"
# For tests of things that Windows has not; there, and only there, they are passed over.
posix = pytest.mark.skipif(os.name == "nt", reason=NEEDS_POSIX)


def fail_if_skipped(report) -> None:
    """Turn a skip into a failure with its reason."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if os.name == "nt" and NEEDS_POSIX in reason:
            return
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, where every test must run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a skip is a failure, unless the test needs the rig or is marked `may_skip`: a machine may
    lack those."""
    report = yield
    if (
        os.environ.get("CI") == "true"
        and not item.get_closest_marker("may_skip")
        and "ict_pack" not in item.fixturenames
    ):
        fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same for a whole file that skips itself."""
    report = yield
    if os.environ.get("CI") == "true":
        fail_if_skipped(report)
    return report


@pytest.fixture(scope="session")
def ict_pack() -> Path:
    """The packed ICT-FaceKit rig: $RAF_LITE_ICT, or what `raf-lite data rig` left in the cache."""
    from raf_lite.rig.pack import find_pack

    path = find_pack()
    if path is None:
        pytest.skip(
            "the ICT-FaceKit rig is not here; run `raf-lite data rig`, or set RAF_LITE_ICT to its pack"
        )
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shipped `data/` folder."""
    return ROOT / "data"
