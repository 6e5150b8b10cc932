"""Learn the motion prior from the shipped bank: its donors' descriptors, and what their faces truly did.

The rig moves linearly in its weights, so the best K motions for what the donors did are known (principal
components of displacement), and both networks are taught on their own what they have to say: the trunk the
motions at any place of any head, the branch the coefficients of any descriptor. Some minutes on one core.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm.auto import tqdm

import raf_lite
from raf_lite._files import sha256_file
from raf_lite.avatar.prior import GONE, PRIOR, MotionPrior
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.captures.formats.plain import IBUG68
from raf_lite.descriptors import LandmarkPCA
from raf_lite.manifest import update_manifest
from raf_lite.rig.head import HeadModel
from raf_lite.rig.pack import load_pack

ORIGIN = (
    "learned by `raf-lite data prior` from the bank's landmark descriptors and true expression weights, and"
    " from positions on random heads of ICT-FaceKit at commit da5f95a607f5e6b37755b38d3385d7f2853732e5"
)
SURFACE = 0.15  # cm that most positions lie off the skin, as Gaussians do; some lie farther
STILL = 3.0  # cm off the skin from which nothing moves


@dataclass(frozen=True)
class PriorSettings:
    """How the prior is learned. identities: random heads that positions are taken from. positions, rows: of a
    step of the trunk and of the branch."""

    components: int = 24
    hidden: int = 128
    frequencies: int = 6
    identities: int = 200
    trunk_steps: int = 4000
    branch_steps: int = 4000
    positions: int = 1536
    rows: int = 384
    noise: float = 0.05
    """Deviation of noise on descriptors, in those of each dimension."""
    seed: int = 0


@dataclass(frozen=True)
class Motions:
    """What V points of the rig do. basis: [K, V, 3], cm by one unit of each coefficient. energy: [K], mean
    square of what each moves over the bank. of_weights: [57, K], from weights less the neutral's to
    coefficients."""

    basis: np.ndarray
    energy: np.ndarray
    of_weights: np.ndarray


def principal_motions(expression: np.ndarray, share: np.ndarray, weights: np.ndarray, k: int) -> Motions:
    """The k motions by which faces of weights [R, 57] (less the neutral's) are told best, in mean square.

    expression: [57, V, 3] of the rig. share: [V], how much a point counts, 1 in sum. Coefficients of the
    weights have mean square 1 and are uncorrelated, so that an error in one costs its motion's energy.
    """
    square = weights.T @ weights / len(weights)
    root = np.linalg.cholesky(square + 1e-6 * np.trace(square) * np.eye(len(square)))
    flat = expression.reshape(len(expression), -1).astype(np.float64)
    gram = (flat * np.repeat(share, 3)) @ flat.T
    energy, vectors = np.linalg.eigh(root.T @ gram @ root)
    energy, vectors = energy[::-1][:k], vectors[:, ::-1][:, :k]
    basis = (vectors.T @ root.T @ flat).reshape(k, -1, 3)
    return Motions(basis.astype(np.float32), energy, np.linalg.solve(root.T, vectors))


def bank_motions(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, ExpressionBank]:
    """Landmark descriptors [R, D] of the bank's donors and their true weights [R, 57], both less those of the
    donor's neutral frame; the weights [donors, 57] of these; the bank."""
    bank = ExpressionBank.load(folder, descriptor="landmarks")
    weights = load_truth(folder)["weights"].astype(np.float64)
    resting = []
    for donor in np.unique(bank.donors):
        own = bank.donors == donor
        neutral = weights[own & bank.neutral].mean(0)
        resting.append(neutral)
        weights[own] -= neutral
    return bank.in_form("neutral").descriptors, weights, np.stack(resting), bank


class Heads:
    """Random heads of the rig, each brought to the mean one by its landmarks as an avatar is."""

    def __init__(
        self, model: HeadModel, prior: MotionPrior, resting: np.ndarray, rng: np.random.Generator, count: int
    ) -> None:
        self.rng, self.vertices = rng, np.unique(model.triangles)
        self.expression = model.expression_modes[:, self.vertices]
        # Points count by how far anything moves them; what nothing moves counts a little.
        share = np.abs(self.expression).max((0, 2)).astype(np.float64) + 0.05
        self.share = share / share.sum()
        self.tree = cKDTree(model.neutral[self.vertices])
        modes = model.identity_modes.astype(np.float32)
        self.points, self.fits = np.empty((count, len(self.vertices), 3), np.float32), []
        for i in range(count):
            shape = np.clip(rng.normal(0, 0.9, len(modes)), -2, 2).astype(np.float32)
            tone = resting[rng.integers(len(resting))].astype(np.float32)
            head = (
                model.neutral + np.tensordot(shape, modes, 1) + np.tensordot(tone, model.expression_modes, 1)
            )
            self.points[i], fit = head[self.vertices], prior.similarity_from(head[model.landmark_vertices])
            self.fits.append(fit)

    def draw(self, motions: np.ndarray, n: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
        """n positions [n, 3] in the prior's space on and about random heads, and what `motions` [K, V, 3] do
        there: [n, K, 3]."""
        rng, at, moved = self.rng, [], []
        for v in np.array_split(rng.choice(len(self.share), n, p=self.share), heads):
            i = rng.integers(len(self.points))
            scale, rotation, translation = self.fits[i]
            # Nobody's landmarks are quite where they are.
            scale = scale * (1 + rng.normal(0, 0.015))
            rotation = rotation @ Rotation.from_rotvec(rng.normal(0, 0.015, 3)).as_matrix()
            off = rng.choice([SURFACE, 4 * SURFACE], (len(v), 1), p=[0.8, 0.2])
            x = self.points[i, v] + off * rng.normal(size=(len(v), 3))
            at.append(scale * x @ rotation.T + translation + rng.normal(0, 0.1, 3))
            moved.append(motions[:, v].transpose(1, 0, 2) @ (scale * rotation.T).astype(np.float32))
        return np.concatenate(at).astype(np.float32), np.concatenate(moved)

    def draw_around(
        self, motions: np.ndarray, centre: np.ndarray, reach: float, n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n, 3] anywhere within `reach` of `centre`: they move as the skin beside them does, less
        the farther off."""
        rng = self.rng
        x = rng.normal(size=(n, 3))
        x *= reach * rng.uniform(size=(n, 1)) ** (1 / 3) / np.linalg.norm(x, axis=1, keepdims=True)
        x += centre
        distance, nearest = self.tree.query(x)
        fall = np.clip((STILL - distance) / STILL, 0, 1) ** 2
        moved = motions[:, nearest].transpose(1, 0, 2) * fall[:, None, None]
        return x.astype(np.float32), moved.astype(np.float32)


def _optimiser(network: torch.nn.Module, rate: float, decay: float, steps: int) -> tuple:
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)


def learn_prior(
    folder: Path,
    settings: PriorSettings = PriorSettings(),
    *,
    rows: np.ndarray | None = None,
    shuffle: bool = False,
    linear: bool = False,
    progress: bool = True,
) -> MotionPrior:
    """Learn a prior from the bank in `folder`. The same settings, bank and machine give the same numbers.

    rows: bool [R], those of the bank that it learns from, each less its donor's neutral all the same; None:
    all. shuffle: pair descriptors with what other rows did. linear: no hidden layer between descriptors and
    coefficients.

    Raises FileNotFoundError where the rig is missing, ValueError for a bank without truth, and for too few
    hidden units to write a linear map into.
    """
    s = settings
    codes, weights, resting, bank = bank_motions(folder)
    if rows is not None:
        resting = resting[np.isin(np.unique(bank.donors), bank.donors[rows])]
        codes, weights = codes[rows], weights[rows]
    if shuffle:
        codes = np.random.default_rng([s.seed, 1]).permutation(codes)
    model = HeadModel(load_pack())
    rng = np.random.default_rng(s.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        prior = MotionPrior(
            codes.shape[1],
            s.components,
            s.hidden,
            s.frequencies,
            encoder=bank.encoder,
            notes={
                "settings": asdict(s),
                "rows": len(codes),
                "donors": len(resting),
                "raf_lite": raf_lite.__version__,
            },
        )
    low, high = model.neutral.min(0), model.neutral.max(0)
    prior.landmarks68.copy_(torch.as_tensor(model.neutral[model.landmark_vertices]))
    mean = LandmarkPCA.load(folder / "landmark_pca.npz").mean
    scale, rotation, translation = prior.similarity_from(mean[IBUG68])
    prior.landmarks.copy_(torch.as_tensor(scale * mean @ rotation.T + translation))
    prior.centre.copy_(torch.as_tensor((low + high) / 2))
    prior.radius.copy_(torch.as_tensor(np.linalg.norm(model.neutral - (low + high) / 2, axis=1).max()))
    prior.unit.copy_(torch.as_tensor(2.5 * codes.std(0).mean()))
    heads = Heads(model, prior, resting, rng, s.identities)
    motions = principal_motions(heads.expression, heads.share, weights, s.components)
    _teach_trunk(prior, motions, heads, s, progress)
    if linear:
        _write_linear(prior, motions, codes, weights, s)
    else:
        _teach_branch(prior, motions, codes, weights, s, progress)
    return prior.eval().requires_grad_(False)


def _teach_trunk(
    prior: MotionPrior, motions: Motions, heads: Heads, s: PriorSettings, progress: bool
) -> None:
    optimizer, schedule = _optimiser(prior.trunk, 4e-3, 1e-4, s.trunk_steps)
    centre, reach = prior.centre.numpy(), GONE * float(prior.radius)
    for _ in tqdm(range(s.trunk_steps), desc="motions", disable=not progress):
        on = heads.draw(motions.basis, s.positions, 6)
        around = heads.draw_around(motions.basis, centre, reach, s.positions // 8)
        at, moved = (torch.from_numpy(np.concatenate(pair)) for pair in zip(on, around, strict=True))
        _descend((prior.motions(at) - moved).square().mean(), optimizer, schedule)


def _teach_branch(
    prior: MotionPrior,
    motions: Motions,
    codes: np.ndarray,
    weights: np.ndarray,
    s: PriorSettings,
    progress: bool,
) -> None:
    wanted = torch.as_tensor(weights @ motions.of_weights, dtype=torch.float32)
    given, share = (
        torch.tensor(codes),
        torch.as_tensor(motions.energy / motions.energy.sum(), dtype=torch.float32),
    )
    spread = s.noise * given.std(0)
    optimizer, schedule = _optimiser(prior.branch, 4e-3, 1e-2, s.branch_steps)
    generator = torch.Generator().manual_seed(s.seed)
    for _ in tqdm(range(s.branch_steps), desc="coefficients", disable=not progress):
        rows = torch.randint(len(given), (s.rows,), generator=generator)
        seen = given[rows] + spread * torch.randn(s.rows, given.shape[1], generator=generator)
        off = (prior.coefficients(seen) - wanted[rows]).square() * share
        _descend(off.sum(1).mean(), optimizer, schedule)


@torch.no_grad()
def _write_linear(
    prior: MotionPrior, motions: Motions, codes: np.ndarray, weights: np.ndarray, s: PriorSettings
) -> None:
    """Make the branch the linear map that its own loss is least for, in the mean over the noise: a ridge."""
    dim = codes.shape[1]
    if s.hidden < 2 * dim:
        raise ValueError(
            f"a linear map of {dim} numbers needs {2 * dim} hidden units; set PriorSettings.hidden to that"
        )
    x = codes.astype(np.float64)
    square = x.T @ x / len(x) + np.diag((s.noise * x.std(0)) ** 2)
    of_codes = np.linalg.solve(square, x.T @ (weights @ motions.of_weights) / len(x))
    for parameter in prior.branch.parameters():
        parameter.zero_()
    first, second, last = (layer.weight for layer in prior.branch if isinstance(layer, torch.nn.Linear))
    # x = relu(x) - relu(-x), and what is positive passes the second ReLU as it is.
    first[:dim], first[dim : 2 * dim] = torch.eye(dim), -torch.eye(dim)
    second[: 2 * dim, : 2 * dim] = torch.eye(2 * dim)
    told = torch.as_tensor(of_codes.T, dtype=torch.float32) * prior.unit
    last[:, :dim], last[:, dim : 2 * dim] = told, -told


def _descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def build_prior(
    data_dir: Path,
    out: Path | None = None,
    settings: PriorSettings = PriorSettings(),
    *,
    progress: bool = True,
) -> Path:
    """Learn the prior from the bank in `data_dir` and write it there, listed in the manifest, or to `out`.

    Takes about three minutes on one core. Equal runs on one machine give equal files. Raises as
    `learn_prior`."""
    prior = learn_prior(data_dir / "bank", settings, progress=progress)
    prior.notes["landmark_basis"] = sha256_file(data_dir / "bank" / "landmark_pca.npz")
    path = out or data_dir / PRIOR
    prior.save(path)
    if out is None:
        update_manifest(data_dir, PRIOR, ORIGIN)
    return path
