"""No room, a read-only place, a folder where a file should be: a sentence, old files whole, nothing left
over."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from raf_lite._files import atomic_path, write_json

# In a process of its own, in which no file may grow beyond LIMIT bytes: what a full disk does to a writer.
CHILD = """
import json, os, resource, sys, traceback
from pathlib import Path
import numpy as np
from raf_lite import cli, Trainer
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank
from raf_lite.captures import open_capture, write_video
from raf_lite.export import write_basis, write_player, write_ply
from raf_lite.training import PRESETS, TrainingSet, training_set

DATA, OUT = Path(sys.argv[1]), Path(sys.argv[2])
os.environ["RAF_LITE_CACHE"] = str(OUT / "cache")
avatar = GaussianAvatar.load(DATA / "checkpoints" / "001-centred.safetensors")
bank = ExpressionBank.load(DATA / "bank")
capture = open_capture(DATA / "mini_nersemble" / "001")
config = PRESETS["fast"].with_(gaussians=3000)
data = TrainingSet.from_capture(capture, config, progress=False)
frames = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), np.uint8)

def from_disk():
    training_set.MEMORY_BYTES = 0
    return TrainingSet.from_capture(capture, config, progress=False)

cases = {
    "old.safetensors": lambda: avatar.save(OUT / "old.safetensors"),
    "bank": lambda: bank.save(OUT / "bank"),
    "film.mp4": lambda: write_video(OUT / "film.mp4", frames, 24),
    "basis": lambda: write_basis(avatar, OUT / "basis"),
    "player.html": lambda: write_player({"a": avatar}, OUT / "player.html", sequences={}),
    "head.ply": lambda: write_ply(avatar, avatar.descriptor_mean.numpy(), OUT / "head.ply"),
    "checkpoint": lambda: Trainer(data, config, OUT / "avatar", progress=False).train(),
    "frames": from_disk,
}
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for name, write in cases.items():
    try:
        write()
        said = ["nothing", ""]
    except BaseException as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps([name, *said]), flush=True)
trained = DATA / "checkpoints" / "001-centred.safetensors"
code = cli.main(["export", str(trained), "--ply", str(OUT / "cli.ply")])
print(json.dumps(["exit", code, ""]), flush=True)
"""


@pytest.mark.skipif(
    sys.platform == "win32", reason="it limits the size of files, which Windows has no call for"
)
def test_a_disk_without_room_is_a_sentence_and_leaves_what_was_there(tmp_path):
    (tmp_path / "old.safetensors").write_bytes(b"old")
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT / "data"), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAF_LITE_CACHE": str(tmp_path / "cache")},
    )
    said = {name: (kind, text) for name, kind, text in map(json.loads, ended.stdout.splitlines()[-9:])}
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-500:])  # above all no SIGBUS
    assert said.pop("exit") == (2, "") and "Traceback" not in ended.stderr
    assert (
        ended.stderr.strip()
        .splitlines()[-1]
        .startswith(f"raf-lite: {tmp_path / 'cli.ply'} cannot be written (")
    )
    for name, (kind, text) in said.items():
        assert (name, kind, text.rpartition("; ")[2]) == (
            name,
            "OSError",
            "make room on that disk, or name another place",
        )
        assert str(tmp_path) in text and " cannot be written (" in text
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    for path in (tmp_path / "file" / "a.json", tmp_path / "folder", tmp_path / ("n" * 300 + ".json")):
        with pytest.raises(
            OSError, match=r" cannot be written \(.*\); (name another place|give a shorter name)"
        ) as raised:
            write_json(path, 1)
        assert str(raised.value).startswith(str(path))
    assert (tmp_path / "folder" / "sub").is_dir() and (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permissions of a folder of this kind")
@pytest.mark.parametrize(
    "words",
    [
        ["export", "data/checkpoints/001-centred.safetensors", "--ply", "LOCKED/x.ply"],
        ["train", "data/mini_nersemble/001", "--preset", "fast", "--out", "LOCKED/me"],
        ["train", "data/mini_nersemble/001", "--preset", "fast", "--out", "LOCKED"],
        ["encode", "LOCKED/me.mp4"],
        ["bank", "add", "LOCKED/me.mp4", "--bank", "LOCKED/bank"],
    ],
    ids=lambda words: " ".join(words[::3]),
)
def test_a_folder_that_may_not_be_written_to(tmp_path, words):
    locked = tmp_path / "locked"
    locked.mkdir()
    shutil.copy(ROOT / "data/mini_nersemble/001/sequences/FREE/images/cam_222200037.mp4", locked / "me.mp4")
    locked.chmod(0o555)
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    try:
        ended = subprocess.run(
            [
                *drop,
                sys.executable,
                "-m",
                "raf_lite.cli",
                *(word.replace("LOCKED", str(locked)) for word in words),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    finally:
        locked.chmod(0o755)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert ended.stderr.strip().endswith(
        "cannot be written (Permission denied); name another place, or let yourself write there"
    )


def test_an_error_of_another_file_is_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_path(tmp_path / "a.npy") as tmp:
        np.save(tmp, np.load(Path("/elsewhere.npy")))
    with (
        pytest.raises(PermissionError, match=r"^\[Errno 13\] denied: '/elsewhere/b'"),
        atomic_path(tmp_path / "a.npy"),
    ):
        raise PermissionError(13, "denied", "/elsewhere/b")
    assert list(tmp_path.iterdir()) == []
