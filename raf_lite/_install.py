"""What is installed beside raf_lite, and the sentence that mends what is not: `make setup` in a clone, pip
elsewhere."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLAB = "COLAB_RELEASE_TAG"  # set in every Colab runtime
OLDEST_PYTHON, TOO_NEW_PYTHON = (3, 11), (3, 14)


def clone() -> Path | None:
    """The folder of the clone that this package is run from; None where raf_lite was installed as a wheel."""
    folder = Path(__file__).parent.parent
    return (
        folder
        if (folder / "pyproject.toml").is_file() and (folder / "tools" / "setup.sh").is_file()
        else None
    )


def how_to_install(*extras: str) -> str:
    """What to do, here, to have raf_lite with `extras` and everything that they need: half a sentence.

    In a clone that is `make setup`, unless there is no make or the Python is Colab's.
    """
    folder = clone()
    if folder is not None and shutil.which("make") and COLAB not in os.environ:
        return f"run `make setup` in the repository's folder, {folder}"
    wanted = f"[{','.join(extras)}]" if extras else ""
    what = f'-e "{folder}{wanted}"' if folder is not None else f'"raf_lite{wanted}"'
    return f"run `{Path(sys.executable).name} -m pip install {what}`"


def check_python() -> None:
    """Raise ImportError, in one sentence, where the Python is too old."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise ImportError(
            f"raf_lite needs Python 3.11, 3.12 or 3.13, and {sys.executable} is "
            f"{'.'.join(map(str, sys.version_info[:3]))}; use another one"
        )


def check_installation() -> None:
    """Raise ImportError, in one sentence, where a package has a version that does not work with ours."""
    try:
        wrong = unmet("captures", "lessons", "encode", missing=False)
    except importlib.metadata.PackageNotFoundError:
        return  # run from its folder alone, which is fine
    if wrong:
        raise ImportError(f"{'; '.join(dict.fromkeys(wrong))}; {how_to_install('captures')}")


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports of what only `extra` brings: a missing package becomes an ImportError that names it and
    the extra.

    with needs("captures"):
        import av
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "raf_lite"):
            raise
        raise ImportError(
            f"{package} is not installed, which belongs to raf_lite's extra '{extra}'; "
            f"{how_to_install(extra)}",
            name=package,
        ) from error


class deferred:
    """A module that only `extra` brings, imported when something of it is asked for; without it, ImportError
    as from `needs`."""

    def __init__(self, module: str, extra: str) -> None:
        self._module, self._extra = module, extra

    def __getattr__(self, name: str) -> Any:
        with needs(self._extra):
            return getattr(importlib.import_module(self._module), name)


def unmet(*extras: str, missing: bool = True) -> list[str]:
    """What raf_lite, with `extras`, needs and this Python lacks or has in a version outside the bounds, a few
    words each.

    missing: whether packages that are not here count, or only those in a wrong version.
    Raises importlib.metadata.PackageNotFoundError where raf_lite itself is not installed.
    """
    importlib.metadata.version("raf_lite")
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return ["packaging is missing"] * missing
    found, asked, wanted = [], set(), ["", *extras]
    while wanted:
        extra = wanted.pop(0)
        if extra not in asked:
            asked.add(extra)
            for need in map(Requirement, importlib.metadata.requires("raf_lite") or []):
                mine = (
                    f'extra == "{extra}"' in str(need.marker) if extra else "extra ==" not in str(need.marker)
                )
                if not mine or (need.marker and not need.marker.evaluate({"extra": extra})):
                    continue
                if need.name in ("raf_lite", "raf-lite"):
                    wanted += need.extras
                    continue
                try:
                    version = importlib.metadata.version(need.name)
                except importlib.metadata.PackageNotFoundError:
                    found += [f"{need.name} is missing"] * missing
                    continue
                if not need.specifier.contains(version, prereleases=True):
                    found.append(f"{need.name} {version} is not {need.specifier}")
    return found
