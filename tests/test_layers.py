"""Which room may import which: the contracts in pyproject.toml hold, and notice arrows that they forbid."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(folder):
    """import-linter's answer (exit code, text) about the package and the pyproject.toml in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, timeout=120
    )
    return done.returncode, re.sub(r"\x1b\[\d+m", "", done.stdout) + done.stderr


def test_the_arrows_hold():
    code, text = lint(ROOT)
    assert code == 0 and "0 broken" in text, text


@pytest.mark.parametrize(
    "file, line, contract",
    [
        ("captures/scaling.py", "import raf_lite.training", "Three shelves"),
        ("training/losses.py", "import raf_lite.evaluation", "Three shelves"),
        ("a_new_room.py", "", "Three shelves"),
        (
            "bank/statistics.py",
            "from raf_lite.bank.bank import ExpressionBank",
            "No two modules or rooms need each other",
        ),
        ("retrieval.py", "import raf_lite.captures", "Retrieval knows nothing"),
        ("splatting/rasterize.py", "import raf_lite.captures.cameras", "Splatting and the bank know nothing"),
        ("avatar/fields.py", "import raf_lite.bank", "An avatar knows nothing"),
        ("training/losses.py", "import raf_lite.captures.formats.nersemble", "Training knows nothing"),
        ("viewing/figures.py", "def f():\n    import raf_lite.training", "Pictures know nothing"),
    ],
)
def test_a_forbidden_arrow_is_noticed(tmp_path, file, line, contract):
    shutil.copytree(
        ROOT / "raf_lite",
        tmp_path / "raf_lite",
        ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "raf_lite" / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    code, text = lint(tmp_path)
    assert code == 1 and re.search(rf"^{contract}.* BROKEN", text, re.M), text
