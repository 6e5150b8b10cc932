# %% [markdown]
# # 03 · The expression bank
#
# {{badges}}
#
# **By the end you will have shown that the nearest row of a bank makes nearly the same face, far nearer than a random row and still far
# from the best one, and that it matters more in which space you search than how many rows there are.** You walk through the bank yourself,
# and judge its neighbours blindly.
#
# | | |
# |---|---|
# | **You will** | search a bank without its own person · grade neighbours against the truth · compare keys and bank sizes · explore a map by mouse or keyboard · take part in a blind test, and analyse it |
# | **You need** | lesson 02, or what a descriptor is and whose face is in it |
# | **Time** | about {{minutes_cpu}} minute on two CPU cores, {{memory_gb}} GB of memory. No GPU needed |
# | **Download** | {{download}} |

# %%
import numpy as np
import raf_lite

session = raf_lite.setup(minutes_cpu=1)

# %% [markdown]
# ## 1 · What it is
#
# A bank holds descriptors of many people, and who each row is of. No labels, no names of expressions. Some rows keep a small picture, for us to
# look at; retrieval never sees it.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.manifest import find_data

bank = ExpressionBank.load(find_data() / "bank", "blendshapes")
stats = bank.stats()
print(
    f"{stats['rows']} rows of {stats['donors']} people, {bank.dim} numbers each, {stats['thumbnails']} with a picture"
)
print(f"{bank.descriptors.nbytes / 1e6:.1f} MB of numbers; encoder: {bank.encoder}")

# %% [markdown]
# **Predict:** take any row and search for its nearest other row, its *nearest neighbour*. Whose will it be?

# %%
own_donor = stats["leakage"]["nearest_same_donor"]
print(f"the nearest other row is of the same person: {100 * own_donor:.0f} % of the rows")
for kind in ("nearest", "nearest_other_donor"):
    print(
        f"distance, {kind.replace('_', ' ')}: median {stats['coverage'][kind]['50']:.2f}, 95 % below {stats['coverage'][kind]['95']:.2f}"
    )

# %% [markdown]
# A person's next frame is always near, and teaches nothing about other people. So a search has to leave the query's own person out. In
# training the subject is not in the bank at all.
#
# ### Exercise 1 · Search without the own person (medium, 7 minutes)


# %% tags=["exercise"]
def nearest_others(
    query, rows, donors, excluded, k
):  # [D], [N, D], [N], a donor, number -> k row numbers, nearest first
    # SOLUTION
    distance = np.linalg.norm(rows - query, axis=1)
    distance[donors == excluded] = np.inf
    return np.argsort(distance, kind="stable")[:k]
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(1):
    for row in (0, 1000, 17000):
        found = nearest_others(bank.descriptors[row], bank.descriptors, bank.donors, bank.donors[row], 5)
        expected = bank.search(bank.descriptors[row][None], 5, (bank.donors[row],))[1][0]
        assert list(found) == list(expected), f"row {row}: the bank finds {list(expected)}"

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# All distances at once, one for each row of the bank: `np.linalg.norm(rows - query, axis=1)`.
# </details>
# <details><summary>Hint 2</summary>
#
# A row that must not be found can be put infinitely far away: `distance[donors == excluded] = np.inf`.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# `bank.search(queries, k, exclude_donors)` asks FAISS for the same.
# </details>
#
# ## 2 · Does the neighbour make the same face?
#
# The renderer knows the true expression weights of every row and of our person. They are opened **to grade only**: nothing is searched with
# them. Beside the nearest row stand a **random row** (the negative control) and the **best row** that the bank has, which only the truth can find.
#
# **Predict:** on a scale on which the random row is 0 and the best row is 1, where will the nearest row be? And where with keys that have
# each person's own mean taken out (`centred`)?

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.captures import open_capture
from raf_lite.retrieval import RetrievalAugmentation

capture = open_capture(find_data() / "mini_nersemble" / "001")
sequences = capture.split().train_sequences
own = np.concatenate([capture.descriptors(s, "blendshapes") for s in sequences])
wanted = np.concatenate([capture.truth(s)["weights"] for s in sequences]).astype(np.float32)
truth = load_truth(find_data() / "bank")["weights"].astype(np.float32)
keys = {"raw": "paper-k16", "centred": "centred", "weighted": "weighted"}
neighbours = {key: RetrievalAugmentation.named(bank, name).fit(own).neighbours for key, name in keys.items()}
print(
    "own frames:",
    len(own),
    "- neighbours of each:",
    neighbours["raw"].shape[1],
    "- true weights a row:",
    truth.shape[1],
)

# %%
error = {
    f"{key}, rank {rank}": np.linalg.norm(truth[found[:, rank - 1]] - wanted, axis=1)
    for key, found in neighbours.items()
    for rank in (1, 4, 16)
}
rng = np.random.default_rng(0)
error["random row"] = np.linalg.norm(truth[rng.integers(len(truth), size=len(wanted))] - wanted, axis=1)
import faiss

error["best row"] = np.sqrt(faiss.knn(np.ascontiguousarray(wanted), truth, 1)[0][:, 0].clip(0))
low, high = error["random row"].mean(), error["best row"].mean()
for name, values in error.items():
    print(
        f"{name:17} error {values.mean():.2f}   {100 * (low - values.mean()) / (low - high):4.0f} % of the way from random to best"
    )

# %%
# NBVAL_CHECK_OUTPUT
mean = {name: values.mean() for name, values in error.items()}
print(
    "nearest is better than random with every key:",
    all(mean[f"{key}, rank 1"] < mean["random row"] for key in keys),
)
print("taking the person out finds better faces:", mean["centred, rank 1"] < mean["raw, rank 1"])
print(
    "the 16th is worse than the first, and better than random:",
    all(mean[f"{key}, rank 1"] < mean[f"{key}, rank 16"] < mean["random row"] for key in keys),
)

# %% [markdown]
# **Explain.** The encoder hears the expression through the face: raw neighbours are people who look alike *and* do something like it. Take each
# person's mean out, and more of what remains is expression. The distance from there to the best row is what the encoder loses.
#
# ### Exercise 2 · How many rows? (easy, 5 minutes)
#
# Does a larger bank find better faces? Grade the nearest row of *part* of the bank: of the rows of its first `people` people.
#
# **Predict:** how much worse will the nearest row of a *single* person (84 rows) be than that of all 220?


# %% tags=["exercise"]
def error_with(people):  # number of people -> mean true error of the nearest raw row among their rows
    # SOLUTION
    rows = np.flatnonzero(bank.donors < people)
    part = ExpressionBank.from_arrays(bank.descriptors[rows], bank.donors[rows])
    _, found = part.search(own, 1)
    return float(np.linalg.norm(truth[rows[found[:, 0]]] - wanted, axis=1).mean())
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(2):
    assert abs(error_with(220) - mean["raw, rank 1"]) < 1e-5, "with all people it is the whole bank"
    alone = bank.descriptors[bank.donors < 1]
    by_hand = np.linalg.norm(own[:, None] - alone[None], axis=2).argmin(1)
    assert (
        abs(error_with(1) - np.linalg.norm(truth[bank.donors < 1][by_hand] - wanted, axis=1).mean()) < 1e-5
    ), "one person: other rows"

# %% [markdown]
# <details><summary>Hint</summary>
#
# Donors are numbered from 0: `np.flatnonzero(bank.donors < people)` are their rows. A bank of these rows counts from 0 again, so its finds
# have to be translated back: `rows[found]`.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# The cell below does it for several sizes and two keys.
# </details>

# %%
for people in (1, 5, 20, 220):
    rows = np.flatnonzero(bank.donors < people)
    part = ExpressionBank.from_arrays(bank.descriptors[rows], bank.donors[rows])
    found = {
        key: rows[RetrievalAugmentation(part, k=1, key=key).fit(own).neighbours[:, 0]]
        for key in ("raw", "centred")
    }
    graded = {key: np.linalg.norm(truth[r] - wanted, axis=1).mean() for key, r in found.items()}
    near = np.linalg.norm(bank.descriptors[found["raw"]] - own, axis=1).mean()
    print(
        f"{people:3} people, {len(rows):5} rows: error raw {graded['raw']:.2f}, centred {graded['centred']:.2f};  distance of the raw row {near:.2f}"
    )

# %% [markdown]
# **Explain.** More rows are *nearer*, by a wide margin, but hardly *better*. What limits the neighbour is what the encoder mixes into the
# numbers, not how many rows there are to choose from. Over whole training runs it is the same: a thousand rows do as well as all
# (`docs/evidence.md`). What a large bank does bring is variety.
#
# ## 3 · Walk through it
#
# Each point is a row, crosses are our person's own training frames, and where there are none is what this person never recorded. Click a
# point; or choose a frame by its number, with the keyboard. Its neighbours appear below. (t-SNE takes about 20 s, once.)
#
# Try: a row far from all crosses. The same row with the true error shown. Colour by distance: which faces have no near neighbour?

# %%
from raf_lite.widgets import Own, explorer

pictures = np.concatenate([capture.frames(s, capture.encoder_camera)[:, ::4, ::4] for s in sequences])
explored = explorer(bank, own=Own(own, pictures, wanted), weights=truth)
explored

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.viewing import coverage

away, holes = coverage(bank, own)
farthest = int(away.argmax())
print(
    f"rows farther from our person's frames than these are from each other: {100 * holes:.0f} %; farthest: row {farthest}"
)

# %%
from raf_lite.viewing import show_strip
from raf_lite.widgets import Search

pictured = bank.thumbnail_rows
hole = int(pictured[away[pictured].argmax()])
found = Search(bank, weights=truth, k=5).neighbours(hole)
show_strip(
    [bank.thumbnail(hole)] + [bank.thumbnail(int(r)) for r in found.rows],
    [f"a hole: row {hole}"]
    + [f"person {bank.donors[r]}, {d:.2f}" for r, d in zip(found.rows, found.distances)],
    f"Row {hole}, the pictured row farthest from all frames of our person ({away[hole]:.2f}), and its five nearest rows of other people "
    f"at {', '.join(f'{d:.2f}' for d in found.distances)}.",
    height=110,
)

# %% [markdown]
# Retrieval does not fill such holes: the nearest rows of *our person's own* frames are near these frames. What it does is spread each frame over
# the places where other people would have put it. Lesson 06 looks at that.
#
# ## 4 · Judge for yourself, blindly
#
# The truth above is the renderer's. Would *people* call the nearest row more alike in expression? Below are twelve questions. One of the two faces
# is the nearest row by `centred` keys, the other a random one; sides are shuffled. Answer with mouse or keyboard (Tab, then Enter). Every answer is
# added to a file on this machine, and goes nowhere else.
#
# **Predict:** how many of twelve will you answer with the nearest? Guessing gives six.

# %%
from raf_lite.widgets import BlindTest, analyse, draw_trials, simulate

trials = draw_trials(bank, 12, np.random.default_rng(0), centred=True)
answers = "out/03_the_expression_bank/answers.csv"
BlindTest(bank, trials, rater="me", path=answers)

# %%
from pathlib import Path

print(
    analyse(answers).round(3)
    if Path(answers).is_file()
    else "No answers yet. Answer above, then run this cell again."
)

# %% [markdown]
# `analyse(file, file, ...)` takes the files of a whole class. To see what it says, here are two **simulated** raters with 200 answers each: one
# who picks the nearest in 80 % of the cases, and a coin, which is the negative control. They are no evidence of anything.

# %%
# NBVAL_CHECK_OUTPUT
pretend = Path("out/03_the_expression_bank/simulated.csv")
pretend.unlink(missing_ok=True)
many = draw_trials(bank, 200, np.random.default_rng(1))
for name, accuracy in (("good eye", 0.8), ("coin", 0.5)):
    simulate(many, pretend, name, accuracy, np.random.default_rng(2))
for rater, row in analyse(pretend).iterrows():
    verdict = "more than guessing" if row["low"] > 0.5 else "cannot be told from guessing"
    print(f"{rater:18} {row['nearest']:.2f} [{row['low']:.2f}, {row['high']:.2f}]  {verdict}")

# %% [markdown]
# The interval is Clopper and Pearson's, for answers that are independent. One person's twelve answers are not quite; in a class look at the mean
# over people, which `analyse` gives from three people on.
#
# ## Check yourself
#
# <details><summary>1. Why is the best row so much better than the nearest one?</summary>
#
# The bank has rows that make almost exactly our person's face, but the encoder's numbers for them differ, since the faces under the
# expression differ. Distance in descriptors is a noisy measure of distance in expression.
# </details>
# <details><summary>2. When would you draw one of the 16 nearest, instead of the nearest?</summary>
#
# When variety matters more than exactness: the nearest row of 452 frames is one of only 191 rows, so training would see few people. The price
# is the larger error of the 16th, which you have measured.
# </details>
# <details><summary>3. A t-SNE map shows two islands far apart. Are these expressions very different?</summary>
#
# Not necessarily. t-SNE keeps neighbours together; how far apart groups come to lie has no meaning. Look at distances in the descriptor space,
# which the strip under the map shows.
# </details>
#
# ## Recap
#
# - A bank is rows, and whose they are. Searching it means leaving the own person out.
# - Its nearest row is far better than a random one and far from the best one. Keys without the person's mean close part of that gap.
# - Holes in a recording can be seen on a map, and counted.

# %%
card = {
    "rows": len(bank),
    "people": stats["donors"],
    "own frames": len(own),
    "seed of the random rows": 0,
    "encoder": bank.encoder,
}
card |= {
    f"true error, {name}": f"{mean[name]:.2f}"
    for name in ("raw, rank 1", "centred, rank 1", "weighted, rank 1", "random row", "best row")
}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** [04 · Gaussian splatting](04_gaussian_splatting.ipynb) turns to the other half of an avatar: the picture.
