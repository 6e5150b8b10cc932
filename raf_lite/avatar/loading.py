"""Several avatars from their files, under names that tell them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from raf_lite.avatar.gaussian_avatar import GaussianAvatar


def load_avatars(
    paths: Sequence[str | os.PathLike], device: str | torch.device | None = None
) -> dict[str, GaussianAvatar]:
    """Avatars by name, in the order of `paths`: a file's name without its ending, or its folder's where it is
    avatar.safetensors, as training writes it. device: where they are drawn (default: the GPU, where torch
    finds one).

    Raises ValueError where no path is given, where two get the same name, and as `GaussianAvatar.load`.
    """
    if not paths:
        raise ValueError("no avatar is named; give the avatar.safetensors of at least one")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    avatars: dict[str, GaussianAvatar] = {}
    for path in map(Path, paths):
        name = path.absolute().parent.name if path.stem == "avatar" else path.stem
        if name in avatars:
            raise ValueError(f"{path} is a second avatar called '{name}'; rename its file or its folder")
        avatars[name] = GaussianAvatar.load(path, device)
    return avatars
