"""Every command of `raf-lite`, and how a command line becomes a call of one."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from tyro.conf import DisallowNone, FlagCreatePairsOff, PositionalMetavarFromFieldName
from tyro.extras import SubcommandApp

from raf_lite._names import VIDEOS
from raf_lite.cli import avatars, captures, data, study
from raf_lite.training import PRESETS, TrainConfig

# As typed. A command's signature is its options and its docstring their help; it imports what it needs when
# it runs, so that help and typing mistakes come at once.
COMMANDS: dict[str, Callable[..., int]] = {
    "data fetch": data.fetch,
    "data rig": data.rig,
    "data metrics": data.metrics,
    "data build": data.build,
    "data prior": data.prior,
    "data checkpoints": data.checkpoints,
    "data verify": data.verify,
    "demo": avatars.demo,
    "check": captures.check,
    "encode": captures.encode,
    "bank add": captures.bank_add,
    "train": avatars.train,
    "drive": avatars.drive,
    "evaluate": avatars.evaluate,
    "video": avatars.video,
    "export": avatars.export,
    "submit": avatars.submit,
    "study run": study.run,
    "study select": study.select,
    "study retrieval": study.retrieval,
    "study status": study.status,
    "study report": study.report,
    "doctor": data.doctor,
}
GROUPS = {
    "data": "The rig, the shipped data, and networks that grade.",
    "bank": "Grow an expression bank.",
    "study": "When does retrieval help: runs, resumable, and their report; needs the rig and MediaPipe.",
}


def _bound(command: Callable[..., int]) -> Callable[..., functools.partial[int]]:
    """The command with its options filled in instead of run: parsing is tyro's, running and its errors are
    `main`'s."""

    @functools.wraps(command)
    def bind(*args: object, **options: object) -> functools.partial[int]:
        return functools.partial(command, *args, **options)

    return bind


def _preset(argv: Sequence[str]) -> TrainConfig:
    """The settings of the preset that a command line names, which it may change one by one, or else of the
    one for what it trains on; a wrong name is left to tyro."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?", default=None)
    named, rest = first.parse_known_args(argv)
    film = any(Path(word).suffix.lower() in VIDEOS for word in rest)
    return PRESETS.get(named.preset or ("video" if film else "cpu"), PRESETS["cpu"])


def _app(argv: Sequence[str]) -> SubcommandApp:
    """COMMANDS as tyro has them, with the defaults that `argv` asks for."""
    top, groups = SubcommandApp(), {}
    for name, command in COMMANDS.items():
        bound = _bound(command)
        if command is avatars.train:
            bound = functools.partial(bound, settings=_preset(argv))
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            groups[group] = top.command(SubcommandApp(), name=group, help=GROUPS[group])
        groups.get(group, top).command(bound, name=last)
    return top


def parse(argv: Sequence[str]) -> functools.partial[int]:
    """The call that a command line asks for. Help, and a mistake in it, end Python (SystemExit) as with
    argparse."""
    return _app(argv).cli(
        prog="raf-lite",
        description="Thin doors to the package, for machines without a notebook.",
        args=argv,
        config=(DisallowNone, FlagCreatePairsOff, PositionalMetavarFromFieldName),
    )
