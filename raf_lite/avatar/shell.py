"""Where the Gaussians start when one camera alone films: a closed shell over the landmarks of the face.

One picture does not show how deep a head is, and a head that hardly turns does not show it later. Landmarks
do, for the face: their surface is the start. Beside them it bends back, first slowly and at the outline
straight, under the jaw back to the neck; behind the outline the head is thought round. Points are spread
evenly over this surface, not over the picture, which sees cheeks, ears and crown aslant: a head that turns
would show the holes. No template mesh is fitted.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree

from raf_lite.captures import Camera

# Of the width between the outermost landmarks, which is some 14 cm on a grown person. The first is as the
# rig's mean head has it, the second less than there (.55): of those tried on rendered subject 001, over the
# whole picture from six cameras, these were about the best.
BEHIND = 0.25  # how far the outline, seen from the front, lies behind the outermost landmarks
REAR = 0.42  # how far the back of the head lies behind the outline
NECK = 0.4  # half the width of a neck, and half its depth
JAW = 0.3  # from this far above the chin on, the shell goes over into the neck
STEEPEST = 1.2  # how far back for each step down it goes under the jaw
CLEAN = 0.03  # how far within the outline colours are taken: nearer, the background is in them
RIM = 0.1  # how far at most within it those of the far side are taken
BENT = 3.0  # exponent of the curve by which the shell bends back; 2 would be a circle
MOST = 12.0  # times its pixel's area that a surface is thought to have at most, where it is seen aslant


def shell_points(
    landmarks: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    camera: Camera,
    head_pose: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` points on a shell over a face, and the colours that one camera sees there: [count, 3] in head
    space, [count, 3].

    landmarks: [L, 3] in head space, whose z points out of the face. image: float [H, W, 3]. mask: [H, W] in
    [0, 1]. Points are drawn evenly over the surface, those of the near side first; what no picture shows has
    the colours of the outline: of the crown's down to the jaw, of the neck's below. Raises ValueError for an
    empty mask.
    """
    inside = mask > 0.5
    rows, columns = np.nonzero(inside)
    if not len(rows):
        raise ValueError("the mask of the neutral frame is empty; matte that frame again")
    to_camera = camera.world_to_camera @ head_pose
    rotation, origin = to_camera[:3, :3], to_camera[:3, 3]
    normal, pixel = rotation[:, 2], origin[2] / camera.K[0, 0]

    def met(pixels: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Where the rays through pixels [N, 2] meet planes at height z before the head's origin, in head
        space."""
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(camera.K).T
        depth = (normal @ origin + z) / (rays @ normal)
        return (rays * depth[:, None] - origin) @ rotation

    across = met(np.stack([columns, rows], 1) + 0.5, 0.0)[:, :2]
    # Near cameras see what is high before the plane farther out in it: landmarks lie where rays meet them.
    before = landmarks @ rotation.T + origin  # in the camera's space
    flat = met((before @ camera.K.T)[:, :2] / before[:, 2:], 0.0)[:, :2]
    # A mask that leaves the picture below has no outline there: the head goes on.
    padded = np.pad(np.pad(inside, ((1, 0), (1, 1))), ((0, 1), (0, 0)), mode="edge")
    within = distance_transform_edt(padded)[1:-1, 1:-1] * pixel
    near, far = _shell(landmarks, flat, across, within[inside])
    outline = _outline(landmarks)
    maps = np.full((2, *inside.shape), outline)
    maps[:, inside] = near, far
    areas = []
    for z in maps:
        down, right = np.gradient(z, pixel)
        areas.append(np.clip(np.sqrt(1 + down**2 + right**2), 1, MOST)[inside])
    behind = round(count * areas[1].sum() / (areas[0].sum() + areas[1].sum()))
    points, drawn = [], []
    for z, area, share in zip(maps, areas, (count - behind, behind), strict=True):
        picked = rng.choice(len(rows), share, p=area / area.sum())
        at = np.stack([columns[picked], rows[picked]], 1) + rng.random((share, 2))
        points.append(met(at, map_coordinates(z, at[:, ::-1].T - 0.5, order=1, mode="nearest")))
        drawn.append(picked)

    # A mask thinner than CLEAN everywhere has its own colours, and so has a rim that is not there.
    width, high, chin = np.ptp(landmarks[:, 0]), flat[:, 1].max(), flat[:, 1].min()
    clean = inside & (within > CLEAN * width)
    clean = clean if clean.any() else inside
    heights = np.full(inside.shape, np.nan)
    heights[inside] = across[:, 1]
    rim = clean & (within < RIM * width)
    crown, neck = rim & (heights > (high + across[:, 1].max()) / 2), rim & (heights < chin)
    seen, above, below = (
        image[tuple(distance_transform_edt(~(which if which.any() else clean), return_indices=True)[1])]
        for which in (clean, crown, neck)
    )
    hidden = np.where((heights > chin)[..., None], above, below)
    colours = [values[inside][picked] for values, picked in zip((seen, hidden), drawn, strict=True)]
    return np.concatenate(points), np.concatenate(colours)


def _outline(landmarks: np.ndarray) -> float:
    """How high before the head's origin the outline lies that a camera in front sees."""
    sides = landmarks[[landmarks[:, 0].argmin(), landmarks[:, 0].argmax()]]
    return float(sides[:, 2].mean() - BEHIND * np.ptp(landmarks[:, 0]))


def _shell(
    landmarks: np.ndarray, flat: np.ndarray, across: np.ndarray, within: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How high before the head's origin the near and the far side are, [N] each.

    flat: [L, 2], where in the plane of the face the camera sees the landmarks. across: [N, 2], where there.
    within: [N], how far within the outline."""
    width, outline, chin = np.ptp(landmarks[:, 0]), _outline(landmarks), flat[:, 1].min()
    face = LinearNDInterpolator(flat, landmarks[:, 2])(across)
    aside, nearest = cKDTree(flat).query(across, k=min(4, len(landmarks)))
    weights = 1 / (aside + 0.01 * width) ** 2
    edge = (landmarks[nearest, 2] * weights).sum(1) / weights.sum(1)
    aside = aside[:, 0]
    reached = aside / np.maximum(aside + within, 1e-9)  # from the landmarks (0) to the outline (1)
    bent = outline + np.maximum(edge - outline, 0) * (1 - reached**BENT) ** (1 / BENT)
    deep = np.minimum(within, NECK * width)
    neck = np.sqrt(deep * (2 * NECK * width - deep))
    under = np.minimum(bent, np.maximum(edge - STEEPEST * aside, outline + neck))
    bent += np.clip((chin + JAW * width - across[:, 1]) / (JAW * width), 0, 1) * (under - bent)
    near = np.where(np.isnan(face), bent, face)
    half = min(within.max(), 0.6 * width)  # hair that stands out widely is no deeper head
    deep = np.minimum(within, half)
    ball = REAR * width / half * np.sqrt(deep * (2 * half - deep))
    low = np.clip((chin + JAW / 2 * width - across[:, 1]) / (JAW * width), 0, 1)
    return near, outline - ball - low * (neck - ball)
