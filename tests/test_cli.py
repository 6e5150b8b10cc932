"""The command line: thin, and errors of ours are one line."""

import importlib.metadata
import json
import shutil
from types import SimpleNamespace

import pytest

from raf_lite.cli import main
from raf_lite.manifest import verify_manifest, write_manifest


def test_verify_reports_what_changed(tmp_path, capsys):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "a.npz").write_bytes(b"one")
    write_manifest(tmp_path, origin={"bank": "made by a test"}, licence="none", conventions={})
    assert main(["data", "verify", str(tmp_path)]) == 0
    (tmp_path / "bank" / "a.npz").write_bytes(b"two")
    (tmp_path / "bank" / "b.npz").write_bytes(b"new")
    assert verify_manifest(tmp_path) == ["bank/b.npz is not listed", "bank/a.npz differs from what was built"]
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert "2 problem(s)" in capsys.readouterr().out


def test_manifest_counts_bytes_and_refuses_unknown_folders(tmp_path):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "a.npz").write_bytes(b"12345")
    write_manifest(tmp_path, origin={"bank": "x"}, licence="l", conventions={"c": "d"})
    manifest = json.loads((tmp_path / "MANIFEST.json").read_text())
    assert manifest["total_bytes"] == 5 and manifest["files"][0]["path"] == "bank/a.npz"
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "a").write_bytes(b"1")
    with pytest.raises(ValueError, match="'stray'"):
        write_manifest(tmp_path, origin={"bank": "x"}, licence="l", conventions={})


def test_our_errors_are_one_line_and_status_2(tmp_path, capsys):
    assert main(["data", "verify", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("raf-lite: ") and err.count("\n") == 1 and "Traceback" not in err


def test_doctor_names_versions_device_and_data(capsys):
    main(["doctor"])
    out = capsys.readouterr().out
    for word in ("torch", "numba", "faiss-cpu", "jupyterlab", "anywidget", "device", "disk", "rig", "encoder", "data"):
        assert word in out


def test_doctor_says_how_to_mend(capsys, monkeypatch):
    version = importlib.metadata.version

    def lacking(name):
        if name in ("mediapipe", "ipywidgets"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", lacking)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=300_000_000))
    main(["doctor"])
    out = capsys.readouterr().out
    assert "mediapipe   not installed; only needed to encode new videos: make setup" in out
    assert "ipywidgets  not installed; the lessons need it: make setup" in out
    assert "disk        0.3 GB free here; free at least 1 GB before you train" in out


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "demo" in capsys.readouterr().out
