"""A run that was stopped: by Ctrl-C, by SIGTERM, by what watches it; and what may go on from its
checkpoint."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_training import CONFIG, toy_bank, toy_set

from raf_lite._interrupts import held_back
from raf_lite.bank import ExpressionBank
from raf_lite.captures.cameras import Camera
from raf_lite.training import Trainer

SHORT = CONFIG.with_(steps=120, checkpoint_every=1000)


def trainer(folder, config=SHORT, data=None, **options):
    return Trainer(data or toy_set(), config, folder, progress=False, **options)


def logged(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def same(a, b):
    return all(
        torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def stopped(folder, config=SHORT, **options):
    """A run that is stopped at step 50, where its first line is shown."""
    run = trainer(folder, config, **options)

    def stop(trainer, line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(watch=stop)
    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The checkpoint of a run that was stopped at step 50."""
    folder = tmp_path_factory.mktemp("stopped")
    stopped(folder)
    return folder / "checkpoint.safetensors"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_the_run_goes_on_to_the_same_bytes(tmp_path, number, capsys):
    whole = trainer(tmp_path / "whole").train()
    run = trainer(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as raised:
        run.train(watch=lambda trainer, line: os.kill(os.getpid(), number))
    assert number == signal.SIGINT or raised.value.code == 143
    assert run.step == 50 and "stopped at step 50 of 120" in "".join(capsys.readouterr())
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    resumed = trainer(tmp_path / "cut").train(resume=True)  # as after a restart of the kernel
    assert same(whole, resumed) and logged(tmp_path / "cut") == logged(tmp_path / "whole") == [50, 100, 120]
    assert not (tmp_path / "cut" / "checkpoint.safetensors").exists()


def test_the_cell_that_was_interrupted_is_run_again(tmp_path):
    whole = trainer(tmp_path / "whole").train()
    run = stopped(tmp_path / "cut")
    assert same(whole, run.train()) and logged(tmp_path / "cut") == [50, 100, 120]
    seconds = [
        json.loads(line)["seconds"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()
    ]
    assert seconds == sorted(seconds)
    assert same(whole, run.train()) and logged(tmp_path / "cut") == [
        50,
        100,
        120,
    ]  # a finished one stays as it is


def test_the_log_has_each_step_once(tmp_path):
    stopped(tmp_path)
    with open(
        tmp_path / "log.jsonl", "a"
    ) as log:  # what a run wrote that was killed after its last checkpoint
        log.write('{"step": 60, "seconds": 1.0}\n{"step": 1')
    trainer(tmp_path).train(resume=True)
    assert logged(tmp_path) == [50, 100, 120]


def test_the_command_line_stops_with_a_line_and_a_checkpoint(tmp_path):
    code = (
        "import sys, os, signal\nfrom raf_lite import cli\nfrom raf_lite.training import Trainer\ntake ="
        " Trainer._take_step\ndef step(self):\n    if self.step == 7: os.kill(os.getpid(), getattr(signal,"
        " sys.argv[1]))\n    return take(self)\nTrainer._take_step = step\nsys.exit(cli.main(['train',"
        f" {str(ROOT / 'data/mini_nersemble/001')!r}, '--preset', 'fast', '--gaussians', '300', '--out',"
        f" {str(tmp_path)!r}]))"
    )
    for name, status in (("SIGINT", 130), ("SIGTERM", 143)):
        (tmp_path / "checkpoint.safetensors").unlink(missing_ok=True)
        ended = subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == status and "Traceback" not in ended.stderr, ended.stderr
        assert "stopped at step 8 of 60" in ended.stdout + ended.stderr
        assert (tmp_path / "checkpoint.safetensors").exists()


def test_signals_are_held_back_once_and_only_where_python_takes_handlers():
    with pytest.raises(KeyboardInterrupt), held_back() as came:
        os.kill(os.getpid(), signal.SIGINT)
        assert came()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)  # a second one is not
    seen = []

    def elsewhere():
        with held_back() as came:
            seen.append((came(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, signal.default_int_handler)]


def moved_camera(data):
    pose = data.cameras[1].world_to_camera.copy()
    pose[0, 3] += 0.01
    first, second, *rest = data.cameras
    return replace(
        data, cameras=[first, Camera(second.serial, pose, second.K, second.width, second.height), *rest]
    )


def other_mask(data):
    masks = data.masks.copy()
    masks[3, 1, 16, 16] ^= 1
    return replace(data, masks=masks)


@pytest.mark.parametrize(
    "change",
    [
        other_mask,
        moved_camera,
        lambda data: replace(data, descriptors=data.descriptors + np.float32(1e-3)),
        lambda data: replace(data, names=[("EXP-2-eyes", t) for _, t in data.names]),
        lambda data: replace(data, neutral=2),
    ],
)
def test_a_checkpoint_of_other_data_is_refused_and_its_avatar_not_taken(tmp_path, checkpoint, change):
    shutil.copy(checkpoint, tmp_path)
    with pytest.raises(
        ValueError,
        match=r"checkpoint.safetensors belongs to a run on other frames, masks, cameras or another",
    ):
        trainer(tmp_path, data=change(toy_set())).train(resume=True)
    trainer(tmp_path / "own").avatar.save(
        tmp_path / "avatar.safetensors"
    )  # says that it is of the first data
    assert trainer(tmp_path)._is_finished() and not trainer(tmp_path, data=change(toy_set()))._is_finished()


def test_a_checkpoint_of_another_bank_is_refused(tmp_path):
    config = SHORT.with_(retrieval="centred")
    stopped(tmp_path, config, bank=toy_bank())
    bank = toy_bank()
    for other in (
        ExpressionBank.from_arrays(
            bank.descriptors, np.roll(bank.donors, 5)
        ),  # a donor corrected: other neighbours
        ExpressionBank.from_arrays(bank.descriptors + np.float32(0.1), bank.donors),
    ):
        with pytest.raises(ValueError, match="another bank"):
            trainer(tmp_path, config, bank=other).train(resume=True)
    trainer(tmp_path, config, bank=bank).train(resume=True)


def test_a_run_by_an_index_that_finds_other_neighbours_is_neither_resumed_nor_taken_for_finished(tmp_path):
    config, rows, donors = (
        CONFIG.with_(steps=60, retrieval="paper"),
        toy_bank().descriptors,
        toy_bank().donors,
    )

    def bank(index="IVF8,Flat", nprobe=1):
        made = ExpressionBank.from_arrays(rows, donors, index=index)
        if index != "Flat":
            made.index.nprobe = nprobe
        return made

    run = stopped(tmp_path, config, bank=bank())
    neighbours = run.augmentation.neighbours
    others = [trainer(tmp_path, config, bank=other) for other in (bank("Flat"), bank(nprobe=8))]
    for other in others:
        assert not np.array_equal(other.augmentation.neighbours, neighbours)
        with pytest.raises(ValueError, match="another bank or index; use them, another folder, or delete it"):
            other.train(resume=True)
    trainer(tmp_path, config, bank=bank()).train(resume=True)
    assert trainer(tmp_path, config, bank=bank())._is_finished()
    assert not any(other._is_finished() for other in others)


def test_a_checkpoint_of_other_settings_names_them(tmp_path, checkpoint):
    shutil.copy(checkpoint, tmp_path)
    with pytest.raises(
        ValueError, match=r"other settings \(seed, lr_means\); use them, another folder, or delete it$"
    ):
        trainer(tmp_path, SHORT.with_(seed=1, lr_means=0.1)).train(resume=True)


@pytest.mark.parametrize(
    "change",
    [
        "cut",
        "header",
        "no step",
        "step -1",
        "step 1.5",
        "step 10**9",
        "step true",
        "nan",
        "shape",
        "moment",
        "missing",
        "extra",
        "random",
    ],
)
def test_a_damaged_checkpoint_is_named_and_changes_nothing(tmp_path, checkpoint, change):
    shutil.copy(checkpoint, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    with safe_open(path, "pt") as f:
        header = json.loads(f.metadata()["raf_lite"])
    tensors = load_file(path)
    if change.startswith("step"):
        header["step"] = {"-1": -1, "1.5": 1.5, "10**9": 10**9, "true": True}[change.split()[1]]
    elif change == "no step":
        del header["step"]
    elif change == "nan":
        tensors["adam.0.exp_avg"][3] = torch.nan
    elif change == "shape":
        tensors["avatar.means"] = tensors["avatar.means"][:7].clone()
    elif change == "moment":
        tensors["adam.2.exp_avg_sq"] = tensors["adam.2.exp_avg_sq"][:7].clone()
    elif change == "missing":
        del tensors["adam.1.exp_avg"]
    elif change == "extra":
        tensors["adam.x.exp_avg"] = torch.zeros(2)
    elif change == "random":
        tensors["generator"] = tensors["generator"][:10].clone()
    save_file(tensors, path, metadata={"raf_lite": "[" if change == "header" else json.dumps(header)})
    if change == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    run = trainer(tmp_path)
    before = {k: v.clone() for k, v in run.avatar.state_dict().items()}
    with pytest.raises(ValueError, match=r"^\S+checkpoint.safetensors (is damaged|belongs|does not say).*; "):
        run.train(resume=True)
    assert run.step == 0 and all(torch.equal(v, before[k]) for k, v in run.avatar.state_dict().items())
    assert path.exists()
