"""The command line: thin, and errors of ours are one line."""

import importlib.metadata
import json

import pytest

from raf_lite import _install
from raf_lite.cli import main
from raf_lite.manifest import verify_manifest, write_manifest


def test_verify_reports_what_changed(tmp_path, capsys):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "a.npz").write_bytes(b"one")
    write_manifest(tmp_path, origin={"bank": "made by a test"}, licence="none", conventions={})
    assert main(["data", "verify", str(tmp_path)]) == 0
    (tmp_path / "bank" / "b.npz").write_bytes(b"new")
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert "1 problem(s); remove what is not listed" in capsys.readouterr().out
    (tmp_path / "bank" / "a.npz").write_bytes(b"two")
    assert verify_manifest(tmp_path) == ["bank/b.npz is not listed", "bank/a.npz differs from what was built"]
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert f"2 problem(s); copy that folder again, or run `raf-lite data build --out {tmp_path}`" in capsys.readouterr().out


def test_the_shipped_bank_is_the_one_of_train(tmp_path, monkeypatch, capsys):
    """Wherever the data are; and without retrieval nobody asks."""
    (tmp_path / "MANIFEST.json").write_text("{}")
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path))
    command = ["train", str(tmp_path / "capture"), "--out", str(tmp_path / "out")]
    assert main([*command, "--retrieval", "centred"]) == 2 and str(tmp_path / "bank") in capsys.readouterr().err
    assert main(command) == 2 and str(tmp_path / "capture") in capsys.readouterr().err


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


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "demo" in capsys.readouterr().out


def test_a_python_or_a_package_that_cannot_work_is_one_sentence(monkeypatch, capsys):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "14.0.1" if name == "av" else real(name))
    assert main(["encode", "film.mp4"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("raf-lite: av 14.0.1 is not >=17; run `") and said.count("\n") == 1
    monkeypatch.setattr(_install.sys, "version_info", (3, 10, 13, "final", 0))
    assert main(["encode", "film.mp4"]) == 2
    assert "raf_lite needs Python 3.11, 3.12 or 3.13, and " in capsys.readouterr().err
