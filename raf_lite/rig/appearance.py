"""What a rendered person looks like: skin, hair, brows, eyes, baked once per identity into a texture atlas.

ICT-FaceKit ships no albedo, so the colours are procedural. They are functions of the *rest position* of a
surface point (cm, on the model's mean neutral face), so that they stick to the skin under any identity and
expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raf_lite._kernels import kernel

# Linear RGB. Skin from light to dark; hair and iris from common swatches.
SKIN_TONES = np.array(
    [(0.86, 0.66, 0.55), (0.80, 0.58, 0.45), (0.66, 0.44, 0.31), (0.46, 0.29, 0.20), (0.30, 0.18, 0.12)]
)
HAIR_COLOURS = np.array(
    [(0.05, 0.04, 0.035), (0.16, 0.09, 0.05), (0.34, 0.21, 0.11), (0.55, 0.42, 0.25), (0.30, 0.28, 0.27)]
)
IRIS_COLOURS = np.array(
    [(0.20, 0.11, 0.05), (0.30, 0.38, 0.45), (0.28, 0.33, 0.18), (0.33, 0.22, 0.10), (0.12, 0.07, 0.04)]
)
CLOTH_COLOURS = np.array([(0.08, 0.10, 0.16), (0.30, 0.07, 0.07), (0.10, 0.20, 0.14), (0.35,
    0.34, 0.32), (0.05, 0.05, 0.05), (0.42, 0.30, 0.12)])  # fmt: skip


@dataclass(frozen=True)
class Appearance:
    """Colours (linear RGB) and shape parameters (cm) of one person's looks."""

    noise_seed: int
    skin: np.ndarray  # [3]
    hair: np.ndarray  # [3]
    iris: np.ndarray  # [3]
    lips: np.ndarray  # [3]
    cloth: np.ndarray  # [3]
    blush: float
    freckles: float
    beard: float  # 0 none .. 1 dense stubble
    moles: np.ndarray  # [M, 2] x, y on the rest face
    brow_width: float
    brow_density: float
    brow_lift: float
    bald: bool
    hairline: float  # height of the hairline on the forehead
    hair_volume: float  # how far the hair stands off the skull
    sideburn: float  # 0 short sides .. 1 sides down to the jaw

    @classmethod
    def random(cls, rng: np.random.Generator) -> Appearance:
        """Draw a person's looks. Dark skin goes with dark hair and eyes more often, as in people."""
        t = rng.random() * 3.6
        k = int(t)
        skin = SKIN_TONES[k] * (1 - (t - k)) + SKIN_TONES[k + 1] * (t - k)
        fair = t < 2
        return cls(
            noise_seed=int(rng.integers(2**20)),
            skin=skin,
            hair=HAIR_COLOURS[rng.integers(len(HAIR_COLOURS)) if fair else rng.integers(2)]
            * rng.uniform(0.8, 1.2),
            iris=IRIS_COLOURS[rng.integers(len(IRIS_COLOURS)) if fair else rng.choice([0, 3, 4])],
            lips=skin * np.array([0.92, 0.58, 0.60]) * rng.uniform(0.85, 1.05),
            cloth=CLOTH_COLOURS[rng.integers(len(CLOTH_COLOURS))],
            blush=rng.uniform(0.2, 1.0),
            freckles=max(0.0, rng.normal(0, 0.35)) if t < 1.6 else 0.0,
            beard=max(0.0, rng.uniform(-1, 1)),
            moles=rng.normal(0, 1, (5, 2)) * [3.2, 4] + [0, 1],
            brow_width=rng.uniform(0.24, 0.42),
            brow_density=rng.uniform(0.6, 0.95),
            brow_lift=rng.uniform(0.1, 0.35),
            bald=bool(rng.random() < 0.1),
            hairline=rng.uniform(8.2, 9.6),
            hair_volume=rng.uniform(0.5, 1.7),
            sideburn=rng.uniform(0.0, 1.0),
        )


def smoothstep(a: float | np.ndarray, b: float | np.ndarray, x: np.ndarray) -> np.ndarray:
    """0 at `a`, 1 at `b` (b may be smaller than a), with zero slope at both ends."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


@kernel(fastmath=False)
def value_noise(points: np.ndarray, seed: int) -> np.ndarray:  # [N, 3], int -> [N] in [0, 1]
    """Trilinear value noise on the integer lattice, hashed from the lattice point and the seed."""
    out = np.empty(points.shape[0])
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        fx, fy, fz = x - ix, y - iy, z - iz
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = 0.0
        for c in range(8):
            dx, dy, dz = c & 1, (c >> 1) & 1, c >> 2
            h = (
                (ix + dx) * 374761393 + (iy + dy) * 668265263 + (iz + dz) * 2147483647 + seed * 974711
            ) & 0xFFFFFFFF
            h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
            h = h ^ (h >> 16)
            w = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
            total += w * h
        out[n] = total / 4294967296.0
    return out


@kernel(fastmath=False)
def polyline_distance(
    points: np.ndarray, line: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # [N, 2], [K, 2] -> [N] distance, [N] position along the line in [0, 1]
    """Distance of each point to an open polyline, and where along it the nearest point lies."""
    n, segments = points.shape[0], line.shape[0] - 1
    distance, along = np.empty(n), np.empty(n)
    for i in range(n):
        best, where = 1e18, 0.0
        for s in range(segments):
            ax, ay = line[s, 0], line[s, 1]
            bx, by = line[s + 1, 0] - ax, line[s + 1, 1] - ay
            px, py = points[i, 0] - ax, points[i, 1] - ay
            t = min(max((px * bx + py * by) / (bx * bx + by * by + 1e-12), 0.0), 1.0)
            d = (px - t * bx) ** 2 + (py - t * by) ** 2
            if d < best:
                best, where = d, (s + t) / segments
        distance[i], along[i] = np.sqrt(best), where
    return distance, along


def inside_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Even-odd test of [N, 2] points against a closed [K, 2] polygon."""
    inside = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        crosses = ((ay > points[:, 1]) != (by > points[:, 1])) & (
            points[:, 0] < (bx - ax) * (points[:, 1] - ay) / (by - ay + 1e-12) + ax
        )
        inside ^= crosses
    return inside


def hair_cover(rest: np.ndarray, look: Appearance) -> np.ndarray:
    """How much a rest-pose surface point [N, 3] is covered by hair, 0..1."""
    if look.bald:
        return np.zeros(len(rest))
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    ragged = 0.5 * (value_noise(rest * 1.3, look.noise_seed + 11) - 0.5)
    # The hairline is lower at the temples than in the middle of the forehead and falls behind the ears.
    temple = smoothstep(3.5, 7.5, x)
    line = look.hairline + ragged - 1.2 * temple - 5.2 * smoothstep(6.0, 2.5, z)
    cover = smoothstep(-0.25, 0.45, y - line)
    bottom = 1.2 - 3.4 * look.sideburn + ragged
    sides = smoothstep(5.4, 4.2, z) * smoothstep(bottom - 0.5, bottom + 0.5, y) * smoothstep(9.6, 8.9, x)
    behind = smoothstep(1.2, -0.6, z) * smoothstep(-5.2 - 2 * look.sideburn, -4.2 - 2 * look.sideburn, y)
    ears = (
        smoothstep(8.1, 8.7, x)
        * smoothstep(-5.0, -4.0, y)
        * smoothstep(5.4, 4.6, y)
        * smoothstep(3.4, 2.6, z)
    )
    return np.maximum(cover, np.maximum(sides, behind)) * (1 - ears)


def skin_albedo(rest: np.ndarray, look: Appearance, landmarks: np.ndarray) -> np.ndarray:
    """Albedo of skin, lips, brows, hair and collar at rest positions.

    rest: [N, 3] cm on the mean neutral face. landmarks: [68, 3] of the mean neutral face.
    Returns [N, 4]: linear RGB and a gloss factor (1 bare skin, more on lips, little on hair, none on cloth).
    """
    xy, seed = np.ascontiguousarray(rest[:, :2]), look.noise_seed
    front = smoothstep(1, 5, rest[:, 2])
    mottle = (
        (value_noise(rest * 1.1, seed) - 0.5) * 0.10
        + (value_noise(rest * 4.5, seed + 1) - 0.5) * 0.09
        + (value_noise(rest * 14, seed + 2) - 0.5) * 0.07
    )
    colour = look.skin * (1 + mottle[:, None])
    gloss = np.ones(len(rest))

    def tint(weight: np.ndarray, factor: np.ndarray) -> None:
        nonlocal colour
        colour = colour * (1 - weight[:, None] + weight[:, None] * factor)

    def paint(weight: np.ndarray, paint_colour: np.ndarray) -> None:
        nonlocal colour
        colour = colour * (1 - weight[:, None]) + weight[:, None] * paint_colour

    def blob(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.exp(-(((xy[:, 0] - cx) / rx) ** 2) - ((xy[:, 1] - cy) / ry) ** 2) * front

    red = np.array([1.06, 0.84, 0.82])
    tint(0.45 * blob(0, -0.3, 1.6, 1.2), red)
    for side in (-1, 1):
        tint(0.5 * look.blush * blob(side * 4.6, 0.2, 2.2, 1.9), red)
        tint(0.35 * blob(side * 3.1, 2.4, 1.7, 0.7), np.array([0.80, 0.74, 0.78]))  # under the eyes
        tint(0.45 * blob(side * 3.1, 4.4, 1.9, 0.7), np.array([0.78, 0.70, 0.70]))  # eyelid crease
    if look.freckles > 0:
        spots = smoothstep(0.70, 0.80, value_noise(rest * 5.2, seed + 5)) * blob(0, 1, 6, 3.2)
        tint(np.clip(spots * look.freckles * 1.3, 0, 0.75), np.array([0.62, 0.45, 0.38]))
    for mx, my in look.moles:
        tint(
            0.75 * smoothstep(0.16, 0.08, np.hypot(xy[:, 0] - mx, xy[:, 1] - my)) * front,
            np.array([0.35, 0.26, 0.22]),
        )
    if look.beard > 0:
        # The upper edge runs from the sideburns down to the corners of the mouth and up to the moustache.
        edge = (
            -1.2
            - 2.4 * np.exp(-(((np.abs(xy[:, 0]) - 4.6) / 1.9) ** 2))
            + 0.8 * (value_noise(rest * 2.0, seed + 7) - 0.5)
        )
        area = (
            smoothstep(0.7, -0.9, rest[:, 1] - edge)
            * smoothstep(-12.5, -9, rest[:, 1])
            * smoothstep(1.5, 5, rest[:, 2])
        )
        paint(
            np.clip(area * (0.45 + 0.55 * value_noise(rest * 9, seed + 8)) * look.beard * 0.75, 0, 0.8),
            look.hair,
        )

    lip_line = np.vstack([landmarks[48:60, :2], landmarks[48:49, :2]])
    lip_distance, _ = polyline_distance(xy, np.ascontiguousarray(lip_line))
    lip_distance = np.where(inside_polygon(xy, landmarks[48:60, :2]), -lip_distance, lip_distance)
    lips = smoothstep(0.10, -0.14, lip_distance) * front
    paint(0.85 * lips, look.lips * (1 + 0.25 * (value_noise(rest * [9.0, 2.0, 2.0], 3) - 0.5))[:, None])
    gloss += 0.8 * lips

    strands = np.c_[xy[:, 0] * 7 + xy[:, 1] * 4, xy[:, 1] * 3 - xy[:, 0] * 2, np.zeros(len(xy))]
    for brow in (landmarks[17:22, :2], landmarks[22:27, :2][::-1]):  # both from the temple inwards
        distance, along = polyline_distance(xy, np.ascontiguousarray(brow - [0, 0.25 - look.brow_lift + 0.1]))
        width = look.brow_width * (0.45 + 0.75 * smoothstep(0, 0.6, along))
        density = look.brow_density * (0.55 + 0.6 * value_noise(strands, seed + 9))
        paint(np.clip(smoothstep(width * 1.15, width * 0.35, distance) * density, 0, 1) * front, look.hair)
    # Lash lines: a thin dark seam on the lid margins; the texture moves with the lids when they close.
    for eye in (landmarks[36:42, :2], landmarks[42:48, :2]):
        upper, lower = eye[[0, 1, 2, 3]], eye[[3, 4, 5, 0]]
        for line, width, strength in ((upper, 0.20, 0.85), (lower, 0.10, 0.45)):
            distance, _ = polyline_distance(xy, np.ascontiguousarray(line))
            paint(strength * smoothstep(width, width * 0.35, distance) * front, look.hair * 0.35)

    hair = hair_cover(rest, look)
    coarse, fine = (
        value_noise(rest * [11.0, 4.0, 11.0], seed + 12),
        value_noise(rest * [24.0, 7.0, 24.0], seed + 13),
    )
    grain = 0.55 + 0.35 * coarse + 0.35 * fine
    paint(0.97 * hair, look.hair * grain[:, None])
    collar = smoothstep(-12.6, -13.0, rest[:, 1] + 0.10 * (rest[:, 2] - 2) + 0.15 * np.sin(rest[:, 0] * 0.6))
    weave = 0.85 + 0.3 * value_noise(rest * [5.0, 16.0, 5.0], seed + 14)
    paint(collar, look.cloth * weave[:, None])
    gloss = gloss * (1 - 0.7 * hair) * (1 - collar)
    return np.c_[np.clip(colour, 0.005, 1), gloss]


def sclera_albedo(rest: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Albedo of the white of the eye; [N, 4] as in `skin_albedo`."""
    r = np.hypot(rest[:, 0] - centre[0], rest[:, 1] - centre[1])
    shade = (1 - 0.12 * smoothstep(0.7, 1.4, r)) * (1 - 0.30 * smoothstep(0.05, 0.75, rest[:, 1] - centre[1]))
    return np.c_[np.array([0.86, 0.83, 0.81]) * shade[:, None], np.ones(len(rest))]


def iris_albedo(rest: np.ndarray, centre: np.ndarray, look: Appearance) -> np.ndarray:
    """Albedo of iris, pupil and limbal ring; [N, 4] as in `skin_albedo`."""
    d = rest - centre
    r, angle = np.hypot(d[:, 0], d[:, 1]), np.arctan2(d[:, 1], d[:, 0])
    fibres = 0.75 + 0.5 * value_noise(np.c_[angle * 9, r * 2, np.zeros(len(r))], look.noise_seed + 20)
    colour = (
        look.iris
        * (fibres * (1.25 - 0.5 * smoothstep(0.25, 0.62, r)) * (1 - 0.75 * smoothstep(0.52, 0.66, r)))[
            :, None
        ]
    )
    colour = np.where((r < 0.25)[:, None], 0.015, np.where((r > 0.70)[:, None], [0.86, 0.83, 0.81], colour))
    # The upper lid shades the top of the eye.
    colour = colour * (1 - 0.30 * smoothstep(0.05, 0.75, d[:, 1]))[:, None]
    return np.c_[colour, np.ones(len(rest))]
