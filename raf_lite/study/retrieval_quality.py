"""How good retrieval is, against the truth: does a neighbour make the same face, in the same head pose, and
what leaks?

Errors are over the front of the rig's skin, in mm (root mean square over vertices) on its average head, after
each person's resting tone is taken off: only what the face *does* counts.
"""

from __future__ import annotations

from functools import partial

import faiss
import numpy as np

from raf_lite.bank import load_truth
from raf_lite.manifest import find_data
from raf_lite.retrieval import RetrievalAugmentation
from raf_lite.study.descriptors import parts, study_bank
from raf_lite.study.people import SUBJECTS, load_person
from raf_lite.study.runs import RunSpec, training_set

KEYS = ("raw", "centred", "weighted")
RANKS = (1, 4, 16, 64)


def expression_metric() -> np.ndarray:
    """[57, 57]: weights times this are coordinates whose Euclidean distance is the error in mm."""
    from raf_lite.rig.head import HeadModel
    from raf_lite.rig.pack import load_pack

    model = HeadModel(load_pack())
    skin = np.intersect1d(model._skin_vertices, np.flatnonzero(model.neutral[:, 2] > 0))
    modes = model.expression_modes[:, skin].reshape(len(model.expression_modes), -1) * 10 / np.sqrt(len(skin))
    u, s, _ = np.linalg.svd(modes, full_matrices=False)
    return (u * s).astype(np.float32)


def linear_probe(descriptors: np.ndarray, people: np.ndarray, ridge: float = 1e-2) -> float:
    """How often a linear classifier names the person from one descriptor: trained on every other row, tested
    on the rest.

    Ridge regression to one-hot targets, on standardised descriptors. Chance is one over the number of people.
    """
    names, member = np.unique(people, return_inverse=True)
    x = (descriptors - descriptors.mean(0)) / np.maximum(descriptors.std(0), 1e-6)
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    train, test = np.arange(0, len(x), 2), np.arange(1, len(x), 2)
    gram = x[train].T @ x[train] + ridge * len(train) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[train].T @ np.eye(len(names))[member[train]])
    return float((np.argmax(x[test] @ weights, 1) == member[test]).mean())


def leakage(descriptor: str) -> dict[str, float]:
    """What a descriptor of the shipped bank says of who made it: share of variance between donors, and a
    linear probe."""
    bank = study_bank(descriptor)
    donors = np.unique(bank.donors)
    return {
        "variance_share": round(bank.stats()["leakage"]["variance_share"], 4),
        "probe": round(linear_probe(bank.descriptors.astype(np.float64), bank.donors), 4),
        "probe_chance": round(1 / len(donors), 4),
    }


def _errors(
    done: np.ndarray, turned: np.ndarray, own: np.ndarray, own_turn: np.ndarray, found: np.ndarray
) -> tuple[float, float]:
    """Mean errors (mm, degrees) of bank rows `found` [F, n] for frames whose true face and turn are `own` and
    `own_turn`."""
    return (
        float(np.linalg.norm(done[found] - own[:, None], axis=-1).mean()),
        float(np.rad2deg(np.linalg.norm(turned[found] - own_turn[:, None], axis=-1)).mean()),
    )


def quality(descriptor: str, role: str) -> dict:
    """Errors of what retrieval finds for the training frames of a role's subjects: means over frames, then
    over subjects.

    For each key and rank: expression error in mm, head rotation error in degrees. Beside them a random row,
    the subject's own neutral face, and the oracle (the best row of the bank by truth).
    """
    parts(descriptor)
    metric, truth = expression_metric(), load_truth(find_data() / "bank")
    bank = study_bank(descriptor)
    resting = {
        d: truth["weights"][(bank.donors == d) & bank.neutral].astype(np.float32).mean(0)
        for d in np.unique(bank.donors)
    }
    done = (truth["weights"].astype(np.float32) - np.stack([resting[d] for d in bank.donors])) @ metric
    turned = truth["head_rotation"].astype(np.float32)
    rng, out = np.random.default_rng(0), {}
    for subject in SUBJECTS[role]:
        data, *_ = training_set(RunSpec(subject, descriptor, "none"))
        recording = load_person("training", subject)
        rows = recording["found"]
        own = (recording["weights"][rows] - recording["weights"][0]) @ metric
        errors = partial(_errors, done, turned, own, recording["head_rotation"][rows].astype(np.float32))
        for key in KEYS:
            near = RetrievalAugmentation(bank, k=max(RANKS), key=key).fit(data.descriptors).neighbours
            for rank in RANKS:
                out.setdefault(f"{key}, rank {rank}", []).append(errors(near[:, rank - 1 : rank]))
        out.setdefault("random row", []).append(errors(rng.integers(len(bank), size=(len(own), 16))))
        _, best = faiss.knn(np.ascontiguousarray(own, np.float32), np.ascontiguousarray(done, np.float32), 1)
        out.setdefault("oracle", []).append(errors(best))
        out.setdefault("own neutral", []).append((float(np.linalg.norm(own, axis=1).mean()), float("nan")))
    return {
        name: {
            "expression_mm": round(float(np.mean([v[0] for v in values])), 4),
            "rotation_degrees": (
                None if np.isnan(values[0][1]) else round(float(np.mean([v[1] for v in values])), 3)
            ),
        }
        for name, values in out.items()
    }


def quality_line(descriptor: str, role: str) -> dict:
    """The line of a descriptor, for the study's files."""
    return {
        "key": f"retrieval {descriptor} {role}",
        "role": role,
        "descriptor": descriptor,
        "leakage": leakage(descriptor),
        "retrieval": quality(descriptor, role),
    }
