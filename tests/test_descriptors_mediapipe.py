"""MediaPipe as an encoder: where its model comes from, what it sees in drawn faces, what it refuses."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import importlib.metadata
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version

from raf_lite import _mediapipe, _models
from raf_lite._files import sha256_file
from raf_lite.descriptors import (
    BLENDSHAPE_NAMES,
    ENCODER,
    LandmarkPCA,
    MediaPipeEncoder,
    align_landmarks,
    face_landmarker_path,
    mediapipe_model,
)

DATA = Path(__file__).parent.parent / "data"
SHIPPED = sorted((DATA / "mini_nersemble").glob("*/sequences/*/images/cam_222200037.mp4"))

# --- the model file -----------------------------------------------------------------------------------------

CONTENT = b"stands in for the model file"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, a model with the hash of CONTENT, a URL that refuses connections, and pip without an
    index."""
    for name in (mediapipe_model.FACE_LANDMARKER.env, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    serve_from(monkeypatch, f"http://127.0.0.1:{port}")
    return tmp_path


def serve_from(monkeypatch, address):
    """The model is the one with the hash of CONTENT, published at this address."""
    model = replace(
        mediapipe_model.FACE_LANDMARKER,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=f"{address}/face_landmarker.task",
    )
    monkeypatch.setattr(mediapipe_model, "FACE_LANDMARKER", model)


def make_wheel(folder, model_wheel, content):
    """A wheel that pip accepts, with one file of `content`."""
    package, version, member = model_wheel.package, model_wheel.version, model_wheel.member
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Dist: absent-x\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@contextlib.contextmanager
def loopback(folder):
    """Serve `folder` on a free port of this machine; yields the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_environment_names_a_local_model(no_network, monkeypatch):
    local = no_network / "mine.task"
    monkeypatch.setenv(mediapipe_model.FACE_LANDMARKER.env, str(local))
    with pytest.raises(FileNotFoundError, match=r"RAF_LITE_FACE_LANDMARKER names .*mine\.task"):
        face_landmarker_path()
    local.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"mine\.task .*sha256 differs"):
        face_landmarker_path()
    local.write_bytes(CONTENT)
    assert face_landmarker_path() == local
    assert not (no_network / "cache" / "models" / "face_landmarker.task").exists()


def test_the_official_address_is_used_once_and_then_the_cache(no_network, monkeypatch):
    site = no_network / "site"
    site.mkdir()
    (site / "face_landmarker.task").write_bytes(CONTENT)
    with loopback(site) as address:
        serve_from(monkeypatch, address)
        path = face_landmarker_path(progress=False)
    assert path == no_network / "cache" / "models" / "face_landmarker.task" and path.read_bytes() == CONTENT
    notice = path.with_suffix(".NOTICE.txt").read_text()
    assert (
        "Apache License, Version 2.0" in notice
        and address in notice
        and hashlib.sha256(CONTENT).hexdigest() in notice
    )
    assert face_landmarker_path(progress=False) == path  # the server is gone: no network was needed


@pytest.mark.parametrize("wheel", mediapipe_model.FACE_LANDMARKER.wheels)
def test_offline_from_the_address_a_pinned_wheel_gives_the_file(no_network, capfd, wheel):
    make_wheel(no_network / "wheels", wheel, CONTENT)
    path = face_landmarker_path(progress=False)
    assert path.read_bytes() == CONTENT and path.with_suffix(".NOTICE.txt").exists()
    assert f"PyPI wheel {wheel.package}=={wheel.version}" in capfd.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        __import__(wheel.package)  # extracted, not installed


def test_a_wheel_with_another_file_is_not_believed(no_network):
    first, other = mediapipe_model.FACE_LANDMARKER.wheels
    make_wheel(no_network / "wheels", first, b"tampered")
    make_wheel(no_network / "wheels", replace(other, member="elsewhere.task"), CONTENT)
    with pytest.raises(FileNotFoundError) as caught:
        face_landmarker_path(progress=False)
    message = str(caught.value)
    assert (
        f"{first.member} does not have the pinned sha256" in message
        and f"wheel {other.package}=={other.version}: " in message
    )
    assert (
        "ConnectionError" in message
        and "set RAF_LITE_FACE_LANDMARKER to a local copy" in message
        and "\n" not in message
    )
    assert list((no_network / "cache" / "models").iterdir()) == []  # no half-made file


def test_a_package_that_is_installed_saves_the_download(no_network, monkeypatch):
    wheel = mediapipe_model.FACE_LANDMARKER.wheels[0]
    file = no_network / "site-packages" / wheel.member
    file.parent.mkdir(parents=True)
    (no_network / "site-packages" / wheel.package / "__init__.py").write_text(
        "raise RuntimeError('must not be imported')"
    )
    file.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(no_network / "site-packages"))
    assert face_landmarker_path(progress=False).read_bytes() == CONTENT


def test_a_damaged_cached_model_is_replaced(no_network):
    cached = no_network / "cache" / "models" / "face_landmarker.task"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT[:10])
    make_wheel(no_network / "wheels", mediapipe_model.FACE_LANDMARKER.wheels[0], CONTENT)
    assert face_landmarker_path(progress=False).read_bytes() == CONTENT


def test_a_host_that_never_answers_is_given_up_soon(no_network, monkeypatch):
    make_wheel(no_network / "wheels", mediapipe_model.FACE_LANDMARKER.wheels[0], CONTENT)
    monkeypatch.setattr(_models, "PROBE_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        serve_from(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        failures = []
        start = time.perf_counter()
        assert not _models.from_url(mediapipe_model.FACE_LANDMARKER, no_network, failures, progress=False)
        assert time.perf_counter() - start < 3
    assert "ReadTimeout" in failures[0]
    assert face_landmarker_path(progress=False).read_bytes() == CONTENT


# --- the encoder --------------------------------------------------------------------------------------------


def drawn_face(size=256, mouth=0.0, shift=0.0):
    """A drawn frontal face, uint8 [size, size, 3]; `mouth` is how far it is open, `shift` moves it right (1 =
    half the width)."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    x = x - shift
    image = np.full((size, size, 3), 0.9)

    def blob(cx, cy, rx, ry, colour, soft=0.05):
        cover = np.clip((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) / soft + 0.5, 0, 1)[..., None]
        image[:] = image * (1 - cover) + cover * np.asarray(colour)

    blob(0, -0.12, 0.52, 0.62, (0.2, 0.13, 0.1))  # hair
    blob(0, 0, 0.46, 0.6, (0.85, 0.65, 0.55))  # face
    image *= (1 - 0.35 * np.clip((x / 0.5) ** 2, 0, 1) * (np.hypot(x / 0.46, y / 0.6) < 1))[
        ..., None
    ]  # rounded by shading
    for side in (-1, 1):
        blob(side * 0.2, -0.19, 0.12, 0.03, (0.25, 0.17, 0.12), 0.5)  # brow
        blob(side * 0.2, -0.08, 0.1, 0.045, (0.95, 0.95, 0.95), 0.3)  # eye, from 0.1 to 0.3
        blob(side * 0.2, -0.08, 0.042, 0.042, (0.2, 0.12, 0.08), 0.3)  # iris
        blob(side * 0.05, 0.14, 0.035, 0.03, (0.55, 0.35, 0.3), 0.9)  # nostril
    blob(0, 0.02, 0.03, 0.12, (0.93, 0.75, 0.66), 0.9)  # nose
    blob(0, 0.3, 0.17, 0.05 + mouth, (0.7, 0.3, 0.3), 0.3)  # lips
    if mouth:
        blob(0, 0.3, 0.13, mouth, (0.15, 0.05, 0.05), 0.3)
    return (image.clip(0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model_file():
    pytest.importorskip("mediapipe")
    try:
        return face_landmarker_path()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def encoder(model_file):
    with MediaPipeEncoder() as encoder:
        yield encoder


@pytest.fixture(scope="module")
def seen(encoder):
    """Shut mouth, open mouth, shut mouth 0.1 (12.8 pixels) further right."""
    return encoder.detect(np.stack([drawn_face(), drawn_face(mouth=0.15), drawn_face(shift=0.1)]))


def test_the_model_is_the_pinned_one(model_file):
    assert sha256_file(model_file) == "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"


def test_blendshape_names_are_the_models(encoder):
    import mediapipe

    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=drawn_face())
    scores = encoder._landmarker.detect(image).face_blendshapes[0]
    assert tuple(score.category_name for score in scores) == BLENDSHAPE_NAMES and len(BLENDSHAPE_NAMES) == 52


def test_landmarks_are_in_pixels_and_pose_is_frontal(seen):
    assert seen.face_found.tolist() == [True] * 3
    assert (seen.landmarks.shape, seen.landmarks.dtype) == ((3, 478, 3), np.float32)
    # Outer eye corners were drawn at x = -0.3 and 0.3, y = -0.08: pixels 89.6 and 166.4, 117.8. Point 33 is
    # the subject's right.
    np.testing.assert_allclose(seen.landmarks[0, [33, 263], :2], [[89.6, 117.8], [166.4, 117.8]], atol=5)
    np.testing.assert_allclose((seen.landmarks[2] - seen.landmarks[0]).mean(0)[:2], [12.8, 0], atol=1.5)
    # z is on the scale of pixels, smaller nearer to the camera: the nose's tip stands out by a good part of
    # the eyes' distance.
    assert 15 < seen.landmarks[0, [33, 263], 2].mean() - seen.landmarks[0, 1, 2] < 77
    np.testing.assert_allclose(
        seen.encoder_pose[0, :3, :3] @ seen.encoder_pose[0, :3, :3].T, np.eye(3), atol=1e-4
    )
    np.testing.assert_allclose(seen.encoder_pose[0, :3, :3], np.eye(3), atol=0.1)
    assert (
        seen.encoder_pose[0, 2, 3] < -15 and abs(seen.encoder_pose[0, 0, 3]) < 1.5
    )  # in front of the camera, centimetres
    np.testing.assert_array_equal(seen.encoder_pose[:, 3], np.tile([0, 0, 0, 1], (3, 1)))
    assert (
        0.5 < seen.encoder_pose[2, 0, 3] - seen.encoder_pose[0, 0, 3] < 4
    )  # to the right in the picture is +x


def test_an_open_mouth_scores_as_an_open_jaw(seen):
    jaw = seen.blendshapes[:, BLENDSHAPE_NAMES.index("jawOpen")]
    assert jaw[1] > jaw[0] + 0.15 and abs(jaw[2] - jaw[0]) < 0.05
    assert seen.blendshapes.min() >= 0 and seen.blendshapes.max() <= 1


def test_a_picture_that_is_wide_keeps_pixels_square(encoder):
    wide = np.full((256, 512, 3), 230, np.uint8)
    wide[:, :256] = drawn_face()
    landmarks = encoder.detect(wide[None]).landmarks[0]
    np.testing.assert_allclose(landmarks[[33, 263], :2], [[89.6, 117.8], [166.4, 117.8]], atol=6)


def test_a_frame_without_a_face_is_reported_and_never_zero(encoder):
    grey = np.full((256, 256, 3), 128, np.uint8)
    with pytest.warns(
        UserWarning, match=r"no face found in 2 of 3 frames \(frames 0, 2\); their descriptors are NaN"
    ):
        encoding = encoder.encode(np.stack([grey, drawn_face(), grey]))
    assert encoding.face_found.tolist() == [False, True, False] and encoding.missing.tolist() == [0, 2]
    for rows in (encoding.descriptors, encoding.blendshapes, encoding.landmarks, encoding.encoder_pose):
        assert np.isnan(rows[[0, 2]]).all() and np.isfinite(rows[1]).all()
    with pytest.raises(ValueError, match=r"frames 0, 2"):
        encoding.require_all()


def test_uint8_float_and_one_by_one_agree(encoder, seen):
    frames = np.stack([drawn_face(), drawn_face(mouth=0.15)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = encoder.encode(frames)
    np.testing.assert_array_equal(expected.descriptors, seen.blendshapes[:2])  # a frame's result is its own
    np.testing.assert_array_equal(
        encoder.encode(frames.astype(np.float32) / 255).descriptors, expected.descriptors
    )
    np.testing.assert_array_equal(encoder.encode(frames / 255 * 1.0).descriptors, expected.descriptors)
    np.testing.assert_array_equal(
        encoder.encode(iter(frames), progress=True).descriptors, expected.descriptors
    )
    strided = np.stack([frames, frames], axis=-1)[..., 0]
    assert not strided[0].flags.c_contiguous
    np.testing.assert_array_equal(encoder.encode(strided).descriptors, expected.descriptors)
    assert expected.descriptors.dtype == np.float32 and expected.descriptors.shape == (2, encoder.dim)
    assert encoder.encode(frames[:0]).descriptors.shape == (0, 52)
    assert (encoder.name, encoder.descriptor) == (ENCODER, "blendshapes")


def test_of_two_faces_the_larger_counts(model_file):
    scene = np.full((360, 520, 3), 230, np.uint8)
    order = []
    with MediaPipeEncoder(num_faces=2) as encoder:
        for mouths, fade in (((0.15, 0), 0), ((0, 0.15), 0.5)):
            scene[80:280, 20:220] = drawn_face(200, mouths[0])
            scene[40:320, 230:510] = fade * 230 + (1 - fade) * drawn_face(280, mouths[1])
            faces = encoder._landmarker.detect(encoder._image(scene)).face_landmarks
            order.append([face[33].x * 520 > 225 for face in faces])
            seen = encoder.detect(scene[None])
            # The large face's outer eye corners are at 230 + 0.7 * 140 = 328 and 412.
            np.testing.assert_allclose(seen.landmarks[0, [33, 263], 0], [328, 412], atol=7)
            assert (seen.blendshapes[0, BLENDSHAPE_NAMES.index("jawOpen")] > 0.15) == (mouths[1] > 0)
    # MediaPipe's own order is by certainty: the large face stood first, and when pale second.
    assert order == [[True, False], [False, True]]


def test_landmark_descriptors_are_the_pcas_of_what_was_detected(model_file, encoder):
    frames = np.stack(
        [drawn_face(mouth=m, shift=s) for m, s in ((0, 0), (0.05, 0.1), (0.1, -0.1), (0.15, 0), (0.12, 0.05))]
    )
    seen = encoder.detect(frames)
    pca = LandmarkPCA.fit(seen.landmarks, 3, encoder=ENCODER)
    grey = np.full_like(frames[:1], 128)
    with (
        MediaPipeEncoder(kind="landmarks", landmark_pca=pca) as landmarks,
        pytest.warns(UserWarning, match="frames 5"),
    ):
        encoding = landmarks.encode(np.concatenate([frames, grey]))
        assert (landmarks.dim, landmarks.name, landmarks.descriptor) == (3, ENCODER, "landmarks_pca")
    np.testing.assert_allclose(
        encoding.descriptors[:5], pca.transform(align_landmarks(seen.landmarks, pca.template)), atol=1e-6
    )
    assert np.isnan(encoding.descriptors[5]).all() and np.isfinite(encoding.blendshapes[:5]).all()


def test_only_rgb_pictures_are_taken(encoder):
    face = drawn_face(64)
    with pytest.raises(ValueError, match=r"\[N, H, W, 3\], not \[64, 64, 3\]"):
        encoder.detect(face)
    with pytest.raises(ValueError, match=r"frame 0 must be \[H, W, 3\], not \[64, 64, 4\]"):
        encoder.detect(np.zeros((1, 64, 64, 4), np.uint8))
    with pytest.raises(ValueError, match=r"frame 1 must be \[H, W, 3\], not \[64, 64\]"):
        encoder.detect([face, face[..., 0]])
    with pytest.raises(ValueError, match="frame 0 has dtype int64"):
        encoder.detect(face[None].astype(np.int64))
    with pytest.raises(ValueError, match=r"frame 0 has values .* far above 1"):
        encoder.detect(face[None].astype(np.float32))
    broken = face / 255
    broken[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="frame 1 has values that are not finite"):
        encoder.detect(np.stack([face / 255, broken]))


def test_choices_that_make_no_sense_are_refused(model_file):
    with pytest.raises(ValueError, match="'blendshapes' or 'landmarks', not 'flame'"):
        MediaPipeEncoder(kind="flame")
    with pytest.raises(ValueError, match="needs landmark_pca"):
        MediaPipeEncoder(kind="landmarks")
    shapes = np.random.default_rng(0).normal(size=(4, 478, 3))
    pca = LandmarkPCA.fit(shapes, 2, encoder="dlib")
    with pytest.raises(ValueError, match="takes none"):
        MediaPipeEncoder(landmark_pca=pca)
    with pytest.raises(ValueError, match="fitted on landmarks of 'dlib'"):
        MediaPipeEncoder(kind="landmarks", landmark_pca=pca)


def test_close_may_be_repeated_and_ends_the_encoder(model_file):
    encoder = MediaPipeEncoder()
    encoder.close()
    encoder.close()
    with pytest.raises(ValueError, match="is closed"):
        encoder.detect(drawn_face()[None])


def test_an_encoder_that_nobody_closed_ends_silently(model_file):
    script = (
        "import numpy as np; from raf_lite.descriptors import MediaPipeEncoder; e = MediaPipeEncoder(); "
        "print(e.detect(np.full((1, 64, 64, 3), 128, np.uint8)).face_found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=DATA.parent,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[False]", "")


def test_importing_the_room_leaves_mediapipe_alone():
    script = "import sys, raf_lite.descriptors; print('mediapipe' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=DATA.parent,
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_missing_mediapipe_or_library_says_what_to_install(monkeypatch):
    mend = r"run `make setup`.*apt-get install libegl1 libgles2"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mediapipe", None)
        with pytest.raises(ImportError, match=mend):
            MediaPipeEncoder()


def test_a_missing_system_library_says_what_to_install(monkeypatch, model_file, capfd):
    from mediapipe.tasks.python import vision

    def no_egl(options):
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", no_egl)
    with pytest.raises(ImportError, match=r"libEGL\.so\.1.*apt-get install libegl1 libgles2"):
        MediaPipeEncoder()
    print("still here", file=sys.stderr, flush=True)
    assert "still here" in capfd.readouterr().err  # stderr was given back


# --- against what ships -------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not SHIPPED, reason="data/mini_nersemble is not here; build it with `raf-lite data build`"
)
def test_fresh_encodings_agree_with_the_stored_ones(model_file, encoder):
    """The stored ones were taken from the same decoded video; float16 and another CPU's rounding allow 0.02
    of a score."""
    from raf_lite.captures import read_video

    pca = LandmarkPCA.load(DATA / "bank" / "landmark_pca.npz")
    first = {video.parents[3]: video for video in reversed(SHIPPED)}  # one sequence of each capture
    for capture, video in first.items():
        with np.load(capture / "annotations" / f"{video.parents[1].name}.npz", allow_pickle=False) as stored:
            seen = encoder.detect(read_video(video))
            np.testing.assert_array_equal(seen.face_found, stored["face_found"], err_msg=str(video))
            found = seen.face_found
            np.testing.assert_allclose(
                seen.blendshapes[found], stored["blendshapes"][found], atol=0.02, err_msg=str(video)
            )
            np.testing.assert_allclose(
                pca.encode_landmarks(seen.landmarks)[found],
                stored["landmarks_pca"][found],
                atol=0.02,
                err_msg=str(video),
            )


def test_mediapipe_reports_its_use_to_nobody(model_file, monkeypatch):
    """What newer versions send when they close goes to the proxy that they are given for that moment, and
    nowhere else."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "*")
    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        monkeypatch.setattr(_mediapipe, "_NOWHERE", f"http://127.0.0.1:{listener.getsockname()[1]}")
        encoder = MediaPipeEncoder()
        encoder.detect(np.full((2, 64, 64, 3), 128, np.uint8))
        encoder.close()
        assert dict(os.environ) == before
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            assert Version(importlib.metadata.version("mediapipe")) < Version(
                "1.2.2"
            )  # the first that was seen to report
            return
        with connection:
            assert connection.recv(100).startswith(b"CONNECT play.googleapis.com:443")


@pytest.mark.may_skip("needs fork")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_ends_though_its_parent_has_an_encoder(model_file):
    with MediaPipeEncoder() as encoder:
        encoder.detect(np.full((1, 64, 64, 3), 128, np.uint8))
        child = multiprocessing.get_context("fork").Process(target=len, args=((),))
        child.start()
        child.join(20)
        ended = child.exitcode
        if ended is None:
            child.kill()
        assert ended == 0
        assert len(encoder.detect(np.full((1, 64, 64, 3), 128, np.uint8))) == 1  # the parent's works on


def test_the_proxy_of_that_moment_has_no_listener():
    port = int(_mediapipe._NOWHERE.rpartition(":")[2])
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass
