# %% [markdown]
# # 10 · Scaling up
#
# {{badges}}
#
# **By the end you will have shown what a search in a million rows costs, exactly and approximately, and that what an approximate search
# misses hardly matters to retrieval.** And you will know what a GPU changes here, and what of that nobody has measured yet.
#
# | | |
# |---|---|
# | **You will** | build a million rows honestly · time exact and approximate search · measure recall, then what really counts · read presets for CPU and GPU |
# | **You need** | lesson 03, or what a bank is |
# | **Time** | about {{minutes_cpu}} minutes on two CPU cores, {{memory_gb}} GB of memory. {{gpu}} |
# | **Download** | {{download}} |

# %%
import numpy as np
import raf_lite

session = raf_lite.setup(minutes_cpu=2)

# %% [markdown]
# ## 1 · What a GPU changes
#
# Nothing in the method. The rasteriser is then gsplat's, with the same names and shapes as our own; the preset has more of everything.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.training import PRESETS

cpu, gpu = PRESETS["cpu"].as_dict(), PRESETS["gpu"].as_dict()
for name in cpu:
    if cpu[name] != gpu[name]:
        print(f"{name:17} cpu {cpu[name]:>6}   gpu {gpu[name]:>6}")

# %%
if session.device == "cuda":
    print("Train on it with: raf-lite train CAPTURE --preset gpu --out out/me --retrieval centred")
else:
    print(
        "No GPU here, so nothing of this section runs. The way on: Runtime > Change runtime type in Colab, or a machine with an NVIDIA card;"
    )
    print(
        "then: pip install gsplat==1.5.3, and: raf-lite train CAPTURE --preset gpu --out out/me --retrieval centred"
    )

# %% [markdown]
# Honesty first: on a card the rasteriser is gsplat itself, whose formulas our own was compared with on the CPU. None of it has been run on a
# card by its authors. `python benchmarks/gpu.py` measures it where there is one. What follows needs none.
#
# ## 2 · A million rows
#
# The shipped bank has 18,480 real rows. For a million we add **jittered copies**: a real row plus noise, three tenths of what varies inside a
# person. They make the search as hard as a million rows are; they hold no new expressions. 20 people are held out, and their *real* rows
# ask the questions.

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.bank import ExpressionBank, load_truth
from raf_lite.manifest import find_data

bank = ExpressionBank.load(find_data() / "bank", "blendshapes")
truth = load_truth(find_data() / "bank")["weights"].astype(np.float32)
held_out, real = np.flatnonzero(bank.donors >= 200), np.flatnonzero(bank.donors < 200)
queries, asked = np.ascontiguousarray(bank.descriptors[held_out[::4]]), truth[held_out[::4]]
print("real rows to search in:", len(real), "- questions by other people:", len(queries))

# %%
count = 60_000 if session.fast else 1_000_000
rng = np.random.default_rng(0)
source = np.concatenate(
    [real, rng.choice(real, count - len(real))]
)  # which real row each row is, or is a copy of
rows = bank.descriptors[source].copy()
jitter = 0.3 * bank.centred().descriptors.std(0)
for start in range(len(real), count, 100_000):
    part = rows[start : start + 100_000]
    part += rng.standard_normal(part.shape, dtype=np.float32) * jitter
print(
    f"{len(rows):,} rows, {rows.nbytes / 1e6:.0f} MB; {100 * (1 - len(real) / count):.0f} % of them jittered copies"
)

# %% [markdown]
# ### Exercise 1 · Bytes a row (easy, 4 minutes)
#
# An *exact* (flat) index keeps each number in 4 bytes. A *product quantiser* cuts a row into `parts` pieces and keeps for each one byte: which of
# 256 typical pieces it resembles. How many bytes does a row take in each?


# %% tags=["exercise"]
def bytes_a_row(dim, parts=None):  # parts None: exact, else a product quantiser with this many pieces
    # SOLUTION
    return 4 * dim if parts is None else parts
    # END


# %%
# NBVAL_CHECK_OUTPUT
import faiss

with raf_lite.exercise(1):
    assert bytes_a_row(52) == rows.nbytes // len(rows), "exact: four bytes a number"
    assert bytes_a_row(52, 13) == faiss.IndexPQ(52, 13, 8).pq.code_size, "13 pieces: another number of bytes"

# %% [markdown]
# <details><summary>Hint</summary>
#
# One byte tells 256 things apart, so a piece takes one byte, however many numbers it has.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
#
# 208 against 13 bytes: that is why product quantisers are used where memory is short. What they cost, you are about to see.
# </details>
#
# ## 3 · Exact against approximate
#
# - **Flat**: compares with every row. Exact.
# - **IVF**: rows lie in 1024 cells; only the `nprobe` nearest cells are searched.
# - **IVF + PQ**: the same, and rows kept in 13 bytes.
# - **HNSW**: a graph of neighbours; the walk keeps `efSearch` candidates.
#
# **Recall** is the share of questions for which the approximate search finds the exact nearest row.
#
# **Predict:** how many times faster than exact can a search be that still finds 9 of 10 nearest rows?
#
# Building the three indexes takes about a minute on two idle cores, several beside other work; most of it is HNSW's graph.

# %%
import time


def timed(index):  # seconds a question (the best of three rounds), rows that were found
    seconds = []
    for _ in range(3):
        clock = time.perf_counter()
        found = index.search(queries, 1)[1][:, 0]
        seconds.append(time.perf_counter() - clock)
    return min(seconds) / len(queries), found


flat = faiss.IndexFlatL2(bank.dim)
flat.add(rows)
exact_seconds, exact = timed(flat)
print(
    f"exact: {1e3 * exact_seconds:.2f} ms a question, {1e3 * exact_seconds * 452 / 1e3:.1f} s for the 452 frames of a training set"
)
del flat


# %%
def size(index):  # bytes a row of the index as it would be saved, counted while it is written to nowhere
    written = []
    faiss.write_index(index, faiss.PyCallbackIOWriter(lambda block: written.append(len(block)) or len(block)))
    return sum(written) / index.ntotal


cells = 64 if session.fast else 1024
sample = rows[rng.choice(count, max(40 * cells, 10_000), replace=False)]
results, sizes = (
    [],
    {"exact": float(4 * bank.dim)},
)  # results: (kind, setting, seconds a question, recall, found)
for kind, factory, settings in (
    ("IVF", f"IVF{cells},Flat", (1, 2, 4, 16)),
    ("IVF + PQ", f"IVF{cells},PQ13", (1, 4, 16, 64)),
    ("HNSW", "HNSW16", (4, 16, 64, 256)),
):
    index = faiss.index_factory(bank.dim, factory)
    clock = time.perf_counter()
    if not index.is_trained:
        index.train(sample)
    index.add(rows)
    sizes[kind] = size(index)
    print(
        f"{kind:8} built in {time.perf_counter() - clock:5.1f} s, {sizes[kind]:4.0f} bytes a row (exact: {sizes['exact']:.0f})"
    )
    for setting in settings:
        if kind == "HNSW":
            index.hnsw.efSearch = setting
        else:
            index.nprobe = setting
        seconds, found = timed(index)
        results.append((kind, setting, seconds, float((found == exact).mean()), found))
    del index

# %%
for kind, setting, seconds, recall, _ in results:
    print(
        f"{kind:8} {setting:4}: recall {recall:.2f}, {1e3 * seconds:7.3f} ms a question, {exact_seconds / seconds:6.0f} times faster than exact"
    )

# %%
import plotly.graph_objects as go
from raf_lite.viewing import show_figure

figure = go.Figure()
for kind, symbol, dash in (
    ("IVF", "circle", "solid"),
    ("IVF + PQ", "square", "dash"),
    ("HNSW", "diamond", "dot"),
):
    mine = [r for r in results if r[0] == kind]
    figure.add_scatter(
        x=[exact_seconds / r[2] for r in mine],
        y=[r[3] for r in mine],
        name=kind,
        mode="lines+markers+text",
        marker={"symbol": symbol, "size": 10},
        line={"dash": dash},
        text=[str(r[1]) for r in mine],
        textposition="top center",
    )
figure.update_xaxes(type="log", title=f"times faster than exact ({1e3 * exact_seconds:.2f} ms)")
figure.update_yaxes(title="recall of the nearest row", range=[0, 1.1])
title = f"{count:,} rows, {100 * (1 - len(real) / count):.0f} % of them jittered copies; questions are real rows of other people"
figure.update_layout(title=title, template="plotly_white", height=420)
show_figure(
    figure,
    title
    + ". "
    + "; ".join(
        f"{kind} {setting}: recall {recall:.2f}, {exact_seconds / s:.0f} times faster"
        for kind, setting, s, recall, _ in results
    )
    + ".",
)

# %% [markdown]
# **Explain.** IVF and HNSW find nine of ten nearest rows some tens to hundreds of times faster than exact search; how many depends on the
# machine and on what else it does, so read your own figure. The copies may flatter IVF: they lie in a heap around their original. HNSW keeps the rows *and* its graph, and takes
# longest to build. PQ takes a tenth of the memory, and its recall stops rising however many cells it searches: it compares *rounded* rows, and
# rounding decides which of many near ones comes first.
#
# ## 4 · What a miss costs
#
# Recall asks for *the* nearest row. RAF asks for *a* row with the same expression. So grade what is found against the truth: the distance of its
# expression weights from those of the question. The **negative control** is a random row.
#
# **Predict:** an index finds half of the nearest rows. How much of exact search's advantage over a random row does it keep: half?
#
# ### Exercise 2 · Two grades (medium, 6 minutes)
#
# `found` are rows of the million; `source[found]` are the real rows behind them, whose true weights are `truth[...]`. Give recall and mean true error.


# %% tags=["exercise"]
def grades(
    found, exact, source, truth, asked
):  # [Q], [Q], [count], [real rows, W], [Q, W] -> recall, mean true error
    # SOLUTION
    recall = float((found == exact).mean())
    return recall, float(np.linalg.norm(truth[source[found]] - asked, axis=1).mean())
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(2):
    toy = np.arange(12.0).reshape(6, 2)
    recall, error = grades(
        np.array([0, 3]), np.array([0, 2]), np.array([5, 4, 3, 2]), toy, toy[[5, 2]] + [3.0, 4.0]
    )
    assert recall == 0.5 and abs(error - 5) < 1e-9, "one of two is the exact one; both errors are 5"

# %% [markdown]
# <details><summary>Hint</summary>
#
# `np.linalg.norm(a - b, axis=1)` gives one distance a row. From `found` to the truth it is two steps: `truth[source[found]]`.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>

# %% [markdown]
# The 420 questions come from 20 people, and one person's questions are not independent. So the uncertainty is taken over people: the standard
# error of the 20 mean differences from exact search.

# %%
person = bank.donors[held_out[::4]]


def true_errors(found):  # each person's mean true error
    error = np.linalg.norm(truth[source[found]] - asked, axis=1)
    return np.array([error[person == p].mean() for p in np.unique(person)])


by_person = {"exact": true_errors(exact), "random row": true_errors(rng.integers(count, size=len(queries)))}
by_person |= {f"{kind} {setting}": true_errors(found) for kind, setting, *_, found in results}
errors = {name: float(values.mean()) for name, values in by_person.items()}
for name, values in by_person.items():
    worse = values - by_person["exact"]
    share = (errors["random row"] - errors[name]) / (errors["random row"] - errors["exact"])
    print(
        f"{name:12} true error {errors[name]:.3f}, {worse.mean():+.3f} +- {worse.std(ddof=1) / len(worse) ** 0.5:.3f} against exact:"
        f" {100 * share:4.0f} % of what exact search gains over a random row"
    )

# %%
# NBVAL_CHECK_OUTPUT
careful = {"IVF": 16, "IVF + PQ": 64, "HNSW": 256}
print(
    "every careful search gains at least 80 % of what exact search gains:",
    all(
        errors["random row"] - errors[f"{k} {s}"] > 0.8 * (errors["random row"] - errors["exact"])
        for k, s in careful.items()
    ),
)
print("searches compared:", len(results))

# %% [markdown]
# **Explain.** Settings that find only half of the *nearest* rows keep practically all of what exact search gains in *expression*: what they find
# instead is as good. (Shares above 100 % are no miracle: look at the uncertainty beside them, and at how many settings were tried.) Recall judges
# an index as if the exact row were right; but the exact row is itself far from the best one (lesson 03), and its neighbours are no worse.
#
# ## 5 · When you need it
#
# RAF looks the neighbours of a training set up *once*, before training. The cell above says what exact search takes for 452 frames in a million
# rows: seconds, on two cores. Approximate search is for banks of hundreds of millions, for searching inside the loop, or for exploring a
# map while somebody waits. And remember lesson 03: a thousand rows do about as well as all.

# %%
from raf_lite.retrieval import RetrievalAugmentation

large = ExpressionBank(
    rows[:200_000],
    bank.donors[source[:200_000]],
    encoder=bank.encoder,
    descriptor="blendshapes",
    factory=f"IVF{cells},Flat",
)
clock = time.perf_counter()
RetrievalAugmentation.named(large, "paper-k16").fit(queries)
print(
    f"{len(large):,} rows, {len(queries)} frames: neighbours looked up in {time.perf_counter() - clock:.2f} s, before training starts"
)

# %% [markdown]
# Any index that `faiss.index_factory` knows can stand behind a bank: `factory="IVF1024,PQ13"`.
#
# ## Check yourself
#
# <details><summary>1. Why are the questions real rows of people who are not in the bank?</summary>
#
# A jittered copy as a question has its original as an obvious nearest row, and the own person's next frame is nearly as near. Both would make every
# index look good. In use, the question comes from somebody whom the bank has never seen.
# </details>
# <details><summary>2. Why is low recall not the same as bad retrieval?</summary>
#
# In a dense bank many rows are nearly as near as the nearest, and their expressions are as good. Recall counts each of them as a miss.
# </details>
# <details><summary>3. What do jittered copies not tell you?</summary>
#
# Whether a million *real* rows would hold better neighbours. Copies add no expressions and no people; they only make the search harder. Lesson 03's
# smaller banks suggest that rows are not what is missing.
# </details>
#
# ## Recap
#
# - Exact search in a million rows takes milliseconds a question; training needs each question once.
# - Approximate search is about ten to hundreds of times faster, and its misses cost little true expression.
# - A GPU changes budgets, not the method. What was not measured on one is not claimed.

# %%
card = {
    "rows": f"{count:,}",
    "jittered copies": f"{100 * (1 - len(real) / count):.0f} %",
    "questions": len(queries),
    "seed": 0,
    "faiss": faiss.__version__,
    "threads": faiss.omp_get_max_threads(),
    "exact": f"{1e3 * exact_seconds:.2f} ms a question, true error {errors['exact']:.3f}",
    "random row": f"true error {errors['random row']:.3f}",
}
for kind, setting in careful.items():
    _, _, seconds, recall, _ = next(r for r in results if r[:2] == (kind, setting))
    card[f"{kind} {setting}"] = (
        f"recall {recall:.2f}, {exact_seconds / seconds:.0f} times faster, {sizes[kind]:.0f} bytes a row, "
        f"true error {errors[f'{kind} {setting}']:.3f}"
    )
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** you have all of RAF. Put the two lines into your own trainer: `examples/` shows three. What is known, and what is not: `docs/evidence.md`. One step past
# the paper: [11 · What other faces know](11_what_other_faces_know.ipynb), about motions that no descriptor can bring.
