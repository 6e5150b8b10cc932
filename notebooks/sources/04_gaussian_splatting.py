# %% [markdown]
# # 04 · Gaussian splatting
#
# {{badges}}
#
# **By the end you will have shown, with numbers from your own formulas, how a cloud of Gaussians becomes a picture, and that the picture's
# error can be followed back to where each Gaussian should move.** Then you let it: a head appears out of coloured blobs in seconds.
#
# | | |
# |---|---|
# | **You will** | project a Gaussian by hand · compute its opacity at a pixel · blend front to back · check a gradient by finite differences · fit a static head · judge it from a camera that it never saw |
# | **You need** | PyTorch's autograd; lesson 01 or what `world_to_camera` and `K` are |
# | **Time** | about {{minutes_cpu}} minute on two CPU cores, {{memory_gb}} GB of memory. {{gpu}} |
# | **Download** | {{download}} |

# %%
import numpy as np
import torch
import raf_lite

session = raf_lite.setup(minutes_cpu=1)

# %% [markdown]
# ## 1 · One Gaussian, one camera
#
# A *Gaussian* is a soft ellipsoid: a centre (`means`), a rotation (`quats`), three standard deviations (`scales`), a peak opacity and a
# colour. `rasterize` takes many of them, and cameras, with the names and meanings of the library gsplat.
#
# **Predict:** a round Gaussian of standard deviation 0.5 stands 10 units in front of a camera with a focal length of 100 pixels. How wide is it
# on the picture?

# %%
# NBVAL_CHECK_OUTPUT
from raf_lite.splatting import rasterize

view, K = torch.eye(4)[None], torch.tensor([[[100.0, 0, 16], [0, 100, 16], [0, 0, 1]]])
one = {
    "means": torch.tensor([[0.0, 0, 10]]),
    "quats": torch.tensor([[1.0, 0, 0, 0]]),
    "scales": torch.full((1, 3), 0.5),
    "opacities": torch.tensor([0.8]),
    "colors": torch.tensor([[1.0, 0.5, 0.0]]),
}
image, alpha, meta = rasterize(**one, viewmats=view, Ks=K, width=32, height=32)
conic = meta["conics"][0, 0]  # the inverse of the 2-D covariance: (xx, xy, yy)
print("centre on the picture:", meta["means2d"][0, 0].tolist())
print("variance in pixels: %.2f = (100 * 0.5 / 10)^2 + 0.3" % (1 / conic[0].item()))

# %% [markdown]
# The projection is linearised at the centre, so an ellipsoid becomes an ellipse: $\Sigma_{2D} = J R\,\Sigma\,R^\top J^\top$. The 0.3 is a
# little blur that keeps very small Gaussians from falling between two pixels.
#
# ### Exercise 1 · Opacity at a pixel (easy, 5 minutes)
#
# At a distance $d$ (two numbers, in pixels) from its centre a Gaussian covers
#
# $$ \alpha = o \, \exp\!\left(-\tfrac12\, d^\top \Sigma_{2D}^{-1}\, d\right), \qquad \Sigma_{2D}^{-1} = \begin{pmatrix} c_{xx} & c_{xy} \\ c_{xy} & c_{yy}\end{pmatrix}. $$


# %% tags=["exercise"]
def coverage(pixels, centre, conic, opacity):  # [M, 2], [2], (xx, xy, yy), number -> alpha [M]
    # SOLUTION
    dx, dy = (pixels - centre).unbind(-1)
    return opacity * torch.exp(-0.5 * (conic[0] * dx * dx + 2 * conic[1] * dx * dy + conic[2] * dy * dy))
    # END


# %%
# NBVAL_CHECK_OUTPUT
with raf_lite.exercise(1):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5  # centres of pixels lie at +0.5
    mine = coverage(pixels, meta["means2d"][0, 0], conic, 0.8)
    mine = torch.where(mine < 1 / 255, 0.0, mine)  # what would not change an 8-bit colour is skipped
    assert (mine.reshape(32, 32) - alpha[0, ..., 0]).abs().max() < 1e-5, (
        "the rasteriser's opacities are others"
    )

# %% [markdown]
# <details><summary>Hint</summary>
#
# Write $d^\top \Sigma^{-1} d$ out: $c_{xx} d_x^2 + 2 c_{xy} d_x d_y + c_{yy} d_y^2$.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# ## 2 · Many Gaussians: front to back
#
# Gaussians are sorted by depth, and each takes its share of the light that those before it let through:
#
# $$ C = \sum_i c_i\,\alpha_i\,T_i + T_{\text{end}}\,c_{\text{background}}, \qquad T_i = \prod_{j<i} (1 - \alpha_j). $$
#
# ### Exercise 2 · Blend (easy, 5 minutes)


# %% tags=["exercise"]
def blend(colors, alphas, background):  # [N, 3] and [N], nearest first; [3] -> colour [3]
    # SOLUTION
    through = torch.cumprod(torch.cat([torch.ones(1), 1 - alphas]), 0)
    return (colors * (alphas * through[:-1])[:, None]).sum(0) + through[-1] * background
    # END


# %%
# NBVAL_CHECK_OUTPUT
three = {
    "means": torch.tensor([[0.1, 0, 10], [0.0, 0.1, 8], [-0.1, 0, 12]]),
    "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
    "scales": torch.full((3, 3), 0.5),
    "opacities": torch.tensor([0.6, 0.5, 0.9]),
    "colors": torch.eye(3),
}
white = torch.ones(1, 3)
picture, _, info = rasterize(**three, viewmats=view, Ks=K, width=32, height=32, backgrounds=white)
with raf_lite.exercise(2):
    middle, order = torch.tensor([16.5, 16.5]), torch.tensor([1, 0, 2])  # by depth: 8, 10, 12
    d = middle - info["means2d"][0, order]
    xx, xy, yy = info["conics"][0, order].unbind(-1)
    alphas = three["opacities"][order] * torch.exp(
        -0.5 * (xx * d[:, 0] ** 2 + 2 * xy * d[:, 0] * d[:, 1] + yy * d[:, 1] ** 2)
    )
    assert (blend(three["colors"][order], alphas, white[0]) - picture[0, 16, 16]).abs().max() < 1e-4, (
        "the rasteriser blends otherwise"
    )

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.cumprod` of $(1, 1 - \alpha_1, 1 - \alpha_2, \dots)$ gives all $T_i$ and, last, what reaches the background.
# </details>
# <details><summary>Solution</summary>
#
# {{solution}}
# </details>
#
# **Predict:** the green Gaussian (depth 8) and the blue one (depth 12) swap places. Their opacities stay: green 0.5, blue 0.9. What colour does the
# middle get?

# %%
from raf_lite.viewing import show_strip

swapped = three | {"means": three["means"][:, :2].new_tensor([[0.1, 0, 10], [0.0, 0.1, 12], [-0.1, 0, 8]])}
other, _, _ = rasterize(**swapped, viewmats=view, Ks=K, width=32, height=32, backgrounds=white)
enlarge = lambda picture: picture[0].numpy().repeat(5, 0).repeat(5, 1)
names = ("red", "green", "blue")
say = lambda picture: ", ".join(f"{n} {v:.2f}" for n, v in zip(names, picture[0, 16, 16].tolist()))
show_strip(
    [enlarge(picture), enlarge(other)],
    ["green in front", "blue in front"],
    f"The same three Gaussians in two orders. In the middle: {say(picture)}; swapped: {say(other)}.",
)

# %% [markdown]
# ## 3 · The way back: gradients
#
# Everything above is differentiable, so a picture's error says for every Gaussian in which direction it should move, grow, turn, or change
# colour. Never trust a gradient that you have not compared with a difference.

# %%
# NBVAL_CHECK_OUTPUT
double = {name: value.double() for name, value in three.items()}
target = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss_of(means):
    rendered, _, _ = rasterize(
        **(double | {"means": means}),
        viewmats=view.double(),
        Ks=K.double(),
        width=32,
        height=32,
        backend="torch",
    )
    return ((rendered[0] - target) ** 2).mean()


means = double["means"].clone().requires_grad_()
loss_of(means).backward()
step, differences = 1e-6, torch.zeros(3, 3, dtype=torch.float64)
for i in range(3):
    for j in range(3):
        moved = torch.zeros(3, 3, dtype=torch.float64)
        moved[i, j] = step
        differences[i, j] = (loss_of(double["means"] + moved) - loss_of(double["means"] - moved)) / (2 * step)
print(
    "autograd and differences agree to four digits:",
    torch.allclose(means.grad, differences, rtol=1e-4, atol=1e-9),
)

# %% [markdown]
# ## 4 · Fit a head
#
# One moment of one person, four cameras. The Gaussians start on the *visual hull* (lesson 01), coloured as the nearest camera sees them, and
# are then pulled about by Adam. Two cameras are kept back.
#
# The **negative control** is fitted in the same way, but to shuffled cameras: each picture is said to come from another camera than it does. A method
# that only painted its training pictures would not mind.

# %%
from raf_lite.avatar import surface_points, visual_hull
from raf_lite.captures import open_capture
from raf_lite.manifest import find_data

capture = open_capture(find_data() / "mini_nersemble" / "001")
split, (sequence, frame) = capture.split(), capture.neutral
size, count, steps = (64, 800, 30) if session.fast else (128, 5000, 250)
pose = capture.head_poses(sequence)[frame]


def look(serials):
    """Pictures [C, H, W, 3], view matrices of the head and intrinsics, scaled down to `size` pixels."""
    factor = 256 // size
    pictures = np.stack(
        [
            capture.images(sequence, s)[frame].reshape(size, factor, size, factor, 3).mean((1, 3))
            for s in serials
        ]
    )
    cameras = [capture.cameras[s] for s in serials]
    views = np.stack([c.world_to_camera @ pose for c in cameras])
    return (
        torch.tensor(pictures),
        torch.tensor(views, dtype=torch.float32),
        torch.tensor(np.stack([c.scaled(1 / factor).K for c in cameras]), dtype=torch.float32),
    )


train, held_out = look(split.train_cameras), look(split.holdout_cameras)
print(
    f"{count} Gaussians, {steps} steps at {size} pixels:",
    "a second" if session.fast else "about ten seconds a fit",
)

# %%
cameras = [capture.cameras[s] for s in split.train_cameras]
masks = np.stack([capture.masks(sequence, s)[frame] for s in split.train_cameras])
full = np.stack([capture.images(sequence, s)[frame] for s in split.train_cameras])
points, colours = surface_points(
    visual_hull(masks, cameras, pose, resolution=64), full, cameras, pose, count, np.random.default_rng(0)
)


def start():
    """Parameters of the first cloud, each with its learning rate; centimetres."""
    values = {
        "means": torch.tensor(points, dtype=torch.float32),
        "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        "scales": torch.full((count, 3), np.log(25 / count**0.5)),
        "opacities": torch.full((count,), 0.5),
        "colors": torch.logit(torch.tensor(colours, dtype=torch.float32).clamp(0.02, 0.98)),
    }
    rates = {"means": 0.05, "quats": 0.005, "scales": 0.02, "opacities": 0.03, "colors": 0.03}
    return {n: v.requires_grad_() for n, v in values.items()}, rates


def render(cloud, views, Ks):
    """Pictures [C, H, W, 3] of a cloud over white."""
    g = cloud | {
        "scales": cloud["scales"].exp(),
        "opacities": cloud["opacities"].sigmoid(),
        "colors": cloud["colors"].sigmoid(),
    }
    return rasterize(
        **g, viewmats=views, Ks=Ks, width=size, height=size, backgrounds=torch.ones(len(views), 3)
    )[0]


# %%
def fit(pictures, views, Ks):
    """Move a fresh cloud until it looks like the pictures."""
    cloud, rates = start()
    optimizer = torch.optim.Adam([{"params": [cloud[n]], "lr": rates[n]} for n in cloud])
    for _ in range(steps):
        optimizer.zero_grad()
        (render(cloud, views, Ks) - pictures).abs().mean().backward()
        optimizer.step()
    return {n: v.detach() for n, v in cloud.items()}


psnr = lambda a, b: float(-10 * torch.log10(((a - b) ** 2).mean()))
first = {n: v.detach() for n, v in start()[0].items()}
fitted = fit(*train)
others = torch.roll(torch.arange(len(train[0])), 1)
control = fit(train[0][others], *train[1:])
clouds = {"hull, before the fit": first, "fitted": fitted, "control: cameras shuffled": control}

# %% [markdown]
# **Predict:** how well does the control do on the pictures that it was fitted to, and how well from the cameras that were kept back?

# %%
table = {}
for name, cloud in clouds.items():
    own = train[0][others] if name.startswith("control") else train[0]
    table[name] = psnr(render(cloud, *train[1:]), own), psnr(render(cloud, *held_out[1:]), held_out[0])
    print(
        f"{name:28} on its own pictures {table[name][0]:5.1f} dB, from held-out cameras {table[name][1]:5.1f} dB"
    )

# %%
shown = [held_out[0][0].numpy()] + [
    render(cloud, *held_out[1:])[0].numpy().clip(0, 1) for cloud in clouds.values()
]
show_strip(
    shown,
    ["held-out camera: truth", *clouds],
    "From a camera that no fit saw: truth, then "
    + ", ".join(f"{n} ({t[1]:.1f} dB)" for n, t in table.items())
    + ".",
)

# %%
# NBVAL_CHECK_OUTPUT
hull_psnr, fit_psnr, control_psnr = (table[name][1] for name in clouds)
print("the fit beats the hull from held-out cameras:", fit_psnr > hull_psnr)
print("and the control, whose cameras were shuffled:", fit_psnr > control_psnr + 3)

# %% [markdown]
# **Explain.** The loss never asked for a head. It asked for four pictures, and the only cloud that explains four pictures from where they
# were taken is shaped about like the head: that is why it looks right from a fifth place too. With shuffled cameras no head explains
# the pictures. The fit still paints them rather well, by hanging colour before each camera, and is wrong from anywhere else.
#
# The avatars of the next lessons are this cloud, and a small network that moves it with the expression.
#
# ## Check yourself
#
# <details><summary>1. Why are Gaussians sorted anew for every camera?</summary>
#
# Blending front to back depends on depth, and depth on the camera. The order changes as the view turns; it has no gradient, and needs none.
# </details>
# <details><summary>2. What would happen without the 0.3 square pixels of blur?</summary>
#
# A Gaussian smaller than a pixel could lie between two pixel centres and vanish, without a gradient that would bring it back.
# </details>
# <details><summary>3. Why optimise the logarithm of the scales, and opacities before a sigmoid?</summary>
#
# A scale must stay positive and an opacity between 0 and 1. Through exp and sigmoid the optimiser can step anywhere and never leaves the range.
# </details>
#
# ## Recap
#
# - Project, sort, blend: three formulas, each of which you have checked against the rasteriser.
# - The picture is differentiable in everything but the order.
# - A few cameras suffice for a shape, if they are right; a held-out camera tells.

# %%
card = {
    "seed": 0,
    "device": session.device,
    "fast": session.fast,
    "Gaussians": count,
    "steps": steps,
    "torch": torch.__version__,
}
card |= {f"held-out cameras, {name}": f"{value:.1f} dB" for name, (_, value) in table.items()}
for key, value in card.items():
    print(f"{key}: {value}")

# %% [markdown]
# **Next:** lessons 05 and 06 make the cloud move, without and with retrieval. Until they are here, [00 · Start here](00_start_here.ipynb) shows both in short.
