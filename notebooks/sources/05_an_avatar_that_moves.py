# %% [markdown]
# # 05 · An avatar that moves
#
# {{badges}}
#
# **By the end you will have shown where a head avatar, trained the ordinary way, breaks: its error grows with the distance of a
# descriptor from everything that training saw, and another person's descriptors are farther away than nearly all of its own.** That is
# the problem that retrieval-augmented training sets out to solve.
#
# | | |
# |---|---|
# | **You will** | take an avatar apart · place its head in front of a camera · train it and watch · grade it on what it never saw · find out what its errors follow |
# | **You need** | lessons 01, 02 and 04, or the ideas of cameras, descriptors and Gaussians |
# | **Time** | about {{minutes_cpu}} minutes on two CPU cores, {{memory_gb}} GB of memory. {{gpu}} |
# | **Download** | {{download}} |

# %%
import numpy as np
import torch
import raf_lite

session = raf_lite.setup(minutes_cpu=2)

# %% [markdown]
# ## 1 · What it consists of
#
# An avatar is the head of lesson 04, 5000 Gaussians at rest, and a *deformation field*: a small network that turns a descriptor into changes of
# every Gaussian's position, rotation, size and colour. Ours learns a *basis* of 24 such changes, and the network only says how much of each:
#
# $$ \text{descriptor} \;\to\; c \in \mathbb{R}^{24}, \qquad \text{offsets} = \sum_k c_k B_k, \quad B_k \in \mathbb{R}^{N \times 13} $$
#
# No mesh, no landmarks, no template: what a mouth is, it has to find out from the pictures.
#
# **Predict:** where are most of its numbers: in the Gaussians, in the network, or in the basis?

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.captures import open_capture
from raf_lite.course import SUBJECT, avatar_folder, lesson_config
from raf_lite.manifest import find_data
from raf_lite.training import Trainer, TrainingSet

data = find_data()
capture = open_capture(data / "mini_nersemble" / SUBJECT)
config = lesson_config(session, "baseline")
training_set = TrainingSet.from_capture(capture, config)
trainer = Trainer(training_set, config, avatar_folder("baseline", session), device=session.device)
avatar = trainer.avatar
counts = {
    "Gaussians": sum(p.numel() for n, p in avatar.named_parameters() if not n.startswith("field.")),
    "network": sum(p.numel() for p in avatar.field.coefficients.parameters()),
    "basis": avatar.field.basis.numel(),
}
print(
    "most numbers:",
    max(counts, key=counts.get),
    "- frames:",
    len(training_set.names),
    "- driven by:",
    avatar.descriptor,
)
print(
    "before training, any descriptor gives the same head:",
    bool((avatar.gaussians(torch.randn(2, 52, device=session.device))[1] == 0).all()),
)

# %% [markdown]
# The basis starts at exactly zero, so training begins with a head that does not move. Whatever moves later was learned from pictures.
#
# ### Exercise 1 · The head in front of a camera (medium, 7 minutes)
#
# The Gaussians live in a *normalised head space*: the head's centre is the origin, its radius is 1. A point goes on a journey: normalised space
# → head space (times `radius`, plus `centre`) → world (the frame's head pose) → camera. Write all of it as one 4x4 matrix. Then divide it by
# `radius`: pixels do not notice a common scale of all lengths, and the rotation in the matrix is then a rotation again.


# %% tags=["exercise"]
def head_to_camera(world_to_camera, head_pose, centre, radius):  # [4, 4], [4, 4], [3], number -> [4, 4]
    # SOLUTION
    normalised_to_head = np.eye(4)
    normalised_to_head[:3, :3] *= radius
    normalised_to_head[:3, 3] = centre
    view = world_to_camera @ head_pose @ normalised_to_head
    view[:3] /= radius
    return view
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(1):
    camera, pose = training_set.cameras[0], training_set.head_poses[len(training_set.names) // 2]
    found = head_to_camera(camera.world_to_camera, pose, avatar.similarity.centre, avatar.similarity.radius)
    assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6), (
        "the upper left 3x3 should be a rotation"
    )
    assert np.allclose(found, avatar.view(camera, pose), atol=1e-5), "the avatar's own view differs"

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The first step as a matrix: `np.eye(4)`, its upper left 3x3 block times `radius`, its last column `centre`.
# </details>
# <details><summary>Hint 2</summary>
#
# What happens first stands on the right: `world_to_camera @ head_pose @ normalised_to_head`. Only the first three rows are divided.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# ## 2 · Train it
#
# A step takes one frame, shows its descriptor to the avatar, renders two of the cameras and compares. About a minute on two cores; the
# picture below is renewed every few seconds.
#
# **Predict:** what will be right first: the shape of the head, or the mouth?

# %%
from raf_lite.widgets import LiveTraining

avatar = trainer.train(resume=True, watch=LiveTraining())

# %% [markdown]
# If you have run this before, the finished avatar is read from `out/`; delete it there to watch again. A run that was killed goes on where it was.
#
# ## 3 · Grade it on what it never saw
#
# *Hold-out cameras*: known moments from new sides. *Self*: new sequences of the same person, with expressions that training has (`self-seen`),
# lacks (`self-unseen`) or has only weaker (`self-strong`). *Cross*: other people act, and our person's face making their expression is the exact answer.
#
# The **negative control** is the same avatar with its face frozen: it gets the neutral descriptor, whatever the driver does. A driven avatar that
# is not clearly better than that has learned nothing about expressions. About half a minute:

# %%
from raf_lite.evaluation import evaluate


class Frozen:
    """The avatar, turning its head, with the neutral face."""

    descriptor, neutral = avatar.descriptor, training_set.descriptors[training_set.neutral]

    def render(self, descriptors, head_poses, cameras):
        return avatar.render(np.tile(self.neutral, (len(descriptors), 1)), head_poses, cameras)


drivers = {name: open_capture(data / "mini_nersemble" / name) for name in ("101", "102", "103")}
table = evaluate(
    {"avatar": avatar, "frozen face": Frozen()},
    capture,
    drivers,
    size=config.size,
    frame_step=24 if session.fast else 8,
)
table[["views", "psnr_face", "mae_face", "mae_mouth", "mae_eyes"]].round(2)

# %%
# NBVAL_CHECK_OUTPUT
groups = table.index.get_level_values(0).unique()
print(
    "graded:",
    *(g for g in ("training views", "hold-out cameras", "self", "cross") if g in groups),
    sep="\n  ",
)
print("each with and without driving:", len(table) == 2 * len(groups))

# %%
gain = {
    g: 1 - table.loc[(g, "avatar"), "mae_mouth"] / table.loc[(g, "frozen face"), "mae_mouth"]
    for g in groups
    if g != "self"
}
for group, value in gain.items():
    print(f"{group:16}: driving removes {100 * value:3.0f} % of the frozen face's error in the mouth")

# %% [markdown]
# **Explain.** New sides cost little. New expressions cost much, strong ones too; and when somebody else drives, least of the motion arrives.
# The avatar has the right Gaussians for most of these faces. What fails is the way from the descriptor to them.
#
# ## 4 · What do the errors follow?
#
# Lesson 02 found that a descriptor also says *whose* face it is. So even a familiar expression arrives, from another person, as a vector that
# training never saw.
#
# ### Exercise 2 · Far from home (easy, 4 minutes)
#
# How far is each driving descriptor from the nearest one that training had?


# %% tags=["exercise"]
def distance_to_training(driving, own):  # [T, D], [N, D] -> [T], Euclidean distance to the nearest row of own
    # SOLUTION
    return np.array([np.linalg.norm(own - row, axis=1).min() for row in driving])
    # END


# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import ExpressionBank

home = ExpressionBank.from_arrays(training_set.descriptors, np.zeros(len(training_set.names), int))
with raf_lite.exercise(2):
    some = drivers["101"].descriptors("FREE", "blendshapes")[:20]
    assert np.allclose(
        distance_to_training(some, training_set.descriptors), home.search(some, 1)[0][:, 0], atol=1e-4
    )

# %% [markdown]
# <details><summary>Hint</summary>
#
# One row at a time: `np.linalg.norm(own - row, axis=1)` are its distances to all rows of `own`; take the smallest.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# It is the search of a bank whose only donor is the person; so from here on a bank does it.
# </details>
#
# **Predict:** which are farther from home: strong expressions of the person, or ordinary ones of somebody else?

# %%
from raf_lite.evaluation import frame_errors

step, rows = 12 if session.fast else 3, []
split = capture.split()
jobs = [("self", s, capture, s) for s in split.holdout_sequences]
jobs += [
    ("cross", s, drivers[capture.cross_parts(s)[0]], capture.cross_parts(s)[1])
    for s in capture.cross_sequences
]
for group, answer, driver, sequence in jobs:
    driving = driver.descriptors(sequence, "blendshapes")
    frames = np.flatnonzero(np.isfinite(driving).all(1))[::step]
    errors = frame_errors(avatar, capture, answer, driving[frames], frames, size=config.size)
    rows += zip(
        [group] * len(frames),
        [answer] * len(frames),
        frames,
        home.search(driving[frames], 1)[0][:, 0],
        errors["mouth"],
    )
print(len(rows), "frames graded")

# %%
from scipy.stats import spearmanr

driven_by = np.array([r[0] for r in rows])
distance, error = np.array([r[3] for r in rows]), np.array([r[4] for r in rows])
shuffled = spearmanr(np.random.default_rng(0).permutation(distance), error).statistic
edges = np.quantile(distance, [0, 0.25, 0.5, 0.75, 1])
for k in range(4):
    inside = (distance >= edges[k]) & (distance <= edges[k + 1])
    print(
        f"distance {edges[k]:.2f} to {edges[k + 1]:.2f}: error in the mouth {error[inside].mean():5.2f} grey levels, "
        f"{100 * (driven_by[inside] == 'cross').mean():3.0f} % of these frames driven by others"
    )
print(
    f"rank correlation of distance and error: {spearmanr(distance, error).statistic:+.2f}; distances shuffled: {shuffled:+.2f}"
)

# %%
# NBVAL_CHECK_OUTPUT
print(
    "others are farther from home than the person's own new expressions:",
    np.median(distance[driven_by == "cross"]) > np.median(distance[driven_by == "self"]),
)

# %%
worst = sorted((r for r in rows if r[0] == "cross"), key=lambda r: -r[4])[0]
driver, sequence = capture.cross_parts(worst[1])
camera, frame = capture.cameras[capture.encoder_camera], [worst[2]]
shown = avatar.render(
    drivers[driver].descriptors(sequence, "blendshapes")[frame], capture.head_poses(worst[1])[frame], [camera]
)[0, 0]
answer = capture.over_white(worst[1], camera.serial, frame)[0] / np.float32(255)
from raf_lite.viewing import error_map, show_strip

show_strip(
    [drivers[driver].frames(sequence, camera.serial)[worst[2]], answer, shown, error_map(shown, answer)],
    [f"driver {driver}", "exact answer", "the avatar", "its error"],
    f"The worst cross frame: {sequence}, frame {worst[2]} of driver {driver}; distance {worst[3]:.2f} from anything in training, "
    f"mean error in the mouth {worst[4]:.1f} grey levels.",
    height=192,
)

# %% [markdown]
# **Explain.** A correlation is not a cause: strong expressions are both far away and hard to draw. Yet the picture fits the idea that the
# avatar is asked about places of the descriptor space where it never was. Two ways out: *visit* more of the space in training, with other
# people's descriptors for the same faces (lesson 06), or *bring the driver home*, by taking out what is personal (lessons 02 and 07). Neither shows
# the avatar a motion that this person never made; lesson 11 is about that.
#
# ## Check yourself
#
# <details><summary>1. Why does the basis start at zero, and the network not?</summary>
#
# If the basis is zero, nothing moves whatever the network says, so the head is learned first and the motion grows out of it. If the network were
# zero too, no gradient would reach either: each one's gradient is a product with the other.
# </details>
# <details><summary>2. Why is the head pose not part of the descriptor?</summary>
#
# It is a rigid motion that is known exactly; folding it into the camera costs nothing. In the descriptor the network would have to learn what a
# rotation is, from examples.
# </details>
# <details><summary>3. Why compare with a frozen face?</summary>
#
# Most of a face does not move. A frozen face already gets most pixels right, so an error alone does not tell whether the driving works. The
# share of the frozen error that driving removes does.
# </details>
#
# ## Recap
#
# - An avatar is Gaussians and a field; here a learned basis of 24 offsets that a small network mixes.
# - It reproduces what it was trained on, from new sides too. Descriptors far from its training set are answered badly.
# - Other people's descriptors are such, even for familiar expressions.

# %%
card = {
    "seed": config.seed,
    "steps": config.steps,
    "Gaussians": len(avatar.means),
    "size": config.size,
    "device": session.device,
}
card |= {
    f"mouth error, {g}": f"{table.loc[(g, 'avatar'), 'mae_mouth']:.2f} (frozen {table.loc[(g, 'frozen face'), 'mae_mouth']:.2f})"
    for g in ("training views", "self", "cross")
}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** [06 · Retrieval-augmented training](06_retrieval_augmented_training.ipynb) visits more of the space.
