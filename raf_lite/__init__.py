"""raf_lite: Retrieval-Augmented Faces (arXiv 2603.08645), taught and implemented.

Rooms, in the order of the data: `captures`, `descriptors`, `bank`, `retrieval`, `splatting`, `avatar`,
`training`, `evaluation`, `viewing`, `widgets`, `export`; beside them `rig`, which renders heads with exact
ground truth. What people type most is here too, and comes from its room when it is asked for: `import
raf_lite` imports none of them.

>>> import numpy as np
>>> from raf_lite import ExpressionBank, RetrievalAugmentation
>>> rng = np.random.default_rng(0)
>>> bank = ExpressionBank.from_arrays(rng.normal(size=(300, 52)), donors=np.repeat(np.arange(10), 30))
>>> descriptors, info = RetrievalAugmentation(bank, p=0.2).augment(rng.normal(size=(16, 52)), rng)
>>> descriptors.shape, int(info["replaced"].sum())
((16, 52), 2)
"""

import os as _os

# torch's OpenMP workers otherwise spin between calls and take the cores from the numba kernels (20x slower
# under load);
# the policy is read once, when torch is imported.
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from raf_lite._lazy import attach as _attach  # noqa: E402

__version__ = "0.1.0"
# Editors and type checkers read the same in __init__.pyi.
_HOMES = {
    "ExpressionBank": "bank",
    "GaussianAvatar": "avatar",
    "RetrievalAugmentation": "retrieval",
    "Session": "course.setup",
    "TrainConfig": "training",
    "Trainer": "training",
    "encode_video": "descriptors",
    "exercise": "course.exercise",
    "open_capture": "captures",
    "rasterize": "splatting",
    "setup": "course.setup",
}
__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = _attach(__name__, _HOMES)
