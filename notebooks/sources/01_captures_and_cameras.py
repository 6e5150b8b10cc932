# %% [markdown]
# # 01 · Captures and cameras
#
# {{badges}}
#
# **By the end you will have shown that a capture's cameras are right, to a fraction of a pixel, and that you can tell three wrong
# conventions from the right one.** Most trouble with other people's data is here: a matrix that was meant the other way round still gives
# pictures, only not of a head.
#
# | | |
# |---|---|
# | **You will** | open a capture · project a point into a picture · measure reprojection · recognise a wrong convention · triangulate · carve a head from its masks |
# | **You need** | NumPy; what a matrix does to a vector |
# | **Time** | about {{minutes_cpu}} minute on two CPU cores, {{memory_gb}} GB of memory. No GPU needed |
# | **Download** | {{download}} |

# %%
import numpy as np
import raf_lite

session = raf_lite.setup(minutes_cpu=1)

# %% [markdown]
# ## 1 · What is in a capture
#
# One person, some calibrated cameras, named sequences. `open_capture` reads several projects' layouts; whatever the layout was, what it
# returns uses one convention: **OpenCV's**. In a camera's own axes x points right, y *down*, z *into the scene*; `world_to_camera` takes a
# point of the world there, and `K` takes it on to pixels.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.captures import open_capture
from raf_lite.manifest import find_data

capture = open_capture(find_data() / "mini_nersemble" / "001")
front = capture.cameras[capture.encoder_camera]
print(
    len(capture.sequences),
    "sequences,",
    len(capture.cameras),
    "cameras of",
    front.width,
    "x",
    front.height,
    "pixels",
)
print("focal length:", front.K[0, 0], "pixels; middle of the picture:", *front.K[:2, 2])

# %%
from raf_lite.viewing import show_strip

sequence, frame = "EMO-2-surprise+fear", 4
serials = list(capture.cameras)
show_strip(
    [capture.frames(sequence, serial)[frame] for serial in serials],
    [f"camera {serial}" for serial in serials],
    f"Frame {frame} of {sequence} from all {len(serials)} cameras.",
)

# %% [markdown]
# ## 2 · From a point to a pixel
#
# The capture knows where 68 landmarks of the face are in the world, in centimetres. A point $X$ lands on the pixel
#
# $$ \begin{pmatrix} x \\ y \\ z \end{pmatrix} = R\,X + t, \qquad u = f_x\,\frac{x}{z} + c_x, \qquad v = f_y\,\frac{y}{z} + c_y . $$
#
# ### Exercise 1 · Project (easy, 5 minutes)


# %% tags=["exercise"]
def project(points, world_to_camera, K):  # [N, 3], [4, 4], [3, 3] -> pixels [N, 2]
    # SOLUTION
    in_camera = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    return in_camera[:, :2] / in_camera[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    # END


# %%
# NBVAL_CHECK_OUTPUT
landmarks = capture.landmarks68(sequence)[frame]
with raf_lite.exercise(1):
    mine = project(landmarks, front.world_to_camera, front.K)
    assert np.abs(mine - front.project(landmarks)[0]).max() < 1e-9, "Camera.project finds other pixels"

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `world_to_camera` is 4x4. Its upper left 3x3 block is $R$, the first three numbers of its last column are $t$. For many points that are rows,
# $R X + t$ is `points @ R.T + t`.
# </details>
# <details><summary>Hint 2</summary>
#
# $f_x$ is `K[0, 0]`, $f_y$ is `K[1, 1]`, and $(c_x, c_y)$ is `K[:2, 2]`. Divide by z before you multiply by the focal length.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# **Predict:** if the cameras are right, where will the dots lie in a side view: on the face as the front camera sees it, or on the features
# as *that* camera sees them?


# %%
def dotted(image, pixels):
    """The picture with a dark dot in a white ring on every pixel of the list."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    distance = np.min([np.hypot(columns - u, rows - v) for u, v in pixels], axis=0)[..., None]
    return np.where(distance < 1.2, 20, np.where(distance < 2.4, 255, image)).astype(np.uint8)


views = [(serial, capture.cameras[serial].project(landmarks)[0]) for serial in serials[:4]]
inside = {serial: float(((p > 0) & (p < 256)).all(1).mean()) for serial, p in views}
show_strip(
    [dotted(capture.frames(sequence, serial)[frame], pixels) for serial, pixels in views],
    [f"camera {serial}" for serial, _ in views],
    "The 68 landmarks projected into four cameras; share inside the picture: "
    + ", ".join(f"{serial} {100 * share:.0f} %" for serial, share in inside.items())
    + ".",
    height=220,
)

# %% [markdown]
# ## 3 · Three ways to be wrong
#
# Files of this field store cameras in at least four ways. The same sixteen numbers are read as
#
# - `world_to_camera`, OpenCV axes: what we use;
# - `camera_to_world`, its inverse;
# - either of them with OpenGL's axes, where y points *up* and the camera looks along *minus* z.
#
# **Predict:** two of the three wrong readings below still have all cameras look at one common point before them. Which?

# %%
# NBVAL_CHECK_OUTPUT
from dataclasses import replace
from raf_lite.captures import camera_problem, common_target

opengl = np.diag([1.0, -1.0, -1.0, 1.0])
readings = {
    "right": lambda m: m,
    "OpenGL axes": lambda m: opengl @ m,
    "inverted": np.linalg.inv,
    "inverted, OpenGL axes": lambda m: np.linalg.inv(m) @ opengl,
}
for name, reading in readings.items():
    cameras = [replace(c, world_to_camera=reading(c.world_to_camera)) for c in capture.cameras.values()]
    depth = np.mean([(c.world_to_camera @ [*common_target(cameras), 1])[2] for c in cameras])
    print(
        f"{name:22} target {'before' if depth > 0 else 'behind'} the cameras;",
        "no problem found" if camera_problem(cameras) is None else "named as wrong",
    )

# %% [markdown]
# **Explain.** With OpenGL's axes the common point lies behind every camera. The inverted matrices are the treacherous ones: about a rig
# that stands round the origin they too meet in a point, but far from the origin, with all cameras crowded around it. `raf-lite check FOLDER`
# tests for all of this and draws the axes of the head into every view.

# %%
cameras = [replace(c, world_to_camera=np.linalg.inv(c.world_to_camera)) for c in capture.cameras.values()]
print(camera_problem(cameras))

# %% [markdown]
# ## 4 · How right is right? A number with its controls
#
# Reprojection compares where a camera *says* a point is with where the picture shows it. Our pictures are rendered, so the truth is exact.
# Beside the capture's own cameras stand a small error (turned by one degree) and a **negative control**: each camera with another
# one's matrix.

# %%
from scipy.spatial.transform import Rotation


def reprojection_error(change):
    """Mean distance in pixels over all cameras between landmarks seen by the true and by the changed cameras."""
    errors = [
        np.linalg.norm(change(k, c).project(landmarks)[0] - c.project(landmarks)[0], axis=1)
        for k, c in enumerate(capture.cameras.values())
    ]
    return float(np.nanmean(errors))


turn = np.eye(4)
turn[:3, :3] = Rotation.from_euler("y", 1, degrees=True).as_matrix()
everyone = list(capture.cameras.values())
table = {
    "the capture's own": reprojection_error(lambda k, c: c),
    "turned by one degree": reprojection_error(
        lambda k, c: replace(c, world_to_camera=turn @ c.world_to_camera)
    ),
    "control: another camera's": reprojection_error(lambda k, c: everyone[(k + 1) % len(everyone)]),
}
for name, error in table.items():
    print(f"{name:28} {error:6.2f} pixels")

# %%
# NBVAL_CHECK_OUTPUT
order = sorted(table, key=table.get)
print("from right to wrong:", " < ".join(order))

# %% [markdown]
# One degree is several pixels. That is more than the lips move in many expressions, so an avatar trained with such cameras learns blur.
#
# ## 5 · And back: from pixels to a point
#
# Two cameras that see the same landmark fix its place: it is where their rays meet. In practice detections are noisy and rays pass each other, so
# one asks for the point that fits best.
#
# ### Exercise 2 · Triangulate (medium, 10 minutes)
#
# Each view gives two linear equations in $X$. With $p_i$ the rows of the 3x4 matrix $P = K\,[R\,|\,t]$:
#
# $$ (u\,p_3 - p_1) \cdot (X, 1) = 0, \qquad (v\,p_3 - p_2) \cdot (X, 1) = 0 . $$
#
# Stack them for all views and solve in the least-squares sense.


# %% tags=["exercise"]
def meet(pixels, projections):  # [C, 2], [C, 3, 4] -> point [3]
    # SOLUTION
    rows = [pixels[c, i] * projections[c, 2] - projections[c, i] for c in range(len(pixels)) for i in (0, 1)]
    rows = np.stack(rows)
    return np.linalg.lstsq(rows[:, :3], -rows[:, 3], rcond=None)[0]
    # END


# %%
# NBVAL_CHECK_OUTPUT
projections = np.stack([c.K @ c.world_to_camera[:3] for c in everyone])
seen = np.stack([c.project(landmarks)[0] for c in everyone])  # [C, 68, 2]
noisy = seen + np.random.default_rng(0).normal(scale=0.5, size=seen.shape)
with raf_lite.exercise(2):
    exact = np.stack([meet(seen[:, k], projections) for k in range(68)])
    assert np.abs(exact - landmarks).max() < 1e-6, "without noise the landmarks must come back"
    found = np.stack([meet(noisy[:, k], projections) for k in range(68)])
    assert np.linalg.norm(found - landmarks, axis=1).mean() < 0.15, (
        "half a pixel of noise should cost about a millimetre"
    )

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `u * P[2] - P[0]` is a row of four numbers: three that multiply $X$, and one that stands alone.
# </details>
# <details><summary>Hint 2</summary>
#
# `np.linalg.lstsq(A, b, rcond=None)[0]` solves $A X = b$. Here $A$ is the first three columns of the stacked rows, and $b$ minus the last one.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# `raf_lite.captures.triangulate` does this for all frames and landmarks at once, and takes the say from views that a detector got wrong.
# </details>
#
# **Predict:** with all six cameras the noise costs about half a millimetre to one millimetre. What happens with only two that stand close together?

# %%
from raf_lite.captures import triangulate


def error_with(chosen):
    """Mean distance in millimetres between true and triangulated landmarks, from some cameras."""
    points = triangulate(noisy[None, chosen], [everyone[c] for c in chosen], noise=0.5)[0]
    return 10 * float(np.linalg.norm(points - landmarks, axis=1).mean())


angle = lambda a, b: np.degrees(
    np.arccos(everyone[a].world_to_camera[2, :3] @ everyone[b].world_to_camera[2, :3])
)
pairs = sorted(((a, b) for a in range(6) for b in range(a)), key=lambda pair: angle(*pair))
for name, chosen in (
    ("all six", list(range(6))),
    ("widest pair", list(pairs[-1])),
    ("narrowest pair", list(pairs[0])),
):
    print(
        f"{name:15} {error_with(chosen):5.2f} mm",
        "" if len(chosen) > 2 else f"({angle(*chosen):.0f} degrees apart)",
    )

# %% [markdown]
# ## 6 · Masks: a head without a template
#
# The avatars of this course start from nothing but masks: a point of space belongs to the head if *every* camera sees it inside its
# silhouette. What is left is the *visual hull*.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.avatar import visual_hull

split = capture.split()
sequence0, frame0 = capture.neutral
masks = np.stack([capture.masks(sequence0, serial)[frame0] for serial in split.train_cameras])
cameras = [capture.cameras[serial] for serial in split.train_cameras]
pose = capture.head_poses(sequence0)[frame0]
sizes = {n: np.ptp(visual_hull(masks[:n], cameras[:n], pose, resolution=48), axis=0) for n in (2, 4)}
print("four cameras carve no more than two leave:", bool((sizes[4] <= sizes[2] + 1e-6).all()))
print("the hull is 15 to 60 cm in each direction:", bool(((sizes[4] > 15) & (sizes[4] < 60)).all()))

# %%
hull = visual_hull(masks, cameras, pose, resolution=64)


def silhouette(points, axis):
    """How many hull points lie behind each other along an axis, as a picture: dark is many."""
    step = np.median(np.diff(np.unique(points[:, 0])))
    column, row = np.rint((points - points.min(0)) / step).astype(int)[:, [2 - axis, 1]].T
    counts = np.zeros((row.max() + 1, column.max() + 1))
    np.add.at(counts, (row.max() - row, column), 1)
    return np.repeat(1 - counts.repeat(4, 0).repeat(4, 1)[..., None] / counts.max(), 3, axis=2)


size = np.ptp(hull, axis=0)
show_strip(
    [silhouette(hull, 2), silhouette(hull, 0)],
    ["from the front", "from the side"],
    f"The visual hull, dark where it is thick, of the neutral frame from {len(cameras)} cameras: {len(hull)} grid points, "
    f"{size[0]:.0f} cm wide, {size[1]:.0f} cm high, {size[2]:.0f} cm deep.",
    height=200,
)

# %% [markdown]
# ## Check yourself
#
# <details><summary>1. A head comes out upside down and behind the camera. What is the first suspect?</summary>
#
# The axes: OpenGL has y up and looks along minus z. Negate the second and third row of `world_to_camera` (or those columns of its inverse).
# </details>
# <details><summary>2. All cameras meet in one point, and still nothing trains. What can be wrong with the cameras?</summary>
#
# The matrices may be inverted: round a rig about the origin they meet as well, elsewhere. Look where the point is, and project something known.
# </details>
# <details><summary>3. You halve the pictures. What happens to K?</summary>
#
# Its first two rows are halved, if pixel centres are at +0.5 as here: the corner of the picture is (0, 0) at every scale. With centres at whole
# numbers the middle moves by a quarter of a pixel besides.
# </details>
# <details><summary>4. Why does the visual hull overestimate a head, and never underestimate it?</summary>
#
# A point inside the head is inside every silhouette, so it is never removed. A point outside stays if no camera happens to look past the head there: eye
# sockets, for instance, are never seen as a gap.
# </details>
#
# ## Recap
#
# - One convention inside: OpenCV, `world_to_camera`, pixel centres at +0.5. Readers convert at the door.
# - Reprojection is the test that finds wrong cameras; a picture that looks plausible is not.
# - Two views fix a point, more views and wider angles fix it better.
# - Masks and cameras alone give a first shape: no face template is needed.

# %%
card = {
    "capture": capture.subject,
    "cameras": len(capture.cameras),
    "seed of the noise": 0,
    "device": session.device,
}
card |= {f"reprojection, {name}": f"{error:.2f} px" for name, error in table.items()}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** [02 · Expression descriptors](02_expression_descriptors.ipynb): what a face does, as a vector, and whose face is still in it.
