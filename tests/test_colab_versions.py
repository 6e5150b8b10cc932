"""The widgets, and two lessons that are made of them, with the versions that Colab has, put in front of our
own."""

import os
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from packaging.requirements import Requirement

# What Colab has. The widgets' versions are put in front of ours here; the rest is too large for that, and
# `make colab` has all.
THERE = dict(
    re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tools" / "colab.txt").read_text(encoding="utf-8"), re.M)
)
COLAB = {name: THERE[name] for name in ("plotly", "ipywidgets", "anywidget", "ipython")}
# What these import that newer versions no longer need.
BESIDE = (
    "ipython_genutils==0.2.0",
    "tenacity==9.0.0",
    "backcall==0.2.0",
    "pickleshare==0.7.5",
    "decorator==5.1.1",
)
SAID = " ".join(COLAB.values())
VERSIONS = (
    "import plotly, ipywidgets, anywidget, IPython; print(plotly.__version__, ipywidgets.__version__, "
    "anywidget.__version__, IPython.__version__)"
)
SCRIPT = (
    VERSIONS
    + """
import sys
import types

import numpy as np
from raf_lite import Session
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.captures import open_capture
from raf_lite.course import trained_avatar
from raf_lite.manifest import find_data
from raf_lite.widgets import Own, explorer, player
from raf_lite.widgets.blinded import BlindTest, draw_trials
from raf_lite.widgets.mirror import mirror
from raf_lite.widgets.webcam import webcam

data, folder = find_data(), sys.argv[1]
bank = ExpressionBank.load(data / "bank", "blendshapes")
asked = []
sys.modules["google.colab"] = types.SimpleNamespace(output=types.SimpleNamespace(
    enable_custom_widget_manager=lambda: asked.append(True)))  # what the explorer has to ask Colab for
shown = explorer(bank, own=Own(bank.descriptors[:30]), weights=load_truth(data / "bank")["weights"])
assert asked == [True]
del sys.modules["google.colab"]
before = shown.strip.value
shown.number.value = 77
assert shown.row == 77 and shown.strip.value != before and shown.figure.data[3].x[0] == shown.spots[77, 0]
shown.colour.value = "error"
assert list(shown.get_state()["children"]) and shown.figure.to_plotly_json()["data"][0]["type"] == "scattergl"
test = BlindTest(bank, draw_trials(bank, 2, np.random.default_rng(0)), "me", folder + "/answers.csv")
for button in test.buttons:
    button.click()
assert "2 of 2 answered" in test.status.value
avatar = trained_avatar("baseline", Session("cpu", True))
capture = open_capture(data / "mini_nersemble" / "101")
played = player({"baseline": avatar}, sequences={"free": capture.descriptors("FREE", "blendshapes")[:5]})
assert played.get_state()["spark"] and "No widgets here" in repr(played)
recorder = webcam(folder + "/me.webm")
assert recorder.get_state() and "No widgets here" in repr(recorder)
live = mirror(avatar)
assert live.get_state() and "No widgets here" in repr(live)
print("all widgets made")
"""
)


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """An environment in whose Python those versions are found first."""
    target = tmp_path_factory.mktemp("colab")
    wanted = [f"{name}=={version}" for name, version in COLAB.items()]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--retries=1",
        "--timeout=10",
    ]
    pip = subprocess.run(
        [*command, "--no-deps", "--target", str(target), *wanted, *BESIDE], capture_output=True, text=True
    )
    if pip.returncode:
        pytest.skip(f"no package index here: {pip.stderr.strip().splitlines()[-1]}")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path[1:]])}


def test_nothing_asks_colab_for_other_versions():
    """pip leaves alone what is there and satisfies pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(r) for r in project["dependencies"] + [*extras["lessons"], *extras["encode"]]]
    nested = {extra for r in wanted if r.name == "raf_lite" for extra in r.extras}
    assert nested == {"captures"}
    wanted += map(Requirement, extras["captures"])
    assert {r.name for r in wanted} >= COLAB.keys() | {"torch", "numpy"}
    assert "jupyterlab" not in {r.name for r in wanted}, "Colab has its own notebooks"
    assert [str(r) for r in wanted if r.name in THERE and THERE[r.name] not in r.specifier] == []
    assert "3.13" in Requirement(f"python{project['requires-python']}").specifier


@pytest.mark.may_skip("needs a package index")
def test_every_widget(colab, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, env=colab
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[0] == SAID and run.stdout.splitlines()[-1] == "all widgets made"


@pytest.mark.may_skip("needs a package index")
@pytest.mark.parametrize("name, widgets", [("03_the_expression_bank", 2), ("08_comparison_videos", 1)])
def test_a_lesson_of_widgets(colab, tmp_path, name, widgets):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(VERSIONS))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # so that what is there later was made here
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=colab | {"RAF_FAST": "1"})
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs[0].text.strip() == SAID
    views = [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert len(views) == widgets
    assert not [
        o.text
        for o in outputs
        if o.output_type == "stream" and re.search(r"No widgets here|Traceback", o.text)
    ]
