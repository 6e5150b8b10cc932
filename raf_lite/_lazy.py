"""Names that a package offers and imports only when one is asked for (PEP 562), so that importing the package
stays light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    homes: by name, the module inside the package that holds it. No module may bear the name of what it holds:
    once imported, it would stand in the package in its stead.

    >>> find, names = attach("raf_lite", {"Camera": "captures"})
    >>> find("Camera").__name__, "Camera" in names()
    ('Camera', True)
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return find, names
