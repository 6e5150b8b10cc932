"""How good and how fast a film's mattes are: python benchmarks/matting.py (needs data/ and MediaPipe).

Rendered heads, whose alpha is known, stand before drawn rooms (walls with falling light, a floor, dull
furniture, a lamp, out of focus), sway, and are filmed: sensor noise, H.264 at 1280 x 720. Four films of 20
frames. For each way of matting, in grey levels of 255:

    error       mean |alpha - exact| over the picture
    boundary    the same within 8 pixels of the exact edge
    flicker     mean change from frame to frame of (alpha - exact)
    ms          a frame, without reading and writing the film

The ways: the segmenter alone on the whole picture; shown the person; steadied as well; all of `raf_lite`'s;
and, where `pymatting` is installed, closed-form matting of a few frames, 16 pixels around that answer's edge
being unknown. Then `matte_video` whole: frames a second with reading and writing, the processor's time a
frame, bytes a frame. With --encode, also with `raf-lite encode`'s time added. Writes
benchmarks/results/matting.json with machine and versions.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
from machine import RESULTS, describe_machine
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, gaussian_filter

from raf_lite._files import write_json
from raf_lite.captures import matting, read_video, write_video
from raf_lite.manifest import find_data

HEIGHT, WIDTH = 720, 1280
FRAMES, BAND = 20, 8
# Person, sequence, height of its picture in the film.
FILMS = (
    ("001", "EXP-1-head", 640),
    ("002", "EXP-1-head", 600),
    ("001", "SEN-02-same_phrase_thirty_times", 480),
    ("002", "EXP-8-jaw-1", 680),
)
SLOW_FRAMES = 2  # of each film, by closed-form matting


def room(rng: np.random.Generator) -> np.ndarray:
    """A room out of focus, float64 [HEIGHT, WIDTH, 3] in [0, 255]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT

    def dull(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high) + rng.uniform(-25, 25, 3)

    fall = 1 - 0.3 * x / x.max() * rng.uniform(-1, 1) - 0.25 * y
    picture = dull(110, 210) * fall[..., None]
    picture[y[:, 0] > rng.uniform(0.8, 0.95)] *= rng.uniform(0.4, 0.8)
    for _ in range(9):
        (wide, high), cx, cy = rng.uniform(0.1, 0.6, 2), rng.uniform(0, WIDTH / HEIGHT), rng.uniform(0.1, 1)
        piece = (abs(x - cx) < wide / 2) & (abs(y - cy) < high / 2)
        colour = dull(40, 200) * (1 - 0.3 * (y - cy) / high)[piece][:, None]
        if rng.random() < 0.4:  # a shelf, a blind
            colour = colour * (1 - 0.35 * (np.sin(x[piece] * rng.uniform(60, 200)) > 0))[:, None]
        picture[piece] = colour
    for sigma, strength in ((1.25, 4), (3.5, 5), (15.5, 12)):
        grain = gaussian_filter(rng.standard_normal((HEIGHT // 4, WIDTH // 4)), sigma, mode="wrap")
        grain = Image.fromarray((grain / grain.std()).astype(np.float32))
        picture += strength * np.asarray(grain.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))[..., None]
    lamp = np.exp(-((x - rng.uniform(0, WIDTH / HEIGHT)) ** 2 + (y - 0.2) ** 2) / 0.01)
    picture += 120 * lamp[..., None] * [1, 0.9, 0.7]
    blur = rng.uniform(1.5, 6)
    return gaussian_filter(picture, (blur, blur, 0)).clip(0, 255)


def film(person: str, sequence: str, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [T, HEIGHT, WIDTH, 3] before they are compressed, and exact alpha uint8 [T, HEIGHT,
    WIDTH]."""
    rng = np.random.default_rng(seed)
    folder, name = find_data() / "mini_nersemble" / person / "sequences" / sequence, "cam_222200037.mp4"
    images = read_video(folder / "images" / name)[:FRAMES].astype(np.float32)
    alphas = read_video(folder / "alpha_maps" / name, gray=True)[:FRAMES].astype(np.float32) / 255
    wall, light, (sway, nod) = room(rng), rng.uniform(0.8, 1.04, 3), rng.uniform(0, 6, 2)

    def enlarged(channel: np.ndarray, most: float) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(channel)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        return np.asarray(picture).clip(0, most)

    pictures, exact = [], []
    for t, (image, alpha) in enumerate(zip(images, alphas, strict=True)):
        # The data lie over white; over black, colours carry their alpha.
        head = image - 255 * (1 - alpha[..., None])
        left = round((WIDTH - side) / 2 + 60 * np.sin(t / 9 + sway))
        top = round(HEIGHT - side + 12 * (1 + np.sin(t / 6 + nod)))
        rows = slice(top, min(HEIGHT, top + side))
        cover, colours = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH, 3))
        visible = rows.stop - rows.start
        cover[rows, left : left + side] = enlarged(alpha, 1)[:visible]
        for c in range(3):
            colours[rows, left : left + side, c] = light[c] * enlarged(head[..., c], 255)[:visible]
        seen = colours + wall * (1 - cover[..., None]) + rng.normal(0, 4, colours.shape)
        pictures.append(seen.clip(0, 255).astype(np.uint8))
        exact.append(np.rint(255 * cover).astype(np.uint8))
    return np.stack(pictures), np.stack(exact)


def enlarged_only(sure: np.ndarray, guide: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """What the segmenter says, at the picture's size: in the place of `matting._refined`."""
    size = picture.shape[1], picture.shape[0]
    return np.rint(255 * np.asarray(Image.fromarray(sure).resize(size, Image.Resampling.BILINEAR))).astype(
        np.uint8
    )


ALONE = {
    "_fitting_box": lambda sure, box, width, height: box,
    "_largest_piece": lambda sure: sure,
    "_stillness": lambda *guides: 0.0,
    "_refined": enlarged_only,
}
WAYS: dict[str, dict[str, Callable]] = {
    "segmenter alone": ALONE,
    "segmenter alone, guided filter": {k: v for k, v in ALONE.items() if k != "_refined"},
    "shown the person": {k: ALONE[k] for k in ("_stillness", "_refined")},
    "shown the person, steadied": {"_refined": enlarged_only},
    "shown the person, guided filter": {"_stillness": ALONE["_stillness"]},
    "raf_lite: shown the person, steadied, guided filter": {},
}


def closed_form(pictures: Iterable[np.ndarray], mattes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Closed-form matting around the edges of `mattes`, at half the size: the whole takes minutes a frame."""
    from pymatting import estimate_alpha_cf  # pyright: ignore[reportMissingImports] (for who has it)

    for picture, matte in zip(pictures, mattes, strict=True):
        half = np.asarray(Image.fromarray(picture).reduce(2)) / 255
        person = np.asarray(Image.fromarray(matte).reduce(2)) > 127
        trimap = np.where(binary_erosion(person, iterations=8, border_value=1), 1.0, 0.5)
        trimap[~binary_dilation(person, iterations=8)] = 0
        alpha = Image.fromarray(estimate_alpha_cf(half, trimap).astype(np.float32))
        yield np.rint(255 * np.asarray(alpha.resize((WIDTH, HEIGHT))).clip(0, 1)).astype(np.uint8)


def errors(mattes: np.ndarray, exact: np.ndarray, bands: np.ndarray) -> list[float]:
    """Error, boundary and flicker of [T, H, W]."""
    difference = mattes.astype(np.int16) - exact
    flicker = float(np.abs(np.diff(difference, axis=0)).mean())
    return [float(np.abs(difference).mean()), float(np.abs(difference)[bands].mean()), flicker]


def grade(films: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Each way's numbers, the mean of the films."""
    rows: dict[str, list[list[float]]] = {}
    for pictures, exact in films:
        on = exact > 127
        edges = [(distance_transform_edt(o) <= BAND) & (distance_transform_edt(~o) <= BAND) for o in on]
        bands, mattes = np.stack(edges), np.zeros(0)
        for name, changes in WAYS.items():
            with matting.SelfieSegmenter() as segmenter, patch.dict(vars(matting), changes):
                start = time.process_time()
                mattes = np.stack(list(matting.matte_frames(pictures, segmenter)))
                took = 1e3 * (time.process_time() - start) / len(mattes)
            rows.setdefault(name, []).append([*errors(mattes, exact, bands), took])
        if importlib.util.find_spec("pymatting"):
            few = slice(0, SLOW_FRAMES)
            start = time.process_time()
            slow = np.stack(list(closed_form(pictures[few], mattes[few])))
            took = 1e3 * (time.process_time() - start) / SLOW_FRAMES
            name = f"closed form (pymatting) around it, half size, {SLOW_FRAMES} frames a film"
            rows.setdefault(name, []).append([*errors(slow, exact[few], bands[few]), took])
            same = [*errors(mattes[few], exact[few], bands[few]), float("nan")]
            rows.setdefault(f"raf_lite on these {SLOW_FRAMES}", []).append(same)
    names = ("error", "boundary", "flicker", "cpu_ms")
    return {
        way: {
            n: round(float(v), 2) for n, v in zip(names, np.mean(numbers, 0), strict=True) if np.isfinite(v)
        }
        for way, numbers in rows.items()
    }


def speed(video: Path, encode: bool) -> dict[str, float]:
    """`matte_video` of a film, from nothing; with `encode`, the encoding as well."""
    matting.matte_file(video).unlink(missing_ok=True)
    frames = len(read_video(video))
    start, cpu = time.perf_counter(), time.process_time()
    matte = matting.matte_video(video, progress=False)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = {
        "frames": frames,
        "frames_a_second": round(frames / wall, 1),
        "cpu_ms_a_frame": round(1e3 * cpu / frames, 1),
        "bytes_a_frame": round(matte.stat().st_size / frames),
    }
    if encode:
        from raf_lite.descriptors.encode_video import encode_video

        start = time.perf_counter()
        encode_video(video, progress=False)
        encoding = time.perf_counter() - start
        found["frames_a_second_with_encoding"] = round(frames / (wall + encoding), 1)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encode", action="store_true", help="time raf-lite encode as well")
    parser.add_argument("--out", type=Path, default=RESULTS / "matting.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        films = []
        for seed, (person, sequence, side) in enumerate(FILMS):
            pictures, exact = film(person, sequence, side, seed)
            path = Path(folder) / f"{seed}.mp4"
            write_video(path, pictures, 24, crf=23)
            films.append((read_video(path), exact))
        ways = grade(films)
        long = Path(folder) / "long.mp4"
        write_video(long, np.concatenate([p for f, _ in films[:2] for p in (f, f[::-1], f)]), 24, crf=23)
        del films
        result = {
            "machine": describe_machine(),
            "mediapipe": version("mediapipe"),
            "matting": matting.MATTING,
            "films": len(FILMS),
            "frames_a_film": FRAMES,
            "ways": ways,
            "speed_720p": speed(long, arguments.encode),
        }
    for way, numbers in ways.items():
        print(f"{way:62}" + "".join(f"{name} {value:7.2f}  " for name, value in numbers.items()))
    print(result["speed_720p"])
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
