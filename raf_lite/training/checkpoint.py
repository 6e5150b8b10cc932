"""A run that was stopped, in one file: JSON in the header of a safetensors file, and every tensor that
changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from raf_lite._files import parse_json, write_tensors

MEND = "delete it and train from the start"


def write_checkpoint(path: Path, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write `header` (plain values) and `tensors`, atomically."""
    write_tensors(path, tensors, {"raf_lite": json.dumps(dict(header))})


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a checkpoint. Raises FileNotFoundError, or ValueError for a damaged one and for
    numbers that are not finite."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise FileNotFoundError(f"there is no checkpoint {path}; train from the start")
    try:
        with safe_open(path, "pt") as f:
            header = parse_json((f.metadata() or {})["raf_lite"], dict, "its header")
            # Copies: Windows neither replaces nor deletes a file that tensors still look into.
            tensors = {name: f.get_tensor(name).clone() for name in f.keys()}
        broken = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}); {MEND}") from error
    if broken is not None:
        raise ValueError(f"{path} is damaged ('{broken}' holds values that are not finite); {MEND}")
    return header, tensors
