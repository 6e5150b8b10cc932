"""What each pixel of a film is: hair, skin of face or body, clothes; kept beside its matte as
`clip.mp4.classes.mkv`.

MediaPipe's multi-class segmenter tells them apart (`raf_lite.captures.matting`). They say where the plane
across the neck (`raf_lite.captures.neck`) does not decide: hair and the face's skin are head however low they
hang, and clothes are not, however high they reach. The body's skin (the neck is a part of it) and what is
none of these, as glasses and jewellery are, stay with the plane.

The file is lossless grey (FFV1), as large as the film is shown, each pixel the number of its class; its
frames and tags are the matte's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raf_lite.captures.scaling import shrink

# In the order of the model's outputs.
CLASSES = ("background", "hair", "body-skin", "face-skin", "clothes", "others")
BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHERS = range(len(CLASSES))


def classes_file(video: Path) -> Path:
    """Where the classes of a film are written: beside it, under its whole name."""
    return video.parent / f"{video.name}.classes.mkv"


def head_share(classes: np.ndarray, above: np.ndarray, downscale: int = 1) -> np.ndarray:
    """How much of each pixel of a person is head, float32 [h, w] in [0, 1].

    classes: uint8 [H, W], numbers of CLASSES. above: how much of each pixel is above the neck, [h, w]; one
    pixel is `downscale` x `downscale` of `classes`.

    >>> head_share(np.array([[HAIR, CLOTHES, BODY_SKIN]], np.uint8), np.full((1, 3), 0.25)).tolist()
    [[1.0, 0.0, 0.25]]
    """
    head, clothes = (
        shrink(np.where(np.isin(classes, which), np.uint8(255), np.uint8(0)), downscale).astype(np.float32)
        / 255
        for which in ((HAIR, FACE_SKIN), (CLOTHES,))
    )
    return (head + (1 - head - clothes).clip(0) * above).clip(0, 1).astype(np.float32)
