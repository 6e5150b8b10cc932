# %% [markdown]
# # 02 · Expression descriptors
#
# {{badges}}
#
# **By the end you will have shown that an expression descriptor also knows whose face it is, how much of it that is, and that one
# subtraction removes most of it.** Retrieval-augmented training lives and dies by this: a neighbour should be somebody else who does the
# *same*, not somebody who *looks* the same.
#
# | | |
# |---|---|
# | **You will** | encode frames · read blendshape scores · measure how much identity is in a descriptor · find the same expression across people · take a person's neutral out |
# | **You need** | NumPy; lesson 00 or the idea of a descriptor |
# | **Time** | about {{minutes_cpu}} minute on two CPU cores, {{memory_gb}} GB of memory. No GPU needed |
# | **Download** | {{download}} |

# %%
import numpy as np
import raf_lite

session = raf_lite.setup(minutes_cpu=1)

# %% [markdown]
# ## 1 · A face in 52 numbers
#
# MediaPipe's Face Landmarker looks at one picture and gives 478 landmarks, a head pose, and 52 *blendshape* scores between 0 and 1: how
# far the jaw is open, how much each mouth corner smiles, and so on. It was trained on other people's pictures; we only use it.
#
# **Predict:** two frames follow, one neutral and one of a strong smile. Which of the 52 scores will differ most?

# %%
from raf_lite.captures import open_capture
from raf_lite.manifest import find_data
from raf_lite.viewing import show_strip

capture = open_capture(find_data() / "mini_nersemble" / "001")
stored = capture.descriptors("EMO-4-disgust+happy", "blendshapes")
from raf_lite.descriptors import BLENDSHAPE_NAMES

smile = BLENDSHAPE_NAMES.index("mouthSmileLeft")
neutral_sequence, neutral_frame = capture.neutral
happy_frame = int(stored[:, smile].argmax())
pictures = np.stack(
    [
        capture.frames(neutral_sequence, capture.encoder_camera)[neutral_frame],
        capture.frames("EMO-4-disgust+happy", capture.encoder_camera)[happy_frame],
    ]
)
show_strip(
    list(pictures),
    ["neutral", f"frame {happy_frame} of EMO-4-disgust+happy"],
    "The neutral frame and the widest smile of EMO-4.",
)

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.descriptors import MediaPipeEncoder

with MediaPipeEncoder() as encoder:
    encoding = encoder.encode(pictures).require_all()
difference = encoding.descriptors[1] - encoding.descriptors[0]
print("descriptors:", encoding.descriptors.shape, "landmarks:", encoding.landmarks.shape)
print(
    "most changed:", BLENDSHAPE_NAMES[np.abs(difference).argmax()].removesuffix("Left").removesuffix("Right")
)

# %%
for k in np.abs(difference).argsort()[::-1][:6]:
    print(f"{BLENDSHAPE_NAMES[k]:20} {encoding.descriptors[0, k]:.2f} -> {encoding.descriptors[1, k]:.2f}")
dead = [
    n
    for n, s in zip(
        BLENDSHAPE_NAMES,
        np.concatenate([capture.descriptors(s, "blendshapes") for s in capture.sequences]).max(0),
    )
    if s < 0.02
]
print(
    f"never above 0.02 in all of this person's recordings: {len(dead)} of 52, among them {', '.join(dead[:6])}"
)

# %% [markdown]
# The scores of dead blendshapes carry nothing but noise. It is one reason not to divide every number by its own deviation.
#
# ## 2 · Whose number is it?
#
# The bank has 220 people who all act freely. If a descriptor were pure expression, everybody's *average* would be about the same. The share
# of the variance that the averages explain says how far that is from true:
#
# $$ \eta^2 = \frac{\sum_d n_d\,\lVert m_d - m\rVert^2}{\sum_i \lVert x_i - m\rVert^2} $$
#
# with $m_d$ the mean of donor $d$, who has $n_d$ rows, and $m$ the mean of all.
#
# ### Exercise 1 · Identity's share (medium, 8 minutes)


# %% tags=["exercise"]
def identity_share(rows, donors):  # [N, D], [N] -> eta squared, between 0 and 1
    # SOLUTION
    mean = rows.mean(0)
    between = sum(
        np.sum(donors == d) * np.sum((rows[donors == d].mean(0) - mean) ** 2) for d in np.unique(donors)
    )
    return float(between / np.sum((rows - mean) ** 2))
    # END


# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import ExpressionBank

bank = ExpressionBank.load(find_data() / "bank", "blendshapes")
with raf_lite.exercise(1):
    expected = bank.stats()["leakage"]["variance_share"]
    assert abs(identity_share(bank.descriptors.astype(np.float64), bank.donors) - expected) < 1e-4, (
        "the bank's own statistics say otherwise"
    )
    assert identity_share(np.eye(4)[[0, 0, 1, 1]], np.array([5, 5, 7, 7])) == 1, (
        "rows that only depend on the donor have a share of 1"
    )

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `rows[donors == d]` are one donor's rows. Their mean over axis 0 is $m_d$.
# </details>
# <details><summary>Hint 2</summary>
#
# The upper sum has one term a donor, each times the number of that donor's rows. The lower one has one term a row.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# **Predict:** how large is it for MediaPipe's blendshapes? And for labels that were dealt out at random?

# %%
leakage = bank.stats()["leakage"]
print(
    f"explained by who it is: {leakage['variance_share']:.2f}; by chance it would be {leakage['variance_share_chance']:.3f}"
)
print(
    f"nearest row is of the same donor: {leakage['nearest_same_donor']:.2f}; by chance {leakage['nearest_same_donor_chance']:.3f}"
)

# %% [markdown]
# ## 3 · Take the person out
#
# A person's resting face is no expression, yet the encoder gives it numbers. Subtract them: `relative_to` does it for one person. Where nobody
# says which frame is neutral, the mean of a person's recording does nearly as well; that is what the `centred` setting of RAF does.
#
# ### Exercise 2 · The same expression across people (medium, 10 minutes)
#
# Everybody makes the same expressions here, and the renderer knows which (that is what `load_truth` opens, **to grade only**). For a row of one
# person, is the nearest row of *other* people the same expression?


# %% tags=["exercise"]
def same_expression(
    rows, donors, labels
):  # [N, D], [N], [N] -> share of rows whose nearest row of another donor has its label
    # SOLUTION
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    distance[donors[:, None] == donors[None]] = np.inf
    return float((labels[distance.argmin(1)] == labels).mean())
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(2):
    rows = np.array([[0.0], [1.0], [0.1], [0.9], [5.0]])
    people, faces = np.array([1, 1, 2, 2, 1]), np.array([3, 4, 3, 4, 9])
    assert same_expression(rows, people, faces) == 0.8, (
        "four of these five rows have their own expression nearest"
    )

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# All distances at once: `np.linalg.norm(rows[:, None] - rows[None], axis=2)` is [N, N].
# </details>
# <details><summary>Hint 2</summary>
#
# Put `np.inf` where two rows are of the same donor; then `argmin(1)` is the nearest row of somebody else.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# Now with real rows: 24 donors, the frames in which one expression stands at its strongest. Each descriptor stands beside its version
# without the person's own neutral, and beside the **negative control**: the same rows with the expressions' labels shuffled.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import load_truth

truth = load_truth(find_data() / "bank")
strength = np.linalg.norm(truth["weights"].astype(np.float32), axis=1)
chosen = []
for donor in np.unique(bank.donors)[:24]:
    own = np.flatnonzero((bank.donors == donor) & (truth["archetype"] >= 0))
    best = {}
    for row in own[np.argsort(-strength[own])]:
        best.setdefault(int(truth["archetype"][row]), int(row))
    chosen += best.values()
chosen = np.array(chosen)
labels, donors = truth["archetype"][chosen], bank.donors[chosen]
print(len(chosen), "rows of", len(np.unique(donors)), "people,", len(np.unique(labels)), "expressions")


# %%
def top1(rows, labels):
    """Share of rows whose nearest row of another donor has the same label, by the bank's own search."""
    small, hits = ExpressionBank.from_arrays(rows, donors), []
    for donor in np.unique(donors):
        mine = np.flatnonzero(donors == donor)
        hits.append(labels[small.search(rows[mine], 1, [donor])[1][:, 0]] == labels[mine])
    return float(np.concatenate(hits).mean())


results, shuffled = {}, np.random.default_rng(0).permutation(labels)
for column in ("blendshapes", "landmarks_pca"):
    whole = ExpressionBank.load(find_data() / "bank", column)
    neutral = {d: whole.descriptors[(whole.donors == d) & whole.neutral][0] for d in np.unique(donors)}
    centre = dict(zip(*whole.donor_means()))
    forms = {
        "as they are": 0,
        "minus own mean": np.stack([centre[d] for d in donors]),
        "minus own neutral": np.stack([neutral[d] for d in donors]),
    }
    for form, offset in forms.items():
        rows = (whole.descriptors[chosen] - offset).astype(np.float32)
        share = ExpressionBank.from_arrays(rows, donors).stats()["leakage"]["variance_share"]
        results[column, form] = top1(rows, labels), share, top1(rows, shuffled)

# %%
print(f"{'descriptor':32} same expression   identity's share   shuffled labels")
for (column, form), (hit, share, control) in results.items():
    print(f"{column + ', ' + form:32} {hit:15.2f} {share:18.2f} {control:17.2f}")

# %%
# NBVAL_CHECK_OUTPUT
for column in ("blendshapes", "landmarks_pca"):
    raw, mean, neutral = (
        results[column, form] for form in ("as they are", "minus own mean", "minus own neutral")
    )
    print(
        f"{column}: minus neutral finds more:",
        neutral[0] > raw[0],
        "and holds less identity:",
        neutral[1] < raw[1],
        "- minus the mean too:",
        mean[0] > raw[0] and mean[1] < raw[1],
    )
print(
    "with shuffled labels next to nothing is found:", max(control for *_, control in results.values()) < 0.1
)

# %% [markdown]
# **Explain.** A subtraction that needs no learning finds the same expression across people far more often, and the landmarks gain most. So the
# question for the rest of the course is not only *which neighbour* but *in which space* it is a neighbour.
# It is also the fair rival of everything that follows: whoever can subtract a neutral may not need retrieval at all. Lesson 07 asks.
#
# ## 4 · Look at it
#
# The neighbours of one frame, raw and minus the own mean. Only rows with a picture are searched, so that you can see them.

# %%
query = capture.descriptors("EMO-1-shout+laugh", "blendshapes")
row = int(query[:, BLENDSHAPE_NAMES.index("jawOpen")].argmax())
pictured = bank.thumbnail_rows
centred = bank.centred()
mean = np.concatenate([capture.descriptors(s, "blendshapes") for s in capture.split().train_sequences]).mean(
    0
)
for title, source, wanted in (
    ("raw", bank.descriptors, query[row]),
    ("minus the own mean", centred.descriptors, query[row] - mean),
):
    small = ExpressionBank.from_arrays(source[pictured], bank.donors[pictured])
    distance, found = small.search(wanted[None].astype(np.float32), 5)
    show_strip(
        [capture.frames("EMO-1-shout+laugh", capture.encoder_camera)[row]]
        + [bank.thumbnail(int(pictured[r])) for r in found[0]],
        ["our person"] + [f"donor {small.donors[r]}, {d:.2f}" for r, d in zip(found[0], distance[0])],
        f"Nearest neighbours, {title}: donors " + ", ".join(str(small.donors[r]) for r in found[0]) + ".",
        height=110,
    )

# %% [markdown]
# ## Check yourself
#
# <details><summary>1. Why is the nearest row nearly always of the same donor, if you do not exclude it?</summary>
#
# A donor's own frames share the constant that the encoder gives that face, and neighbouring frames are alike besides. In training the subject is not in
# the bank, so its nearest row is of the donor whose resting face looks most alike.
# </details>
# <details><summary>2. Why not divide each number by its own deviation?</summary>
#
# Several blendshapes are dead: their deviation is noise, and dividing by it makes the noise as large as the jaw. A floor under the divisor helps; the
# `weighted` setting has one.
# </details>
# <details><summary>3. What does the shuffled column tell you?</summary>
#
# How often the same label is found by luck. If it were high, a few expressions would make up most of the rows and the score would mean little.
# </details>
#
# ## Recap
#
# - A descriptor is expression *and* person. Here the person is about a third of the variance of raw blendshapes.
# - Subtracting the own neutral, or the own mean where nobody knows the neutral, takes most of the person out.
# - Whatever is claimed for retrieval has to be compared with that subtraction.

# %%
card = {
    "rows": len(chosen),
    "donors": len(np.unique(donors)),
    "seed of the shuffle": 0,
    "encoder": bank.encoder,
}
card |= {
    f"{column}, {form}": f"same expression {hit:.2f}, identity {share:.2f}"
    for (column, form), (hit, share, _) in results.items()
}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** lesson 03 opens the bank itself and lets you walk through it. Until it is here, [00 · Start here](00_start_here.ipynb) shows retrieval at work.
