"""Green means run: on CI a skip is a failure, except where the machine cannot have what is missing."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

FILES = {
    "test_function.py": (
        "import pytest\ndef test_a():\n    pytest.importorskip('no_such_package')\ndef test_b():\n    pass\n"
    ),
    "test_module.py": "import pytest\npytest.importorskip('no_such_package')\ndef test_a():\n    pass\n",
    "test_allowed.py": (
        "import pytest\n@pytest.mark.may_skip('needs CUDA')\ndef test_a():\n    pytest.skip('no CUDA')\n"
    ),
    "test_rig.py": "def test_a(ict_pack):\n    pass\n",
}


@pytest.mark.parametrize(
    "ci, counts",
    [("true", {"failed": 1, "error": 1, "passed": 1, "skipped": 2}), ("", {"passed": 1, "skipped": 4})],
)
def test_what_a_skip_counts_as(tmp_path, ci, counts):
    (tmp_path / "tests").mkdir()
    for source in ("tests/conftest.py", "pyproject.toml"):
        (tmp_path / source).write_text((ROOT / source).read_text())
    for name, text in FILES.items():
        (tmp_path / "tests" / name).write_text(text)
    environment = {
        **os.environ,
        "CI": ci,
        "RAF_LITE_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    environment.pop("RAF_LITE_ICT", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    summary = run.stdout.splitlines()[-1]
    assert {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", summary)
    } == counts, run.stdout
    assert run.returncode == (1 if ci == "true" else 0)
    complaint = "skipped on CI, where every test must run: Skipped: could not import 'no_such_package'"
    assert (complaint in run.stdout) == (ci == "true")
