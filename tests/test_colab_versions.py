"""The widgets with the versions that Colab has: put in front of this environment's own, in a Python of their own."""

import os
import subprocess
import sys

import pytest

# What Colab had in August 2026, and what the first two import that newer versions no longer need.
COLAB = ("plotly==5.24.1", "ipywidgets==7.7.1", "anywidget==0.9.21", "ipython_genutils==0.2.0", "tenacity==9.0.0")
SCRIPT = '''
import sys

import anywidget, ipywidgets, plotly
versions = plotly.__version__, ipywidgets.__version__, anywidget.__version__
assert versions == ("5.24.1", "7.7.1", "0.9.21"), versions
import numpy as np
from raf_lite import Session
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.captures import open_capture
from raf_lite.course import trained_avatar
from raf_lite.manifest import find_data
from raf_lite.viewing import Own, explorer, player
from raf_lite.viewing.blinded import BlindTest, draw_trials
from raf_lite.viewing.webcam import webcam

data, folder = find_data(), sys.argv[1]
bank = ExpressionBank.load(data / "bank", "blendshapes")
shown = explorer(bank, own=Own(bank.descriptors[:30]), weights=load_truth(data / "bank")["weights"])
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
print("all widgets made with plotly", plotly.__version__, "and ipywidgets", ipywidgets.__version__)
'''


@pytest.mark.may_skip("needs a package index")
def test_the_widgets_with_colabs_versions(tmp_path):
    target = tmp_path / "colab"
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target",
                          str(target), *COLAB], capture_output=True, text=True)
    if pip.returncode:
        pytest.skip(f"no package index here: {pip.stderr.strip().splitlines()[-1]}")
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path[1:]])})
    assert run.returncode == 0, run.stdout + run.stderr
    assert "all widgets made with plotly 5.24.1 and ipywidgets 7.7.1" in run.stdout
