"""The course's own: the first cell of a lesson, checks under exercises, the doctor, the demo, and avatars that lessons share.

Nothing is imported before it is asked for, since a kernel that lacks torch has to be told so in a sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raf_lite.course.avatars import AVATARS, SUBJECT, avatar_folder, lesson_config, train_landmark_net, trained_avatar

__all__ = ["AVATARS", "SUBJECT", "avatar_folder", "lesson_config", "train_landmark_net", "trained_avatar"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from raf_lite.course import avatars

    return getattr(avatars, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
