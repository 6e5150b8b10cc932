"""The examples: they run, the three marked lines are the whole difference, and they change the descriptors
alone."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

EXAMPLES = ("gha_loop", "flame_loop", "numpy_pipeline")
MARK = "# RAF"


@cache
def run(script: Path, *options: str) -> dict[str, str]:
    """What an example prints, by name."""
    done = subprocess.run(
        [sys.executable, str(script), *options, "--steps=250"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^(.+): (.+)$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("name", EXAMPLES)
def test_raf_changes_the_descriptors_and_nothing_else(name):
    script = ROOT / "examples" / f"{name}.py"
    without, augmented = run(script), run(script, "--raf")
    assert without["descriptors replaced"] == "0.000" and 0.1 < float(augmented["descriptors replaced"]) < 0.3
    # The loss is given the person's own frames, the same ones in the same order.
    assert without["checksum of the frames in the loss"] == augmented["checksum of the frames in the loss"]
    for printed in (without, augmented):
        first, last = map(float, printed["loss"].split(" -> "))
        assert last < 0.7 * first
    assert augmented["loss"] != without["loss"]
    if name != "numpy_pipeline":  # a linear model gains little or nothing
        error = "error when somebody else drives"
        assert float(augmented[error]) < 0.95 * float(without[error])


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_its_marked_lines_an_example_is_the_loop_as_it_was(name, tmp_path):
    script = ROOT / "examples" / f"{name}.py"
    lines = script.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.endswith(MARK)]
    assert len(lines) - len(kept) == 3
    assert not any(word in line for line in kept for word in ("RetrievalAugmentation", "augment("))
    stripped = tmp_path / script.name
    stripped.write_text("\n".join(kept), encoding="utf-8")
    (tmp_path / "generated.py").write_text(
        (ROOT / "examples" / "generated.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert run(stripped) == run(script)


def test_the_guide_names_every_example():
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name in EXAMPLES:
        assert f"{name}.py" in text
