"""Step one on a CPU: 3D Gaussians to 2D ones, forward and backward, as numba kernels and an autograd
Function.

The mathematics is `reference.project`'s; names follow it. Writing the 2D covariance as H H^T with H = J R_cam
(R_gauss S), a 2x3 matrix with rows u and v, keeps everything in a few dozen scalars and gives its determinant
as |u x v|^2, which stays exact in float32 for needles where `xx * yy - xy^2` cancels.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raf_lite._kernels import KEEP_NAN, kernel, launch
from raf_lite.splatting.reference import ALPHA_MIN, CLAMP_MARGIN, EXTENT_MAX

# Literals in a kernel are float64 and would promote everything they touch, hence named float32 constants.
F = np.float32
Jacobian = tuple[F, F, F, F, F, F, F, F, F, F, np.bool_, np.bool_]
ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)
ALPHA_MIN_F, EXTENT_MAX_F, MARGIN_F = F(ALPHA_MIN), F(EXTENT_MAX), F(CLAMP_MARGIN * 0.5)
SMALLEST_NORM = F(1e-12)  # torch.nn.functional.normalize's
LARGEST_RADIUS = F(1e9)  # fits int32
LARGEST = F(1e30)  # of a determinant or coordinate in pixels: what follows from it stays inside float32
# Gaussians per task; the camera gradient is summed per chunk, so the result does not depend on the threads.
CHUNK = 512


@kernel(fastmath=KEEP_NAN)
def _unit_quaternion(w: np.float32, x: np.float32, y: np.float32, z: np.float32) -> tuple[np.float32, ...]:
    """The unit quaternion and 1 / norm, without overflow or underflow of the squares."""
    largest = max(max(abs(w), abs(x)), max(abs(y), abs(z)))
    if largest < SMALLEST_NORM:
        return ONE, ZERO, ZERO, ZERO, ZERO
    w, x, y, z = w / largest, x / largest, y / largest, z / largest
    inverse = ONE / np.sqrt(w * w + x * x + y * y + z * z)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse / largest


@kernel(fastmath=KEEP_NAN)
def _rotation(w: np.float32, x: np.float32, y: np.float32, z: np.float32) -> tuple[np.float32, ...]:
    return (
        ONE - TWO * (y * y + z * z),
        TWO * (x * y - w * z),
        TWO * (x * z + w * y),
        TWO * (x * y + w * z),
        ONE - TWO * (x * x + z * z),
        TWO * (y * z - w * x),
        TWO * (x * z - w * y),
        TWO * (y * z + w * x),
        ONE - TWO * (x * x + y * y),
    )


@kernel(fastmath=KEEP_NAN)
def _jacobian_rows(
    x: np.float32, y: np.float32, z: np.float32, view: np.ndarray, K: np.ndarray, width: int, height: int
) -> Jacobian:
    """Rows of J R_cam, the entries of J, and whether x / z and y / z lie inside the clamp."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    inv_z = ONE / z
    margin_x, margin_y = MARGIN_F * F(width) / fx, MARGIN_F * F(height) / fy
    slope_x = min((F(width) - cx) / fx + margin_x, max(-cx / fx - margin_x, x * inv_z))
    slope_y = min((F(height) - cy) / fy + margin_y, max(-cy / fy - margin_y, y * inv_z))
    jx, jy = fx * inv_z, fy * inv_z
    jxz, jyz = -jx * slope_x, -jy * slope_y
    a0 = jx * view[0, 0] + jxz * view[2, 0]
    a1 = jx * view[0, 1] + jxz * view[2, 1]
    a2 = jx * view[0, 2] + jxz * view[2, 2]
    b0 = jy * view[1, 0] + jyz * view[2, 0]
    b1 = jy * view[1, 1] + jyz * view[2, 1]
    b2 = jy * view[1, 2] + jyz * view[2, 2]
    return a0, a1, a2, b0, b1, b2, jx, jy, jxz, jyz, slope_x == x * inv_z, slope_y == y * inv_z


@kernel(fastmath=KEEP_NAN)
def _to_camera(mean: np.ndarray, view: np.ndarray) -> tuple[np.float32, np.float32, np.float32]:
    x = view[0, 0] * mean[0] + view[0, 1] * mean[1] + view[0, 2] * mean[2] + view[0, 3]
    y = view[1, 0] * mean[0] + view[1, 1] * mean[1] + view[1, 2] * mean[2] + view[1, 3]
    z = view[2, 0] * mean[0] + view[2, 1] * mean[1] + view[2, 2] * mean[2] + view[2, 3]
    return x, y, z


@kernel(fastmath=KEEP_NAN)
def _determinant(
    u0: np.float32, u1: np.float32, u2: np.float32, v0: np.float32, v1: np.float32, v2: np.float32
) -> np.float32:
    """|u x v|^2 = det(H H^T)."""
    c0, c1, c2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    return c0 * c0 + c1 * c1 + c2 * c2


@kernel(parallel=True, fastmath=KEEP_NAN)
def project_forward(
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
    eps2d: np.float32,
    near: np.float32,
    far: np.float32,
    radius_clip: np.float32,
    antialiased: bool,
    radii: np.ndarray,
    means2d: np.ndarray,
    depths: np.ndarray,
    conics: np.ndarray,
    compensations: np.ndarray,
) -> None:
    """Fill the last five arrays, which come in as zeros, for every Gaussian that some camera sees."""
    count, chunks = means.shape[0], (means.shape[0] + CHUNK - 1) // CHUNK
    for chunk in nb.prange(chunks):
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            qw, qx, qy, qz, _ = _unit_quaternion(quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
            r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(qw, qx, qy, qz)
            s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
            for c in range(viewmats.shape[0]):
                x, y, z = _to_camera(means[n], viewmats[c])
                if not (z >= near and z <= far):
                    continue
                a0, a1, a2, b0, b1, b2, jx, jy, _, _, _, _ = _jacobian_rows(
                    x, y, z, viewmats[c], Ks[c], width, height
                )
                u0, v0 = (a0 * r00 + a1 * r10 + a2 * r20) * s0, (b0 * r00 + b1 * r10 + b2 * r20) * s0
                u1, v1 = (a0 * r01 + a1 * r11 + a2 * r21) * s1, (b0 * r01 + b1 * r11 + b2 * r21) * s1
                u2, v2 = (a0 * r02 + a1 * r12 + a2 * r22) * s2, (b0 * r02 + b1 * r12 + b2 * r22) * s2
                xx, xy, yy = (
                    u0 * u0 + u1 * u1 + u2 * u2,
                    u0 * v0 + u1 * v1 + u2 * v2,
                    v0 * v0 + v1 * v1 + v2 * v2,
                )
                det_sharp = _determinant(u0, u1, u2, v0, v1, v2)
                det = det_sharp + eps2d * (xx + yy + eps2d)
                mx, my = jx * x + Ks[c, 0, 2], jy * y + Ks[c, 1, 2]
                # False for NaN and infinity too: what overflows float32 is culled here and never reaches a
                # pixel.
                if not (det > ZERO and det < LARGEST and abs(mx) < LARGEST and abs(my) < LARGEST):
                    continue
                compensation = np.sqrt(det_sharp / det) if antialiased else ONE
                peak = opacities[n] * compensation
                if not peak >= ALPHA_MIN_F:
                    continue
                extent = min(EXTENT_MAX_F, np.sqrt(TWO * np.log(peak / ALPHA_MIN_F)))
                rx = min(LARGEST_RADIUS, np.ceil(extent * np.sqrt(xx + eps2d)))
                ry = min(LARGEST_RADIUS, np.ceil(extent * np.sqrt(yy + eps2d)))
                if rx <= radius_clip and ry <= radius_clip:
                    continue
                if mx + rx <= ZERO or mx - rx >= F(width) or my + ry <= ZERO or my - ry >= F(height):
                    continue
                radii[c, n, 0], radii[c, n, 1] = np.int32(rx), np.int32(ry)
                means2d[c, n, 0], means2d[c, n, 1] = mx, my
                depths[c, n] = z
                inv_det = ONE / det
                conics[c, n, 0], conics[c, n, 1], conics[c, n, 2] = (
                    (yy + eps2d) * inv_det,
                    -xy * inv_det,
                    (xx + eps2d) * inv_det,
                )
                compensations[c, n] = compensation


@kernel(parallel=True, fastmath=KEEP_NAN)
def project_backward(
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
    eps2d: np.float32,
    antialiased: bool,
    with_viewmats: bool,
    radii: np.ndarray,
    conics: np.ndarray,
    compensations: np.ndarray,
    g_means2d: np.ndarray,
    g_depths: np.ndarray,
    g_conics: np.ndarray,
    g_compensations: np.ndarray,
    g_means: np.ndarray,
    g_quats: np.ndarray,
    g_scales: np.ndarray,
    g_viewmats: np.ndarray,
) -> None:
    """Fill g_means, g_quats, g_scales and, per chunk of Gaussians, g_viewmats [chunks, C, 3, 4] float64
    (zeros at first).

    `g_name` is the derivative of the loss by `name` throughout.
    """
    count, chunks = means.shape[0], (means.shape[0] + CHUNK - 1) // CHUNK
    for chunk in nb.prange(chunks):
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            qw, qx, qy, qz, inv_norm = _unit_quaternion(quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
            r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(qw, qx, qy, qz)
            s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
            m00, m01, m02 = r00 * s0, r01 * s1, r02 * s2
            m10, m11, m12 = r10 * s0, r11 * s1, r12 * s2
            m20, m21, m22 = r20 * s0, r21 * s1, r22 * s2
            g_x, g_y, g_z = ZERO, ZERO, ZERO
            g00, g01, g02, g10, g11, g12, g20, g21, g22 = (
                ZERO,
                ZERO,
                ZERO,
                ZERO,
                ZERO,
                ZERO,
                ZERO,
                ZERO,
                ZERO,
            )  # by M
            for c in range(viewmats.shape[0]):
                if radii[c, n, 0] <= 0:
                    continue
                view = viewmats[c]
                x, y, z = _to_camera(means[n], view)
                a0, a1, a2, b0, b1, b2, jx, jy, jxz, jyz, inside_x, inside_y = _jacobian_rows(
                    x, y, z, view, Ks[c], width, height
                )
                u0, u1, u2 = (
                    a0 * m00 + a1 * m10 + a2 * m20,
                    a0 * m01 + a1 * m11 + a2 * m21,
                    a0 * m02 + a1 * m12 + a2 * m22,
                )
                v0, v1, v2 = (
                    b0 * m00 + b1 * m10 + b2 * m20,
                    b0 * m01 + b1 * m11 + b2 * m21,
                    b0 * m02 + b1 * m12 + b2 * m22,
                )

                # P = inverse(covariance): g_covariance = -P g_P P; the off-diagonal entry of g_conics counts
                # both sides.
                pxx, pxy, pyy = conics[c, n, 0], conics[c, n, 1], conics[c, n, 2]
                gxx, gxy, gyy = g_conics[c, n, 0], HALF * g_conics[c, n, 1], g_conics[c, n, 2]
                t00, t01, t10, t11 = (
                    pxx * gxx + pxy * gxy,
                    pxx * gxy + pxy * gyy,
                    pxy * gxx + pyy * gxy,
                    pxy * gxy + pyy * gyy,
                )
                g_xx, g_xy, g_yy = (
                    -(t00 * pxx + t01 * pxy),
                    -(t10 * pxx + t11 * pxy),
                    -(t10 * pxy + t11 * pyy),
                )
                if antialiased:
                    # compensation^2 = det_sharp / det, whose derivative by the covariance is
                    # eps2d / det * ((trace + eps2d) P - I) once the large terms that cancel have been taken
                    # out by hand.
                    trace = u0 * u0 + u1 * u1 + u2 * u2 + v0 * v0 + v1 * v1 + v2 * v2 + eps2d
                    det = _determinant(u0, u1, u2, v0, v1, v2) + eps2d * trace
                    factor = HALF * g_compensations[c, n] / compensations[c, n] * eps2d / det
                    g_xx += factor * (trace * pxx - ONE)
                    g_xy += factor * trace * pxy
                    g_yy += factor * (trace * pyy - ONE)

                gu0, gv0 = TWO * (g_xx * u0 + g_xy * v0), TWO * (g_yy * v0 + g_xy * u0)
                gu1, gv1 = TWO * (g_xx * u1 + g_xy * v1), TWO * (g_yy * v1 + g_xy * u1)
                gu2, gv2 = TWO * (g_xx * u2 + g_xy * v2), TWO * (g_yy * v2 + g_xy * u2)
                g00, g01, g02 = (
                    g00 + a0 * gu0 + b0 * gv0,
                    g01 + a0 * gu1 + b0 * gv1,
                    g02 + a0 * gu2 + b0 * gv2,
                )
                g10, g11, g12 = (
                    g10 + a1 * gu0 + b1 * gv0,
                    g11 + a1 * gu1 + b1 * gv1,
                    g12 + a1 * gu2 + b1 * gv2,
                )
                g20, g21, g22 = (
                    g20 + a2 * gu0 + b2 * gv0,
                    g21 + a2 * gu1 + b2 * gv1,
                    g22 + a2 * gu2 + b2 * gv2,
                )
                ga0, gb0 = gu0 * m00 + gu1 * m01 + gu2 * m02, gv0 * m00 + gv1 * m01 + gv2 * m02
                ga1, gb1 = gu0 * m10 + gu1 * m11 + gu2 * m12, gv0 * m10 + gv1 * m11 + gv2 * m12
                ga2, gb2 = gu0 * m20 + gu1 * m21 + gu2 * m22, gv0 * m20 + gv1 * m21 + gv2 * m22
                g_jx = ga0 * view[0, 0] + ga1 * view[0, 1] + ga2 * view[0, 2]
                g_jy = gb0 * view[1, 0] + gb1 * view[1, 1] + gb2 * view[1, 2]
                g_jxz = ga0 * view[2, 0] + ga1 * view[2, 1] + ga2 * view[2, 2]
                g_jyz = gb0 * view[2, 0] + gb1 * view[2, 1] + gb2 * view[2, 2]

                # jx = fx / z and jxz = -fx x / z^2 (inside the clamp) or -fx limit / z (outside, where x has
                # no influence)
                inv_z = ONE / z
                gx, gy = jx * g_means2d[c, n, 0], jy * g_means2d[c, n, 1]
                gz = g_depths[c, n] - inv_z * (
                    jx * g_jx + jy * g_jy + jxz * g_jxz + jyz * g_jyz + x * gx + y * gy
                )
                if inside_x:
                    gx -= jx * inv_z * g_jxz
                    gz -= jxz * inv_z * g_jxz
                if inside_y:
                    gy -= jy * inv_z * g_jyz
                    gz -= jyz * inv_z * g_jyz

                g_x += view[0, 0] * gx + view[1, 0] * gy + view[2, 0] * gz
                g_y += view[0, 1] * gx + view[1, 1] * gy + view[2, 1] * gz
                g_z += view[0, 2] * gx + view[1, 2] * gy + view[2, 2] * gz
                if with_viewmats:
                    g_view = g_viewmats[chunk, c]
                    for i, position, row_a, row_b in (
                        (0, gx, jx, ZERO),
                        (1, gy, ZERO, jy),
                        (2, gz, jxz, jyz),
                    ):
                        g_view[i, 0] += position * means[n, 0] + row_a * ga0 + row_b * gb0
                        g_view[i, 1] += position * means[n, 1] + row_a * ga1 + row_b * gb1
                        g_view[i, 2] += position * means[n, 2] + row_a * ga2 + row_b * gb2
                        g_view[i, 3] += position

            g_means[n, 0], g_means[n, 1], g_means[n, 2] = g_x, g_y, g_z
            g_scales[n, 0] = g00 * r00 + g10 * r10 + g20 * r20
            g_scales[n, 1] = g01 * r01 + g11 * r11 + g21 * r21
            g_scales[n, 2] = g02 * r02 + g12 * r12 + g22 * r22
            g00, g01, g02 = g00 * s0, g01 * s1, g02 * s2  # by M = R S, now by R
            g10, g11, g12 = g10 * s0, g11 * s1, g12 * s2
            g20, g21, g22 = g20 * s0, g21 * s1, g22 * s2
            gw = TWO * (qx * (g21 - g12) + qy * (g02 - g20) + qz * (g10 - g01))
            gx = TWO * (-TWO * qx * (g11 + g22) + qy * (g01 + g10) + qz * (g02 + g20) + qw * (g21 - g12))
            gy = TWO * (qx * (g01 + g10) - TWO * qy * (g00 + g22) + qz * (g12 + g21) + qw * (g02 - g20))
            gz = TWO * (qx * (g02 + g20) + qy * (g12 + g21) - TWO * qz * (g00 + g11) + qw * (g10 - g01))
            along = gw * qw + gx * qx + gy * qy + gz * qz  # normalising removes the part along the quaternion
            g_quats[n, 0], g_quats[n, 1] = (gw - along * qw) * inv_norm, (gx - along * qx) * inv_norm
            g_quats[n, 2], g_quats[n, 3] = (gy - along * qy) * inv_norm, (gz - along * qz) * inv_norm


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        antialiased: bool,
    ) -> tuple[Tensor, ...]:
        arrays = [_array(t) for t in (means, quats, scales, opacities, viewmats, Ks)]
        shape = (len(viewmats), len(means))
        radii = np.zeros((*shape, 2), np.int32)
        means2d, depths, conics, compensations = (np.zeros(shape + tail, F) for tail in ((2,), (), (3,), ()))
        with launch("projection forward"):
            project_forward(
                *arrays,
                width,
                height,
                F(eps2d),
                F(near_plane),
                F(far_plane),
                F(radius_clip),
                antialiased,
                radii,
                means2d,
                depths,
                conics,
                compensations,
            )
        ctx.save_for_backward(
            means, quats, scales, viewmats, Ks
        )  # checked for changes in between, unlike what follows
        ctx.results = radii, conics, compensations
        ctx.settings = width, height, F(eps2d), antialiased
        out = [torch.from_numpy(a).to(means.device) for a in (radii, means2d, depths, conics, compensations)]
        ctx.mark_non_differentiable(out[0])
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        means, quats, scales, viewmats, Ks = (_array(t) for t in ctx.saved_tensors)
        radii, conics, compensations = ctx.results
        with_viewmats = ctx.needs_input_grad[4]
        outputs = [np.empty_like(a) for a in (means, quats, scales)]
        chunks = -(-len(means) // CHUNK) if with_viewmats else 0
        g_viewmats = np.zeros((chunks, len(viewmats), 3, 4), np.float64)
        with launch("projection backward"):
            project_backward(
                means,
                quats,
                scales,
                viewmats,
                Ks,
                *ctx.settings,
                with_viewmats,
                radii,
                conics,
                compensations,
                *(_array(g) for g in gradients),
                *outputs,
                g_viewmats,
            )
        device = gradients[0].device
        g_means, g_quats, g_scales = (torch.from_numpy(a).to(device) for a in outputs)
        g_views = None
        if with_viewmats:
            total = np.zeros(viewmats.shape, F)
            total[:, :3] = g_viewmats.sum(0)
            g_views = torch.from_numpy(total).to(device)
        return g_means, g_quats, g_scales, None, g_views, *[None] * 8


project = _Project.apply  # the same arguments and results as `reference.project`, float32
