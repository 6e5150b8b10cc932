"""Shared fixtures, and the rule that green means run: on CI a test skipped for a missing package fails."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is imported

import pytest

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a skip is a failure, unless the test is marked `may_skip` (it needs what a CI machine cannot have)."""
    outcome = yield
    report = outcome.get_result()
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail") \
            and item.get_closest_marker("may_skip") is None and "ict_pack" not in item.fixturenames:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, where every test must run: {reason}"


@pytest.fixture(scope="session")
def ict_pack() -> Path:
    """The packed ICT-FaceKit rig: $RAF_LITE_ICT, or what `raf-lite data rig` left in the cache."""
    from raf_lite.rig.pack import find_pack

    path = find_pack()
    if path is None:
        pytest.skip("the ICT-FaceKit rig is not here; run `raf-lite data rig`, or set RAF_LITE_ICT to its pack")
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shipped `data/` folder."""
    return ROOT / "data"
