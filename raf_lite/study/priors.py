"""Motion priors that lack something that the shipped one has, and one that lacks nothing: they tell where its
gain comes from.

Those that are learned are learned once, from the shipped bank and as the shipped one is, and kept in the
study's cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import raf_lite
from raf_lite._files import locked_place
from raf_lite.avatar import MotionPrior
from raf_lite.avatar.prior import PRIOR
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.manifest import find_data
from raf_lite.rig.expressions import ARCHETYPE_INDEX, EXPRESSION_UNITS, archetype_weights
from raf_lite.rig.head import HeadModel
from raf_lite.rig.pack import load_pack
from raf_lite.rig.prior import PriorSettings, bank_motions, learn_prior
from raf_lite.rig.scripts import seen_archetypes
from raf_lite.study.people import Training, study_cache

LEARNED = ("shuffled", "single", "linear", "lacking")
ACTIVE = 0.2  # of a unit's weight, over the neutral's; what goes along with any gesture stays below
LEARNING = 3600.0  # seconds that a run waits for another that learns the same prior


def shown_alone(bank: Path, sequences: Sequence[str]) -> np.ndarray:
    """Rows bool [R] of a bank that show nothing but one gesture of these sequences, or the neutral face.

    A gesture of the bank may have another mixed in, so its name is not enough: no unit is active that it does
    not use, but for gaze and blinks, which everybody has.
    """
    truth = load_truth(bank)
    _, weights, _, loaded = bank_motions(bank)
    always = np.array([name.startswith(("eyeLook", "eyeBlink")) for name in EXPRESSION_UNITS])
    active = (np.abs(weights) > ACTIVE) & ~always
    rows = loaded.neutral.copy()
    for name in seen_archetypes(list(sequences)):
        strangers = active[:, archetype_weights(name) == 0].any(1)
        rows |= (truth["archetype"] == ARCHETYPE_INDEX[name]) & ~strangers
    return rows


def _options(name: str, bank: Path, training: Training) -> dict[str, Any]:
    """What `learn_prior` is told, beside the bank and the settings, to make a control."""
    if name == "single":
        donors = ExpressionBank.load(bank, descriptor="landmarks").donors
        return {"rows": donors == np.unique(donors)[0]}
    if name == "lacking":
        return {"rows": shown_alone(bank, training.sequences())}
    return {"shuffle": True} if name == "shuffled" else {"linear": True}


def control_prior(name: str, training: Training) -> MotionPrior:
    """One of LEARNED, from the cache or learned now, which takes minutes.

    shuffled: descriptors are paired with what other rows did. single: one donor alone, on one head. linear:
    coefficients are a linear map of descriptors. lacking: without the gestures that this training lacks.
    Needs the rig.
    """
    bank, package = find_data() / "bank", Path(raf_lite.__file__).parent
    settings = PriorSettings(identities=1) if name == "single" else PriorSettings()
    asked = name, asdict(settings), training.sequences() if name == "lacking" else None
    digest = hashlib.sha256(repr(asked).encode())
    for source in ("avatar/prior.py", "rig/prior.py", "study/priors.py"):
        digest.update((package / source).read_bytes())
    digest.update((bank / "bank.json").read_bytes())  # holds the checksums of all of it
    path = study_cache() / f"prior-{name}-{digest.hexdigest()[:16]}.safetensors"
    with locked_place(path, LEARNING):
        if not path.is_file():
            learn_prior(bank, settings, **_options(name, bank, training), progress=False).save(path)
    return MotionPrior.load(path)


class TrueMotion(MotionPrior):
    """The shipped prior's motions by what a face truly did, looked up by its descriptor: an upper reference
    for whatever reads descriptors.

    known: [T, D] descriptors less the neutral's. weights: [T, 57], the rig's true ones, less the neutral's.
    Needs the rig.
    """

    known: Tensor
    true: Tensor

    def __init__(self, known: np.ndarray, weights: np.ndarray) -> None:
        shipped = MotionPrior.load(find_data() / PRIOR)
        super().__init__(**shipped.settings, encoder=shipped.encoder, notes=shipped.notes)
        self.load_state_dict(shipped.state_dict())
        model = HeadModel(load_pack())
        vertices = np.unique(model.triangles)
        with torch.no_grad():
            moved = self.motions(torch.as_tensor(model.neutral[vertices], dtype=torch.float32))
        asked = torch.as_tensor(model.expression_modes[:, vertices], dtype=torch.float32)
        # Of each unit of the rig, the part that these motions can say.
        of_units = torch.linalg.lstsq(moved.transpose(1, 2).flatten(0, 1), asked.flatten(1).T).solution
        self.register_buffer("known", torch.as_tensor(known, dtype=torch.float32))
        self.register_buffer("true", torch.as_tensor(weights, dtype=torch.float32) @ of_units.T)

    def coefficients(self, descriptors: Tensor) -> Tensor:
        """The true ones of the known descriptor nearest to each of [B, D]: [B, K]."""
        apart = torch.cdist(descriptors, self.known, compute_mode="donot_use_mm_for_euclid_dist")
        return self.true[apart.argmin(1)]
