# %% [markdown]
# # 00 · Start here
#
# {{badges}}
#
# **By the end you will have shown, with your own run, what retrieval-augmented training (RAF) does to a Gaussian head avatar.** You
# train four avatars of one person with the same seed and budget: without retrieval, with it in two forms, and with matched noise
# instead. You drive them with other people's expressions and grade them against exact ground truth. Whether RAF helps, and what it
# costs, you read off your own table.
#
# | | |
# |---|---|
# | **You will** | open a capture · read an expression descriptor · retrieve neighbours from a bank · train avatars · compare them honestly · render a comparison video |
# | **You need** | Python and some PyTorch; nothing about Gaussian splatting |
# | **Time** | about {{minutes_cpu}} minutes on two CPU cores, {{memory_gb}} GB of memory; with `RAF_FAST=1` under a minute, and then the numbers mean nothing. {{gpu}} |
# | **Download** | {{download}} |
#
# The people here are rendered. No real person's face is in this lesson, and only rendered faces come with an exact answer to the
# question "what would *this* face look like making *that* face's expression?"

# %%
import numpy as np
import torch
import raf_lite

session = raf_lite.setup(minutes_cpu=4)

# %% [markdown]
# ## 1 · A capture
#
# A *capture* is one person, filmed by several calibrated cameras, in named sequences. Ours has the layout of the NeRSemble dataset, so the
# same reader opens the real thing.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.captures import open_capture
from raf_lite.manifest import find_data

data = find_data()
capture = open_capture(data / "mini_nersemble" / "001")
split = capture.split()
print(len(split.train_sequences), "training sequences,", len(split.train_cameras), "training cameras")
print("held out:", *split.holdout_sequences)
print("encoder's camera:", capture.encoder_camera)

# %%
from raf_lite.viewing import show_strip

sequence, frame = "EMO-2-surprise+fear", 4
show_strip(
    [capture.frames(sequence, serial)[frame] for serial in split.train_cameras],
    [f"camera {serial}" for serial in split.train_cameras],
    f"One moment of {sequence} (frame {frame}) from the {len(split.train_cameras)} training cameras.",
)

# %% [markdown]
# ## 2 · An expression as a vector
#
# A *descriptor* is what an encoder makes of one frame. Ours is MediaPipe's: 52 blendshape scores, computed on the frontal camera and stored
# beside the videos. At test time the avatar sees no video, only these numbers and the head pose.
#
# **Predict:** in the sequence in which the jaw opens and closes, which of the 52 scores will move most?

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.descriptors import BLENDSHAPE_NAMES

descriptors = capture.descriptors("EXP-8-jaw-1", "blendshapes")
spread = np.ptp(descriptors, axis=0)
print("descriptors:", descriptors.shape)
print("moves most:", BLENDSHAPE_NAMES[spread.argmax()])

# %% [markdown]
# ## 3 · A bank of other people, and what retrieval finds
#
# The *bank* holds descriptors of 220 other people (*donors*), without labels. Retrieval asks it for the rows nearest to one of our
# person's descriptors.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import ExpressionBank

bank = ExpressionBank.load(data / "bank", descriptor="blendshapes")
stats = bank.stats()
print(stats["rows"], "rows of", stats["donors"], "donors;", bank.dim, "numbers a row")

# %%
# Only some rows of the bank have a picture; for looking, search among those.
pictured = ExpressionBank.from_arrays(bank.descriptors[bank.thumbnail_rows], bank.donors[bank.thumbnail_rows])
query = capture.descriptors(sequence, "blendshapes")[frame]
distances, rows = pictured.search(query[None], k=5)
show_strip(
    [capture.frames(sequence, capture.encoder_camera)[frame]]
    + [bank.thumbnail(int(bank.thumbnail_rows[r])) for r in rows[0]],
    ["our person"] + [f"donor {pictured.donors[r]}, distance {d:.2f}" for r, d in zip(rows[0], distances[0])],
    "Our person's frame and its five nearest neighbours in the bank: "
    + ", ".join(f"donor {pictured.donors[r]} at {d:.2f}" for r, d in zip(rows[0], distances[0]))
    + ".",
)

# %% [markdown]
# Are the neighbours really closer in expression? The bank's `truth.npz` holds the true expression weights. It is opened **only to grade**.
# A number below 1 means closer than a random row.

# %%
from raf_lite.bank import load_truth

truth = load_truth(data / "bank")["weights"].astype(np.float32)
rng, errors = np.random.default_rng(0), {"nearest": [], "random": []}
for held_out in split.holdout_sequences:
    wanted = capture.truth(held_out)["weights"].astype(np.float32)
    _, nearest = bank.search(capture.descriptors(held_out, "blendshapes"), k=1)
    errors["nearest"] += list(np.linalg.norm(truth[nearest[:, 0]] - wanted, axis=1))
    errors["random"] += list(
        np.linalg.norm(truth[rng.integers(len(truth), size=len(wanted))] - wanted, axis=1)
    )
print(
    f"error of the nearest row / error of a random row: {np.mean(errors['nearest']) / np.mean(errors['random']):.2f}"
)

# %% [markdown]
# ### Exercise 1 · Nearest, by hand (easy, 3 minutes)
#
# A bank's search is nothing but this: which row is nearest? Write it for one query, without the bank.


# %% tags=["exercise"]
def nearest(query, rows):  # [D], [N, D] -> number of the row with the smallest Euclidean distance
    # SOLUTION
    return int(np.linalg.norm(rows - query, axis=1).argmin())
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(1):
    queries = capture.descriptors("FREE", "blendshapes")[::10]
    found = [nearest(query, bank.descriptors) for query in queries]
    assert found == bank.search(queries, k=1)[1][:, 0].tolist(), "the bank finds other rows"

# %% [markdown]
# <details><summary>Hint</summary>
#
# `rows - query` subtracts the query from every row. `np.linalg.norm(..., axis=1)` gives one length for each row, and `argmin` the number of
# the smallest.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# The bank does the same with FAISS, which stays fast when there are millions of rows.
# </details>

# %% [markdown]
# ## 4 · RAF is two lines
#
# With probability *p* a frame's descriptor is replaced by that of a neighbour in the bank. The picture to be reconstructed stays our
# person's own. So the avatar learns that *another person's* scores for this expression mean *this* face.
#
# There are two ways to search. `paper-k16` compares raw descriptors, as the paper does, and draws one of the 16 nearest. `centred`
# first subtracts each person's own mean, so that it compares how far people are *from their usual face*.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.retrieval import RetrievalAugmentation

own = np.concatenate([capture.descriptors(s, "blendshapes") for s in split.train_sequences])
augmentation = RetrievalAugmentation.named(bank, "centred", p=0.2).fit(own)  # line one
augmented, info = augmentation.augment(own, np.random.default_rng(0), index=np.arange(len(own)))  # line two
print(
    f"{info['replaced'].mean():.1f} of the descriptors replaced; the others unchanged:",
    np.array_equal(augmented[~info["replaced"]], own[~info["replaced"]]),
)

# %% [markdown]
# ### Exercise 2 · The swap, by hand (medium, 5 minutes)
#
# Line two, without the library: each frame's descriptor is replaced by its neighbour's with probability `p`, each by a draw of its own.


# %% tags=["exercise"]
def swap(own, neighbours, p, rng):  # [N, D], [N, D] -> (descriptors [N, D], which were replaced, bool [N])
    # SOLUTION
    replaced = rng.random(len(own)) < p
    return np.where(replaced[:, None], neighbours, own), replaced
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(2):
    neighbours = bank.descriptors[bank.search(own, k=1)[1][:, 0]]
    mixed, replaced = swap(own, neighbours, 0.2, np.random.default_rng(0))
    assert 0.15 < replaced.mean() < 0.25, "about a fifth should be replaced"
    assert np.array_equal(mixed[replaced], neighbours[replaced]), "a replaced row is its neighbour's"
    assert np.array_equal(mixed[~replaced], own[~replaced]), "the other rows stay"

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `rng.random(N)` draws N numbers, evenly spread between 0 and 1. How many of them are below 0.2?
# </details>
# <details><summary>Hint 2</summary>
#
# `np.where(condition[:, None], a, b)` takes whole rows of `a` where the condition holds, and of `b` elsewhere.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# Line one of the library looks the neighbours up once, before training, so that a step costs next to nothing.
# </details>

# %% [markdown]
# ## 5 · Train: without, with, and with noise instead
#
# A replaced descriptor is also a *disturbed* descriptor, and disturbing a network's input often helps by itself. So one run is a
# **control**: Gaussian noise with the mean and covariance of what `centred` adds to a descriptor, but no other people in it.
#
# All four start from the same Gaussians, see the same frames and cameras in the same order, and take the same number of steps.
#
# **Predict:** which of the four fits its own training pictures best?

# %%
from raf_lite.training import PRESETS, Trainer, TrainingSet

runs = {
    "baseline": None,
    "RAF (paper-k16)": "paper-k16",
    "RAF (centred)": "centred",
    "noise control": "centred-gaussian",
}
small = dict(size=128, steps=1500, coarse_steps=0, gaussians=6000)
config = PRESETS["fast"] if session.fast else PRESETS["cpu"].with_(**small)
training_set = TrainingSet.from_capture(capture, config)
print(
    f"{len(training_set.names)} frames; {config.steps} steps at {config.size} pixels:",
    "seconds" if session.fast else "about 40 s on two cores",
    "for each avatar",
)

# %%
avatars = {}
for name, retrieval in runs.items():
    folder = f"out/00_start_here/{retrieval or 'baseline'}"
    trainer = Trainer(
        training_set, config.with_(retrieval=retrieval), folder, bank=bank, device=session.device
    )
    avatars[name] = trainer.train(resume=True)

# %%
# NBVAL_CHECK_OUTPUT
baseline, raf = avatars["baseline"], avatars["RAF (centred)"]
print("same architecture:", [p.shape for p in baseline.parameters()] == [p.shape for p in raf.parameters()])
print("same numbers:", all(torch.equal(p, q) for p, q in zip(baseline.parameters(), raf.parameters())))

# %% [markdown]
# RAF changes what the network learns, and nothing else: no new layer, no new input, nothing to do at test time.
#
# ## 6 · Grade
#
# *Self* is the person's own hold-out sequences. *Cross* is what RAF is for: three other people act, the avatar gets **their**
# descriptors and head poses, and the answer is our person's face rendered with their true expression weights. No avatar has seen it.
# Pictures are compared at half their size: finer texture is the same blur in every avatar, and would drown what the face does.
#
# **Predict:** where will RAF help, and where will it cost? Write it down before you run the cell.

# %%
from raf_lite.evaluation import change_from_baseline, evaluate

drivers = {name: open_capture(data / "mini_nersemble" / name) for name in ("101", "102", "103")}
table = evaluate(avatars, capture, drivers, size=config.size, frame_step=24 if session.fast else 6)
columns = ["views", "psnr_face", "flip_face", "mae_face", "mae_mouth", "mae_eyes"]
table.loc[["training views", "self", "cross"], columns].round(3)

# %%
change = change_from_baseline(table).loc[["self", "cross"], ["mae_face %", "mae_mouth %", "mae_eyes %"]]
print("Change of the error inside the face, the mouth, the eyes, against the baseline (negative: better)")
for (group, name), row in change.iterrows():
    print(f"  {group:5}  {name:15}", "  ".join(f"{value:+5.0f} %" for value in row))

# %% [markdown]
# **Explain.** In the run that is committed here (other machines round differently, so your numbers differ a little):
#
# - *Cross:* the face's error falls by 17 % with `centred`, around the eyes by 32 %. `paper-k16` gains 2 %.
# - *The noise control gains 5 % by itself.* That part of the gain needs no other people, only a disturbed descriptor. The other twelve
#   points are what retrieval adds: most of them around the eyes; in the mouth it is 7 % against the noise's 4.
# - *Self and training views:* all three cost something, 1 to 4 % on *self* inside the face, up to 5 % around the eyes.
#
# A comparison with the baseline alone would have credited retrieval with everything. And this is one person and one seed:
# differences of a few percent between two rows are not evidence yet.
#
# ## 7 · Look

# %%
from raf_lite.viewing import comparison_frames, comparison_video, show_video

driver, moment = "102", 46
some = {name: avatars[name] for name in ("baseline", "RAF (centred)")}
picture = comparison_frames(
    some, capture, drivers[driver], f"CROSS-{driver}-FREE", 256, slice(moment, moment + 1)
)[0]
show_strip(
    [picture],
    ["all driven by the driver's descriptor alone"],
    f"Frame {moment} of driver {driver}'s sequence FREE: driver, exact answer, then each avatar and its error map. "
    + "; ".join(
        f"{name}: mean error inside the face over all cross frames "
        f"{table.loc[('cross', name), 'mae_face']:.1f} of 255"
        for name in some
    )
    + ".",
    height=280,
)

# %%
film = comparison_video(
    "out/00_start_here/comparison.mp4",
    some,
    capture,
    {driver: drivers[driver]},
    size=256,
    frames=slice(0, 24),
)
show_video(
    film,
    f"Two seconds of driver {driver}'s sequence FREE: driver, exact answer, then each avatar and its error.",
)

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.captures import read_video

print("film:", read_video(film).shape, "below 1 MB:", film.stat().st_size < 1e6)

# %% [markdown]
# ## Check yourself
#
# <details><summary>1. The avatar is trained with other people's descriptors. Why does it not turn into other people?</summary>
#
# The loss always compares with our person's own pictures. Only the *name* under which an expression is stored changes, never the face.
# </details>
# <details><summary>2. Why is there a control with noise?</summary>
#
# Because replacing descriptors also disturbs them. If equally large noise without any other people did as well, retrieval would
# deserve no credit. That comparison, not the one with the baseline, tells whether retrieval matters.
# </details>
# <details><summary>3. Why does RAF do worse on the person's own training pictures?</summary>
#
# Now and then it is asked for the right picture from a descriptor that is not quite that frame's. It cannot fit both exactly.
# That is the price; cross-driving is what it buys.
# </details>
# <details><summary>4. Could you have measured cross-driving like this on real recordings?</summary>
#
# Not against pixels: nobody knows how person A's face looks while making person B's expression. On recordings one measures how far the
# encoder's output on the avatar is from the driver's, with the same encoder that drove the avatar. Rendered people have an exact answer.
# </details>
#
# ## Recap
#
# - An avatar here is Gaussians, a small network, and a descriptor that drives it. RAF changes which descriptor a training frame gets.
# - Retrieval needs a bank of other people's descriptors, and no labels.
# - Judge it where it is meant to help (other people's expressions), against matched noise, and say what it costs elsewhere.

# %%
card = {
    "seed": config.seed,
    "device": session.device,
    "fast": session.fast,
    "steps": config.steps,
    "torch": torch.__version__,
}
card |= {
    f"cross, face error, {name}": f"{change.loc[('cross', name), 'mae_face %']:+.1f} %"
    for name in list(runs)[1:]
}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** the lessons that follow open each of these steps: descriptors, the bank and its neighbours, splatting, training, evaluation.
# The last, [11](11_what_other_faces_know.ipynb), goes a step past the paper.
