"""Recordings: what a capture holds, videos into descriptors, descriptors into a bank."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional


def check(path: Positional[Path], *, sheet: Path = Path("out/check.png"), format: str | None = None) -> int:
    """Say what a capture holds, whether its cameras can be right, and a contact sheet.

    Args:
        path: A capture's folder, a folder of images, or a video.
        sheet: The contact sheet.
        format: The capture's format; without it, what the folder looks like.
    """
    from raf_lite.captures import detect_format, open_capture
    from raf_lite.captures.check import check_capture, contact_sheet, report

    capture = open_capture(path, format=format)
    found = check_capture(capture)
    print(f"{path}: {format or detect_format(path)}, {report(capture, found)}")
    print(f"contact sheet: {contact_sheet(capture, sheet)}")
    return 1 if found.problems else 0


def encode(
    video: Positional[Path],
    others: Positional[tuple[Path, ...]] = (),
    *,
    out: Path | None = None,
    face: int | None = None,
    smooth: float = 0.0,
) -> int:
    """Turn videos, folders of images or captures into blendshapes, landmarks and head poses; a video resumes.

    Args:
        video: Every frame of it is encoded. A capture's folder gets annotations/, with head poses where it
            has none.
        others: More of them, each encoded by itself.
        out: The npz to write, for one video only; without it, the video's name and .encoding.npz, where
            others look.
        face: Which of several people to follow, 1 being the one seen longest; without it 1.
        smooth: Standard deviation, in seconds, of a Gaussian average over time; 0 for none.
    """
    from raf_lite.captures import detect_format, open_capture
    from raf_lite.descriptors.encode_capture import encode_capture
    from raf_lite.descriptors.encode_video import encode_video, report

    if out and others:
        raise ValueError(
            f"--out names one file for {1 + len(others)} videos; leave it out, and each goes beside its video"
        )
    for path in (video, *others):
        if path.is_dir() and detect_format(path) != "images":
            if out or face or smooth:
                raise ValueError(
                    f"--out, --face and --smooth are for videos, and {path} is a capture; leave them out"
                )
            print(*encode_capture(open_capture(path)), sep="\n")
            continue
        print(report(encode_video(path, out, face=face, smooth=smooth), path))
    return 0


def bank_add(
    video: Positional[Path], *, bank: Path, out: Path | None = None, donor: str | None = None
) -> int:
    """Add the frames of a video of one more person.

    Args:
        video: Encoded first, unless it is.
        bank: The bank's folder; begun there if there is none.
        out: Folder of the grown bank; without it the same.
        donor: The person's id; without it that of the donor who has these frames already, or else the next
            number.
    """
    from raf_lite.bank.videos import add_video

    added = add_video(bank, video, donor=donor, out=out)
    if not added.added:
        print(f"nothing added: {bank} holds all of these frames already, as donor {added.donor}")
        return 0
    print(
        f"donor {added.donor}: {added.added} frames added to {out or bank}, {added.dropped} dropped that"
        f" repeat others, {added.without_face} without a face"
    )
    return 0
