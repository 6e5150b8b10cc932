"""The command line: thin and quick, its options are those of the functions behind it, and errors of ours are
one line."""

import ast
import dataclasses
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from conftest import ROOT

from raf_lite import _install
from raf_lite.avatar import GaussianAvatar
from raf_lite.captures import read_video
from raf_lite.cli import avatars, captures, main
from raf_lite.cli.commands import COMMANDS, parse
from raf_lite.manifest import verify_manifest, write_manifest
from raf_lite.study.plans import PLANS
from raf_lite.training import PRESETS, TrainConfig, config

HEAVY = ("torch", "numba", "faiss", "pandas", "av", "numpy", "scipy", "mediapipe")


def said(capsys):
    """What was printed, without frames and line breaks."""
    return " ".join("".join(capsys.readouterr()).translate(str.maketrans("│╭╮╰╯─•", "       ")).split())


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
    assert (
        f"2 problem(s); copy that folder again, or run `raf-lite data build --out {tmp_path}`"
        in capsys.readouterr().out
    )


def test_the_shipped_bank_is_the_one_of_train(tmp_path, monkeypatch, capsys):
    """Wherever the data are; and without retrieval nobody asks."""
    (tmp_path / "MANIFEST.json").write_text("{}")
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path))
    command = ["train", str(tmp_path / "capture"), "--out", str(tmp_path / "out")]
    assert (
        main([*command, "--retrieval", "centred"]) == 2 and str(tmp_path / "bank") in capsys.readouterr().err
    )
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


@pytest.mark.parametrize(
    "words, wrong",
    [
        (
            ["export", "AVATAR"],
            "nothing says what to write; give at least one of --ply, --glb, --basis, --sequence and --player",
        ),
        (
            ["export", "AVATAR", "--ply", "x.ply", "--relative", "mean"],
            "what is taken from a video; name it with --video",
        ),
        (
            ["export", "AVATAR", "--ply", "x.ply", "--frame", "0"],
            "what is taken from a video; name it with --video",
        ),
        (["export", "AVATAR", "--sequence", "x"], "a sequence needs a driver; name one with --video"),
        (["export", "AVATAR", "AVATAR", "--player", "x.html"], "a second avatar called '001-baseline'"),
        (["encode", "a.mp4", "b.mp4", "--out", "c.npz"], "--out names one file for 2 videos; leave it out"),
        (["evaluate", "AVATAR", "--capture", "nowhere"], "there is no folder nowhere"),
        (
            ["video", "AVATAR", "--capture", "CAPTURE", "--drivers", "CAPTURE"],
            "no CROSS sequence 'FREE' of drivers 001",
        ),
        (["export", "AVATAR", "--ply", "INSIDE"], "cannot be written ("),  # a file where a folder must be
    ],
)
def test_what_cannot_be_done_is_one_sentence(data_dir, words, wrong, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    avatar = data_dir / "checkpoints" / "001-baseline.safetensors"
    places = {"AVATAR": avatar, "INSIDE": avatar / "x.ply", "CAPTURE": data_dir / "mini_nersemble" / "001"}
    assert main([str(places.get(word, word)) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("raf-lite: ") and err.count("\n") == 1 and wrong in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- what can be typed


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_tells_every_command_and_option(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    text = said(capsys)
    assert end.value.code == 0
    if not name:
        assert all(command.split()[0] in text for command in COMMANDS)
        return
    command = COMMANDS[name]
    assert " ".join(inspect.getdoc(command).split("Args:")[0].split()) in text
    for option in inspect.signature(command).parameters:
        if name == "train" and option == "settings":
            continue
        told = re.search(rf"^ +{option}:\s(.+)$", command.__doc__, re.M)
        assert told, f"{name}: the docstring says nothing of {option}"
        assert " ".join(told[1].split()) in text


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_of_training_is_an_option_with_its_docstring_and_the_presets_value(preset, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--preset", preset, "--help"])
    text = said(capsys)
    (body,) = (
        node.body
        for node in ast.parse(Path(config.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    docstrings = {
        body[k - 1].target.id: node.value.value
        for k, node in enumerate(body)
        if isinstance(node, ast.Expr) and isinstance(body[k - 1], ast.AnnAssign)
    }
    assert list(docstrings) == [field.name for field in dataclasses.fields(TrainConfig)]
    for name, value in PRESETS[preset].as_dict().items():
        kind = r"(INT|FLOAT|STR|\{basis,mlp\})"
        told = re.escape(" ".join(f"{docstrings[name]} (default: {value})".split()))
        option = f"--{name.replace('_', '-')} {kind}"
        if isinstance(value, bool):  # what the preset has on is switched off, and the other way round
            option = f"--{'no-' if value else ''}{name.replace('_', '-')}"
        assert re.search(f"{option} {told}", text), name


def test_options_of_training_change_the_presets_settings():
    call = parse(
        "train capture --out me --retrieval centred --preset=fast --retrieval-p 0.5 --seed 3".split()
    )
    assert call.func is avatars.train and call.keywords["settings"] == PRESETS["fast"].with_(
        retrieval="centred", retrieval_p=0.5, seed=3
    )
    assert parse(["train", "capture", "--out", "me"]).keywords["settings"] == PRESETS["cpu"]
    for line, rides in (
        ("me.mp4", True),
        ("me.mp4 --no-landmark-motion", False),
        ("capture --landmark-motion", True),
    ):
        settings = parse(["train", *line.split(), "--out", "me"]).keywords["settings"]
        assert settings.landmark_motion is rides, line


def test_the_presets_are_those_that_can_be_typed():
    assert list(get_args(avatars.Preset)) == list(PRESETS)


def test_commands_that_the_readme_names_are_as_typed_there():
    lines = re.findall(
        r"^ {4}(?:\.venv/bin/)?raf-lite (.+?)(?:  +#.*)?$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.M,
    )
    calls = [parse(line.split()) for line in lines]
    assert {call.func for call in calls} >= {
        captures.check,
        captures.encode,
        captures.bank_add,
        avatars.train,
        avatars.drive,
        avatars.evaluate,
        avatars.video,
        avatars.export,
        avatars.submit,
    }
    held = parse("drive AVATAR me.mp4 --relative 0 --hold-head".split()).keywords  # lesson 09
    assert held["relative"] == 0 and held["hold_head"] is True
    assert parse("drive AVATAR me.mp4 --relative mean".split()).keywords["relative"] == "mean"
    assert parse("submit a A b B".split()).keywords["others"] == ((Path("b"), Path("B")),)


def test_the_plans_stand_in_the_help_of_study_run():
    named = re.search(r"One of (.+?)\.", " ".join(COMMANDS["study run"].__doc__.split()))[1]
    assert named.split(", ") == list(PLANS)


@pytest.mark.parametrize(
    "words, wrong",
    [
        (["dance"], "dance"),
        (["data"], "Expected one of {fetch, rig"),
        (["train", "x"], "--out"),
        (["bank", "add", "x"], "--bank"),
        (["submit", "avatar"], "CAPTURE"),
        (["encode"], "VIDEO"),
        (["train", "x", "--out", "y", "--preset", "huge"], "'huge'"),
        (["train", "x", "--out", "y", "--field", "cube"], "'cube'"),
        (["drive", "a", "b", "--relative", "now"], "'now'"),
        (["train", "x", "--out", "y", "--views", "0"], "nothing can be trained with views = 0"),
        (["train", "x", "--out", "y", "--p", "0.2"], "--p"),
    ],
)
def test_a_mistake_in_typing_is_told_and_ends_with_status_2(words, wrong, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and wrong in said(capsys)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["dance"], ["train", "x", "--oot", "y"]])
def test_help_and_mistakes_wait_for_no_heavy_import(words):
    code = (
        f"import sys\ntry:\n    from raf_lite.cli import main\n    main({words})\nfinally:\n"
        f"    print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr


def test_the_doctor_starts_without_a_heavy_import():
    code = (
        "import sys, raf_lite.cli\nfrom raf_lite.course import doctor\ndoctor.CHECKS.clear()\n"
        f"raf_lite.cli.main(['doctor'])\nprint([name for name in {HEAVY} if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        ).stdout.splitlines()[-1]
        == "[]"
    )


def test_a_clone_that_was_not_installed_again_is_one_sentence():
    code = "import sys; sys.modules['tyro'] = None; from raf_lite.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("raf-lite: tyro") and done.stderr.count("\n") == 1
    assert _install.how_to_install() in done.stderr


# ---------------------------------------------------------------------------------------- commands that run


def test_training_runs_with_settings_of_its_own(data_dir, tmp_path):
    command = [
        "train",
        str(data_dir / "mini_nersemble" / "001"),
        "--out",
        str(tmp_path),
        "--preset",
        "fast",
        "--steps",
        "2",
        "--gaussians",
        "300",
    ]
    assert main(command) == 0
    assert len(GaussianAvatar.load(tmp_path / "avatar.safetensors").means) == 300
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 2


@pytest.fixture
def shipped(data_dir):
    """Words that name the shipped avatars, their capture, and one driver's."""
    files = [data_dir / "checkpoints" / f"001-{name}.safetensors" for name in ("baseline", "centred")]
    people = data_dir / "mini_nersemble"
    return [
        *map(str, files),
        "--capture",
        str(people / "001"),
        "--drivers",
        *(str(people / p) for p in ("101", "102", "103")),
    ]


def test_evaluate_grades_the_shipped_avatars(shipped, tmp_path, capsys):
    assert (
        main(
            [
                "evaluate",
                *shipped,
                "--out",
                str(tmp_path / "metrics.json"),
                "--size",
                "64",
                "--frame-step",
                "60",
            ]
        )
        == 0
    )
    wrote, printed = json.loads((tmp_path / "metrics.json").read_text()), capsys.readouterr().out
    assert wrote["baseline"] == "001-baseline" and wrote["size"] == 64
    rows = {(row["group"], row["avatar"]): row for row in wrote["table"]}
    assert rows["cross", "001-centred"]["mae_face"] < rows["cross", "001-baseline"]["mae_face"]
    assert (
        f"{rows['cross', '001-centred']['psnr']:.3f}" in printed and str(tmp_path / "metrics.json") in printed
    )


def test_video_films_the_shipped_avatars(shipped, tmp_path, capsys):
    out = tmp_path / "comparison.mp4"
    assert main(["video", *shipped, "--out", str(out), "--size", "64", "--frames", "2"]) == 0
    assert (
        read_video(out).shape == (6, 64 + 24, 6 * 64, 3) and str(out) in capsys.readouterr().out
    )  # three drivers, six panels


def test_a_python_or_a_package_that_cannot_work_is_one_sentence(monkeypatch, capsys):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "14.0.1" if name == "av" else real(name))
    assert main(["encode", "film.mp4"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("raf-lite: av 14.0.1 is not >=17; run `") and said.count("\n") == 1
    monkeypatch.setattr(
        _install, "sys", SimpleNamespace(version_info=(3, 10, 13, "final", 0), executable=sys.executable)
    )
    assert main(["encode", "film.mp4"]) == 2
    assert "raf_lite needs Python 3.11, 3.12 or 3.13, and " in capsys.readouterr().err
