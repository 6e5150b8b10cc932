"""RAF in a loop that is conditioned on FLAME: 100 expression and 3 jaw numbers choose a blend of learned
offsets.

    python examples/flame_loop.py          # as it was
    python examples/flame_loop.py --raf    # with the three lines that are marked RAF

The numbers of a time step are kept apart, as GaussianAvatars keeps them, and must be replaced together: an
expression of one stranger with the jaw of another is nobody's face.
"""

import argparse

import numpy as np
import torch
from generated import POINTS, Log, people
from torch import nn

from raf_lite.retrieval import RetrievalAugmentation  # RAF

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--raf", action="store_true", help="replace some descriptors by neighbours from the bank")
parser.add_argument("--steps", type=int, default=400)
args = parser.parse_args()

data = people(103, sizes=np.where(np.arange(103) < 100, 1.0, 0.1))  # the jaw's are radians
flame_param = {
    "expr": torch.from_numpy(data.descriptors[:, :100]),
    "jaw_pose": torch.from_numpy(data.descriptors[:, 100:]),
}
frames, neutral = torch.from_numpy(data.frames), torch.from_numpy(data.neutral)
torch.manual_seed(0)
bases = 16
coefficients = nn.Sequential(nn.Linear(103, 64), nn.ReLU(), nn.Linear(64, bases))
basis = nn.Parameter(1e-2 * torch.randn(bases, POINTS * 3))
optimizer = torch.optim.Adam([*coefficients.parameters(), basis], 2e-3)
batches, swaps = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
log = Log()


def avatar(descriptors):  # [B, 103] -> [B, N, 3]
    return neutral + (coefficients(descriptors) @ basis).view(-1, POINTS, 3)


def select(timestep):  # [B] -> [B, 103]
    return torch.cat([flame_param["expr"][timestep], flame_param["jaw_pose"][timestep]], 1)


# The key "weighted" divides each number by how much people differ in it, so that radians and coefficients
# count alike.
raf = RetrievalAugmentation(data.bank, p=0.2 * args.raf, k=16, key="weighted").fit(select(...))  # RAF

for _ in range(args.steps):
    timestep = torch.randint(len(frames), (8,), generator=batches)
    descriptors = select(timestep)
    descriptors, _ = raf.augment(descriptors, swaps, index=timestep)  # RAF
    loss = (avatar(descriptors) - frames[timestep]).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    log.step(descriptors, select(timestep), frames[timestep], loss.item())

with torch.no_grad():
    log.finish(avatar(torch.from_numpy(data.driver_descriptors)), data.driver_frames)
