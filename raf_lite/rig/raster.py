"""Triangle kernels of the head renderer: vertex normals, z-buffer, deferred shading. Plain numba, one thread.

One thread on purpose: whole data sets are rendered with one process a core, where inner threads would only
get in the way."""

from __future__ import annotations

import numpy as np

from raf_lite._kernels import kernel

# What a triangle is made of; decides texture, gloss and occlusion in `shade`.
SKIN, TEETH, EYE, MOUTH, CAVITY = 1, 2, 3, 4, 5


@kernel()
def vertex_normals(
    vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray
) -> None:  # [V, 3] f32, [T, 3] i32 -> normals [V, 3] f32 (written)
    """Area-weighted unit vertex normals."""
    normals[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + np.float32(1e-12)
        normals[i, 0] /= length
        normals[i, 1] /= length
        normals[i, 2] /= length


@kernel()
def rasterise(
    points: np.ndarray,
    triangles: np.ndarray,
    height: int,
    width: int,
    face: np.ndarray,
    depth: np.ndarray,
    bary: np.ndarray,
) -> None:
    """Z-buffer. points: [V, 3] pixel x, pixel y, depth (cm). Writes face [H, W] (-1 = none), depth [H, W],
    bary [H, W, 3].

    Barycentric weights are perspective-correct. Pixel centres lie at +0.5. Triangles that touch the camera
    plane are dropped."""
    face[:] = -1
    depth[:] = np.float32(1e30)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        z0, z1, z2 = points[a, 2], points[b, 2], points[c, 2]
        if z0 <= 0 or z1 <= 0 or z2 <= 0:
            continue
        x0, y0, x1, y1, x2, y2 = (
            points[a, 0],
            points[a, 1],
            points[b, 0],
            points[b, 1],
            points[c, 0],
            points[c, 1],
        )
        left = max(0, int(np.ceil(min(x0, min(x1, x2)) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, max(x1, x2)) - 0.5)))
        top = max(0, int(np.ceil(min(y0, min(y1, y2)) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, max(y1, y2)) - 0.5)))
        if left > right or top > bottom:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        inv = 1 / area
        for y in range(top, bottom + 1):
            py = y + np.float32(0.5)
            for x in range(left, right + 1):
                px = x + np.float32(0.5)
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inv
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inv
                w2 = 1 - w0 - w1
                if w0 >= 0 and w1 >= 0 and w2 >= 0:
                    q0, q1, q2 = w0 / z0, w1 / z1, w2 / z2
                    z = 1 / (q0 + q1 + q2)
                    if z < depth[y, x]:
                        depth[y, x] = z
                        face[y, x] = f
                        bary[y, x, 0] = q0 * z
                        bary[y, x, 1] = q1 * z
                        bary[y, x, 2] = q2 * z


@kernel()
def shade(
    face: np.ndarray,
    bary: np.ndarray,
    triangles: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    uv: np.ndarray,
    atlas: np.ndarray,
    tile_start: np.ndarray,
    tile_size: np.ndarray,
    kind: np.ndarray,
    flat_colour: np.ndarray,
    eye: np.ndarray,
    lights: np.ndarray,
    lip_z: float,
    samples: int,
    background: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Shade a supersampled buffer and average it down to the final picture.

    face, bary: [H*s, W*s(, 3)] from `rasterise`. vertices, normals: [V, 3] in head space. uv: [T, 3, 2]
    within the triangle's tile; atlas: [texels, 4] linear RGB + gloss; tile_start, tile_size: [T] (start -1 =
    flat_colour [T, 3]). kind: [T].
    eye: camera centre in head space. lights: [3, 3] unit directions (key, fill, rim) in head space. lip_z: z
    of the inner lips, from which the mouth darkens inwards. samples: s. background: [3] linear. Writes image
    [H, W, 3] linear, mask [H, W]."""
    one, zero = np.float32(1), np.float32(0)
    height, width = image.shape[0], image.shape[1]
    share = one / np.float32(samples * samples)
    image[:] = 0
    mask[:] = 0
    for y in range(height * samples):
        for x in range(width * samples):
            iy, ix = y // samples, x // samples
            f = face[y, x]
            if f < 0:
                for k in range(3):
                    image[iy, ix, k] += share * background[k]
                continue
            mask[iy, ix] += share
            nx = ny = nz = px = py = pz = u = v = zero
            for k in range(3):
                b, i = bary[y, x, k], triangles[f, k]
                nx += b * normals[i, 0]
                ny += b * normals[i, 1]
                nz += b * normals[i, 2]
                px += b * vertices[i, 0]
                py += b * vertices[i, 1]
                pz += b * vertices[i, 2]
                u += b * uv[f, k, 0]
                v += b * uv[f, k, 1]
            inv = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-12))
            nx, ny, nz = nx * inv, ny * inv, nz * inv
            vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
            inv = one / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * inv, vy * inv, vz * inv
            if nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz
            start = tile_start[f]
            gloss = one
            if start >= 0:
                s = tile_size[f]
                tx = min(max(u * s - np.float32(0.5), zero), s - np.float32(1.001))
                ty = min(max((one - v) * s - np.float32(0.5), zero), s - np.float32(1.001))
                x0, y0 = int(tx), int(ty)
                dx, dy = tx - x0, ty - y0
                o = start + y0 * s + x0
                w00, w01, w10, w11 = (one - dx) * (one - dy), dx * (one - dy), (one - dx) * dy, dx * dy
                r = (
                    atlas[o, 0] * w00
                    + atlas[o + 1, 0] * w01
                    + atlas[o + s, 0] * w10
                    + atlas[o + s + 1, 0] * w11
                )
                g = (
                    atlas[o, 1] * w00
                    + atlas[o + 1, 1] * w01
                    + atlas[o + s, 1] * w10
                    + atlas[o + s + 1, 1] * w11
                )
                bl = (
                    atlas[o, 2] * w00
                    + atlas[o + 1, 2] * w01
                    + atlas[o + s, 2] * w10
                    + atlas[o + s + 1, 2] * w11
                )
                gloss = (
                    atlas[o, 3] * w00
                    + atlas[o + 1, 3] * w01
                    + atlas[o + s, 3] * w10
                    + atlas[o + s + 1, 3] * w11
                )
            else:
                r, g, bl = flat_colour[f, 0], flat_colour[f, 1], flat_colour[f, 2]
            nl = nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]
            fill = max(nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2], zero)
            rim = max(nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2], zero)
            hx, hy, hz = lights[0, 0] + vx, lights[0, 1] + vy, lights[0, 2] + vz
            inv = one / np.sqrt(hx * hx + hy * hy + hz * hz)
            nh = max((nx * hx + ny * hy + nz * hz) * inv, zero)
            material = kind[f]
            occlusion = one
            if material == TEETH or material == MOUTH or material == CAVITY:
                deep = max(lip_z - np.float32(0.2) - pz, zero)
                occlusion = np.exp(-deep * np.float32(0.42 if material == TEETH else 0.62))
            # Red light wraps furthest round the terminator: a cheap look of subsurface scattering.
            wr = wg = wb = zero
            if material == SKIN:
                wr, wg, wb = np.float32(0.55), np.float32(0.40), np.float32(0.34)
            elif material == TEETH:
                wr, wg, wb = np.float32(0.45), np.float32(0.42), np.float32(0.36)
            kr, kg, kb = (
                max((nl + wr) / (one + wr), zero),
                max((nl + wg) / (one + wg), zero),
                max((nl + wb) / (one + wb), zero),
            )
            ambient = np.float32(0.40) + np.float32(0.12) * ny
            spec = zero
            nh2 = nh * nh
            nh4 = nh2 * nh2
            nh16 = (nh4 * nh4) * (nh4 * nh4)
            if material == EYE:
                nh64 = (nh16 * nh16) * (nh16 * nh16)
                spec = np.float32(0.8) * nh64 * nh64 * nh64
            elif material == TEETH:
                spec = np.float32(0.2) * nh16 * nh16 * nh16
            elif material == SKIN:
                spec = gloss * (np.float32(0.05) * nh16 * nh4 + np.float32(0.05) * nh16 * nh16 * nh16)
            rim2 = np.float32(0.16) * rim * rim
            image[iy, ix, 0] += (
                share
                * occlusion
                * (
                    r
                    * (
                        ambient * np.float32(0.97)
                        + np.float32(0.56) * kr
                        + np.float32(0.20) * np.float32(0.88) * fill
                        + rim2
                    )
                    + spec
                )
            )
            image[iy, ix, 1] += (
                share
                * occlusion
                * (
                    g
                    * (
                        ambient
                        + np.float32(0.56) * np.float32(0.97) * kg
                        + np.float32(0.20) * np.float32(0.95) * fill
                        + rim2
                    )
                    + spec
                )
            )
            image[iy, ix, 2] += (
                share
                * occlusion
                * (
                    bl
                    * (
                        ambient * np.float32(1.04)
                        + np.float32(0.56) * np.float32(0.92) * kb
                        + np.float32(0.20) * np.float32(1.05) * fill
                        + rim2
                    )
                    + spec
                )
            )
