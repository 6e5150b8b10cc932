"""RAF in a loop like Gaussian Head Avatar's: 64 expression coefficients of a BFM fit say where an MLP moves
canonical points.

    python examples/gha_loop.py            # as it was
    python examples/gha_loop.py --raf      # with the three lines that are marked RAF
"""

import argparse

import torch
from generated import Log, people
from torch import nn

from raf_lite.retrieval import RetrievalAugmentation  # RAF


class ExpressionDeformation(nn.Module):
    """GHA's exp_deform in small: the position of a point, encoded, and the coefficients in; the point's
    offset out."""

    def __init__(self, coefficients: int = 64, hidden: int = 96):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(27 + coefficients, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 3),
            nn.Tanh(),
        )

    def forward(self, points, exp_coeff):  # [N, 3], [B, 64] -> [B, N, 3]
        waves = [wave(points * 2**k) for k in range(4) for wave in (torch.sin, torch.cos)]
        encoded = torch.cat([points, *waves], 1).expand(len(exp_coeff), -1, -1)
        return self.mlp(torch.cat([encoded, exp_coeff[:, None].expand(-1, len(points), -1)], 2))


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--raf", action="store_true", help="replace some descriptors by neighbours from the bank")
parser.add_argument("--steps", type=int, default=400)
args = parser.parse_args()

data = people(64)
descriptors, frames, neutral = (
    torch.from_numpy(data.descriptors),
    torch.from_numpy(data.frames),
    torch.from_numpy(data.neutral),
)
torch.manual_seed(0)
model = ExpressionDeformation()
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
batches, swaps = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
log = Log()

raf = RetrievalAugmentation(data.bank, p=0.2 * args.raf, k=16, key="centred").fit(descriptors)  # RAF

for _ in range(args.steps):
    exp_id = torch.randint(len(descriptors), (8,), generator=batches)
    batch = {"exp_coeff": descriptors[exp_id], "points": frames[exp_id], "exp_id": exp_id}
    batch["exp_coeff"], _ = raf.augment(batch["exp_coeff"], swaps, index=exp_id)  # RAF
    loss = (neutral + model(neutral, batch["exp_coeff"]) - batch["points"]).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    log.step(batch["exp_coeff"], descriptors[exp_id], batch["points"], loss.item())

with torch.no_grad():
    log.finish(neutral + model(neutral, torch.from_numpy(data.driver_descriptors)), data.driver_frames)
