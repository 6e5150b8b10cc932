"""The avatar player as a widget: what is sent to the browser, and what is said where there are no widgets."""

import gzip

import numpy as np
import pytest
import torch

from raf_lite.avatar import GaussianAvatar, Similarity
from raf_lite.export import write_player
from raf_lite.export.player import player_script, player_style, spark_bytes
from raf_lite.widgets import Player, player

KEYS = ("_esm", "_css", "spark", "content")


def small_avatar(dim=5, seed=0):
    """A cloud of Gaussians that every dimension of the descriptor moves."""
    torch.manual_seed(seed)  # the field's own start
    g = torch.Generator().manual_seed(seed)
    avatar = GaussianAvatar(
        torch.randn(40, 3, generator=g) * 0.3,
        torch.rand(40, 3, generator=g),
        0.1,
        Similarity(np.zeros(3), 1.0),
        descriptor="own",
        descriptor_mean=torch.full((dim,), 0.5),
        descriptor_scale=0.5,
    )
    with torch.no_grad():
        avatar.field.basis.add_(0.1 * torch.randn(avatar.field.basis.shape, generator=g))
    return avatar


def film(frames=4, dim=5):
    return np.random.default_rng(0).normal(0.5, 0.4, (frames, dim)).astype(np.float32)


def test_everything_is_sent_once_as_bytes():
    values = film()
    widget = player(
        {"baseline": small_avatar(), "RAF": small_avatar(seed=1)}, sequences={"FREE": values}, fps=12
    )
    state = widget.get_state()
    assert isinstance(widget, Player)
    assert set(KEYS) <= set(state) and state["spark"] == spark_bytes()
    content = state["content"]
    assert [a["name"] for a in content["avatars"]] == ["baseline", "RAF"] and content["fps"] == 12
    for avatar in content["avatars"]:
        sizes = {"u2": 2, "i1": 1, "f4": 4}
        last = max(avatar["header"]["arrays"].values(), key=lambda a: a["offset"])
        whole = gzip.decompress(avatar["data"])
        assert len(whole) == last["offset"] + int(np.prod(last["shape"])) * sizes[last["type"]]
    sent = np.frombuffer(gzip.decompress(content["sequences"][0]["data"]), "<f4").reshape(-1, 5)
    np.testing.assert_allclose(sent, values, atol=5.1e-5)
    # The JSON part of what goes over the wire holds no bytes: those travel beside it, uncoded.
    from ipywidgets.widgets.widget import _remove_buffers

    _, paths, buffers = _remove_buffers({key: state[key] for key in KEYS})
    assert len(buffers) == 4 and ["spark"] in paths and sum(map(len, buffers)) < 1_200_000


def test_the_widgets_code_is_the_pages_code(tmp_path):
    avatar = small_avatar()
    widget = player({"a": avatar})
    assert widget._esm.startswith(player_script()) and widget._css == player_style()
    assert widget._esm.count("export default") == 1 and "http" not in widget._esm[len(player_script()) :]
    page = write_player({"a": avatar}, tmp_path / "p.html", sequences={}).read_text(encoding="utf-8")
    assert widget._esm not in page and player_script() in page
    assert widget.content["sequences"] == []


def test_the_sliders_are_where_the_sequences_move_and_the_same_for_all():
    """Dimension 3 has the largest weights, but the sequence never moves it: its ends are nobody's face."""
    first, second = small_avatar(), small_avatar(seed=1)
    with torch.no_grad():
        first.field.coefficients[0].weight[:, 3] *= 20
        second.field.coefficients[0].weight[:, 0] *= 20
    values = film(20)
    order = lambda w: [[s["name"] for s in a["header"]["dimensionSliders"]] for a in w.content["avatars"]]  # noqa: E731
    avatars = {"a": first, "b": second}
    assert (
        order(player(avatars))[0][0] == "own 3"
        and order(player(avatars, sequences={"x": values}))[0][0] == "own 3"
    )
    values[:, 3] = 0.5
    quiet = order(player(avatars, sequences={"x": values}))
    assert quiet[0][-1] == "own 3" and quiet[0] == quiet[1]
    one_frame = order(player(avatars, sequences={"x": values[:1]}))  # says nothing about ranges
    assert one_frame[0][0] == "own 3"


def test_where_there_are_no_widgets_one_sentence_names_the_way_on():
    widget = player({"a": small_avatar()})
    assert "write_player" in repr(widget) and len(repr(widget)) <= 110  # all that ipywidgets 7 shows
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"] == repr(widget) and data["application/vnd.jupyter.widget-view+json"]["model_id"]


def test_what_cannot_be_played_is_refused():
    with pytest.raises(ValueError, match="got no avatar"):
        player({})
    with pytest.raises(ValueError, match=r"own \[5\] and own \[7\]; play them in separate players"):
        player({"a": small_avatar(), "b": small_avatar(dim=7)})
    with pytest.raises(ValueError, match="fps is 0"):
        player({"a": small_avatar()}, fps=0)
    with pytest.raises(ValueError, match="descriptors of sequence 'x' have 4 dimensions"):
        player({"a": small_avatar()}, sequences={"x": film(dim=4)})
