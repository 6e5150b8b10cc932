"""Landmark alignment, their PCA, neutral-relative form and what detections say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from raf_lite.descriptors import Detections, LandmarkPCA, align_landmarks, mean_template, relative_to
from raf_lite.descriptors.landmarks import LEFT_EYE, RIGHT_EYE, RIGID


def some_faces(rng, n=40, rank=6, posed=True):
    """[n, 478, 3]: a random shape plus `rank` modes of falling size, each face with its own similarity
    transform."""
    base = rng.normal(size=(478, 3))
    modes = rng.normal(size=(rank, 478, 3)) * 0.3 * 0.6 ** np.arange(rank)[:, None, None]
    modes[:, RIGID] = 0  # expression leaves the rigid points alone, so alignment takes the pose out exactly
    faces = base + np.einsum("nr,rkd->nkd", rng.normal(size=(n, rank)), modes)
    if posed:
        rotation = Rotation.random(
            n, random_state=np.random.RandomState(int(rng.integers(2**31)))
        ).as_matrix()
        faces = rng.uniform(20, 80, (n, 1, 1)) * faces @ rotation.transpose(0, 2, 1) + rng.uniform(
            -100, 100, (n, 1, 3)
        )
    return faces


def similarity(shapes, quaternion, scale, translation):
    return scale * shapes @ Rotation.from_quat(quaternion).as_matrix().T + translation


quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


# --- alignment ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(quaternions, st.floats(0.05, 50), st.tuples(*[st.floats(-1000, 1000)] * 3))
def test_a_similarity_of_the_input_changes_nothing_after_alignment(quaternion, scale, translation):
    rng = np.random.default_rng(3)
    faces = rng.normal(size=(4, 478, 3))
    template = rng.normal(size=(478, 3))
    moved = similarity(faces, quaternion, scale, translation)
    np.testing.assert_allclose(align_landmarks(moved, template), align_landmarks(faces, template), atol=2e-4)
    # Without a template one is made of the shapes themselves, in a frame of its own.
    np.testing.assert_allclose(align_landmarks(moved), align_landmarks(faces), atol=2e-4)


def test_a_moved_template_comes_back_to_the_template():
    template = np.random.default_rng(0).normal(size=(478, 3))
    moved = similarity(template, [0.1, 0.7, -0.2, 0.4], 37.0, [320, 240, -5])
    np.testing.assert_allclose(align_landmarks(moved[None], template)[0], template, atol=1e-5)


def test_the_rigid_points_alone_decide_the_alignment_as_scipy_finds_it():
    rng = np.random.default_rng(1)
    face, template = rng.normal(size=(478, 3)), rng.normal(size=(478, 3))
    template[RIGID] += 2 * face[RIGID]
    source, target = face[RIGID] - face[RIGID].mean(0), template[RIGID] - template[RIGID].mean(0)
    rotation = Rotation.align_vectors(target, source)[0].as_matrix()
    turned = source @ rotation.T
    scale = (turned * target).sum() / (turned**2).sum()  # least squares in one unknown
    expected = scale * (face - face[RIGID].mean(0)) @ rotation.T + template[RIGID].mean(0)
    np.testing.assert_allclose(align_landmarks(face[None], template)[0], expected, atol=1e-5)
    changed = face.copy()
    others = np.setdiff1d(np.arange(478), RIGID)
    changed[others] += 10  # points that move with expression have no say
    np.testing.assert_allclose(align_landmarks(changed[None], template)[0, RIGID], expected[RIGID], atol=1e-5)


def test_a_mirrored_face_is_not_unmirrored():
    template = np.random.default_rng(2).normal(size=(478, 3))
    aligned = align_landmarks((template * [-1, 1, 1])[None], template)[0]
    assert np.abs(aligned - template).max() > 0.5


def test_frames_without_a_face_stay_nan_and_leave_the_others_alone():
    faces = some_faces(np.random.default_rng(4), n=5)
    template = mean_template(faces)
    expected = align_landmarks(faces, template)
    faces[2] = np.nan
    aligned = align_landmarks(faces, template)
    assert np.isnan(aligned[2]).all()
    np.testing.assert_array_equal(aligned[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])
    assert align_landmarks(np.zeros((0, 478, 3)), template).shape == (0, 478, 3)


def test_the_template_is_the_common_shape_in_a_frame_of_its_own():
    faces = some_faces(np.random.default_rng(5), n=30)
    template = mean_template(faces)
    assert template.dtype == np.float32
    np.testing.assert_allclose(template[RIGID].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(template[LEFT_EYE] - template[RIGHT_EYE], [1, 0, 0], atol=1e-6)
    # The rigid points of all faces are one shape, so each face must meet the template there.
    np.testing.assert_allclose(
        align_landmarks(faces, template)[:, RIGID], np.tile(template[RIGID], (30, 1, 1)), atol=1e-5
    )


def test_alignment_says_what_is_wrong():
    template = np.random.default_rng(0).normal(size=(478, 3))
    with pytest.raises(ValueError, match=r"\[N, 478, 3\], not \[478, 3\]"):
        align_landmarks(template, template)
    with pytest.raises(ValueError, match="template must be"):
        align_landmarks(template[None], template[:468])
    faces = np.stack([template, np.full_like(template, 7.0)])
    with pytest.raises(ValueError, match="frame 1 all coincide"):
        align_landmarks(faces, template)
    with pytest.raises(ValueError, match="no frame has finite landmarks"):
        align_landmarks(np.full((2, 478, 3), np.nan))


# --- PCA ----------------------------------------------------------------------------------------------------


def test_pca_finds_what_an_svd_finds():
    faces = some_faces(np.random.default_rng(6), n=60, rank=6)
    pca = LandmarkPCA.fit(faces, 6, encoder="test")
    flat = align_landmarks(faces, pca.template).reshape(60, -1).astype(np.float64)
    flat -= flat.mean(0)
    _, singular, vt = np.linalg.svd(flat, full_matrices=False)
    np.testing.assert_allclose(np.abs((pca.basis * vt[:6]).sum(1)), 1, atol=1e-3)  # same axes up to sign
    np.testing.assert_allclose(pca.explained, singular[:6] ** 2 / (singular**2).sum(), rtol=1e-3)
    np.testing.assert_allclose(
        np.abs(pca.encode_landmarks(faces)), np.abs(flat @ vt[:6].T), atol=5e-3 * singular[0] / 60**0.5
    )
    np.testing.assert_allclose(pca.basis @ pca.basis.T, np.eye(6), atol=1e-3)
    assert pca.explained.sum() == pytest.approx(1, abs=1e-5)  # six modes were put in
    assert (pca.dim, pca.encoder, pca.encode_landmarks(faces).dtype) == (6, "test", np.float32)


def test_pca_inverts_to_the_aligned_landmarks():
    faces = some_faces(np.random.default_rng(7), n=50, rank=5)
    pca = LandmarkPCA.fit(faces, 5, encoder="test")
    aligned = align_landmarks(faces, pca.template)
    np.testing.assert_allclose(pca.inverse(pca.transform(aligned)), aligned, atol=3e-3)
    coarse = LandmarkPCA.fit(faces, 2, encoder="test")
    assert (
        np.abs(coarse.inverse(coarse.transform(aligned)) - aligned).max() > 0.02
    )  # fewer components lose something
    aligned[3] = np.nan
    coefficients = pca.transform(aligned)
    assert np.isnan(coefficients[3]).all() and np.isfinite(np.delete(coefficients, 3, 0)).all()


def test_pca_ignores_how_heads_were_held():
    rng = np.random.default_rng(8)
    faces = some_faces(rng, posed=False)
    posed = np.stack(
        [
            similarity(face, rng.normal(size=4), rng.uniform(10, 90), rng.uniform(-200, 200, 3))
            for face in faces
        ]
    )
    a, b = LandmarkPCA.fit(faces, 4, encoder="test"), LandmarkPCA.fit(posed, 4, encoder="test")
    expected = a.encode_landmarks(faces)
    np.testing.assert_allclose(b.encode_landmarks(posed), expected, atol=2e-2 * np.abs(expected).max())


def test_a_saved_pca_gives_the_same_descriptors(tmp_path):
    faces = some_faces(np.random.default_rng(9))
    pca = LandmarkPCA.fit(faces, 6, encoder="mediapipe-x")
    pca.save(tmp_path / "pca.npz")
    loaded = LandmarkPCA.load(tmp_path / "pca.npz")
    assert loaded.encoder == "mediapipe-x"
    np.testing.assert_array_equal(loaded.encode_landmarks(faces), pca.encode_landmarks(faces))
    np.testing.assert_array_equal(loaded.explained, pca.explained)


def test_a_pca_file_that_is_damaged_missing_or_foreign_is_refused(tmp_path):
    path = tmp_path / "pca.npz"
    with pytest.raises(FileNotFoundError, match="pca.npz"):
        LandmarkPCA.load(path)
    pca = LandmarkPCA.fit(some_faces(np.random.default_rng(10)), 3, encoder="test")
    pca.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not an npz", whole[:200] + bytes(400) + whole[600:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pca\.npz (cannot be read|has no array).*LandmarkPCA\.save"):
            LandmarkPCA.load(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(ValueError, match="pca.npz has no array 'version'"):
        LandmarkPCA.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))  # an npy under the name of an npz
    with pytest.raises(ValueError, match="pca.npz cannot be read"):
        LandmarkPCA.load(path)
    fields = {
        "encoder": "test",
        "template": pca.template,
        "mean": pca.mean,
        "basis": pca.basis,
        "explained": pca.explained,
    }
    np.savez(path, version=2, **fields)
    with pytest.raises(ValueError, match="version 2"):
        LandmarkPCA.load(path)
    np.savez(path, version=1, **{**fields, "basis": pca.basis[:2]})
    with pytest.raises(ValueError, match="wrong shape"):
        LandmarkPCA.load(path)


def test_pca_refuses_frames_without_a_face_and_impossible_sizes():
    faces = some_faces(np.random.default_rng(11), n=8)
    with pytest.raises(ValueError, match="1 to 7 components, not 8"):
        LandmarkPCA.fit(faces, 8, encoder="test")
    pca = LandmarkPCA.fit(faces, 3, encoder="test")
    with pytest.raises(ValueError, match=r"\[N, 3\], not \[1, 4\]"):
        pca.inverse(np.zeros((1, 4)))
    faces[5] = np.nan
    with pytest.raises(ValueError, match="frame 5 and 0 others"):
        LandmarkPCA.fit(faces, 3, encoder="test")


# --- neutral-relative form ----------------------------------------------------------------------------------


def test_relative_form_takes_the_persons_own_level_out():
    descriptors = np.array([[1, 2], [3, 5], [np.nan, np.nan]], np.float32)
    relative = relative_to(descriptors, np.array([1, 1]))
    np.testing.assert_array_equal(relative, np.array([[0, 1], [2, 4], [np.nan, np.nan]], np.float32))
    assert relative.dtype == np.float32
    np.testing.assert_array_equal(
        relative_to(descriptors[:2], descriptors[:2]), [[-1, -1.5], [1, 1.5]]
    )  # own mean
    # A constant added by identity to every frame, the neutral included, disappears.
    np.testing.assert_allclose(relative_to(descriptors[:2] + 0.25, np.array([1.25, 1.25])), relative[:2])
    with pytest.raises(ValueError, match="descriptors have 2 dimensions and the reference's have 3"):
        relative_to(descriptors, np.zeros(3))
    with pytest.raises(ValueError, match="row 0 of the reference holds NaN"):
        relative_to(descriptors, np.array([np.nan, 0]))
    with pytest.raises(ValueError, match="the reference has no row"):
        relative_to(descriptors, np.zeros((0, 2)))


# --- Detections ---------------------------------------------------------------------------------------------


def detections(missing=(), frames=20, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.random((frames, *shape), np.float32)
        for name, shape in (("blendshapes", (52,)), ("landmarks", (478, 3)), ("encoder_pose", (4, 4)))
    }
    found = np.ones(frames, bool)
    found[list(missing)] = False
    for array in arrays.values():
        array[~found] = np.nan
    return Detections(**arrays | {"face_found": found} | changed)


def test_detections_name_the_frames_without_a_face():
    seen = detections(missing=(4, 17))
    assert seen.missing.tolist() == [4, 17] and len(seen) == 20 and np.isnan(seen.descriptors[[4, 17]]).all()
    with pytest.raises(ValueError, match=r"no face found in 2 of 20 frames of cam_7\.mp4 \(frames 4, 17\)"):
        seen.require_all("cam_7.mp4")
    whole = detections()
    assert whole.require_all() is whole and detections(frames=0).descriptors.shape == (0, 52)
    with pytest.raises(ValueError, match=r"blendshapes of frames 4, 17 are not finite although"):
        detections(missing=(4, 17), face_found=np.ones(20, bool))
    with pytest.raises(ValueError, match=r"blendshapes of 19 frames must be \[19, 52\], not \[20, 52\]"):
        detections(face_found=np.ones(19, bool))


def test_descriptors_of_detections_are_blendshapes_or_the_landmarks_in_a_basis():
    seen = detections(missing=(4,))
    assert seen.descriptors is seen.blendshapes
    pca = LandmarkPCA.fit(np.delete(seen.landmarks, 4, 0), 3, encoder="test")
    found = replace(seen, landmark_pca=pca).descriptors
    np.testing.assert_array_equal(found, pca.encode_landmarks(seen.landmarks))
    assert found.shape == (20, 3) and np.isnan(found[4]).all() and np.isfinite(np.delete(found, 4, 0)).all()
