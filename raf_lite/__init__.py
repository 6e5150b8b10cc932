"""raf_lite: Retrieval-Augmented Faces (arXiv 2603.08645), taught and implemented.

Rooms, in the order of the data: `captures`, `descriptors`, `bank`, `retrieval`, `splatting`, `avatar`, `training`,
`evaluation`, `viewing`, `widgets`, `export`; beside them `rig`, which renders heads with exact ground truth.
"""

import os as _os

# torch's OpenMP workers otherwise spin between calls and take the cores from the numba kernels (20x slower under load);
# the policy is read once, when torch is imported.
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from raf_lite.course.exercise import exercise  # noqa: E402
from raf_lite.course.setup import Session, setup  # noqa: E402  (after the policy above)

__version__ = "0.1.0"
__all__ = ["Session", "exercise", "setup"]
