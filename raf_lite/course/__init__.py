"""The course's own: the first cell of a lesson, checks under exercises, the doctor, the demo, and avatars
that lessons share.

Nothing is imported before it is asked for, since a kernel that lacks torch has to be told so in a sentence.
"""

from typing import TYPE_CHECKING

from raf_lite._lazy import attach

if TYPE_CHECKING:
    from raf_lite.course.avatars import (
        AVATARS,
        SUBJECT,
        avatar_folder,
        lesson_config,
        train_landmark_net,
        trained_avatar,
    )

__all__ = ["AVATARS", "SUBJECT", "avatar_folder", "lesson_config", "train_landmark_net", "trained_avatar"]

__getattr__, __dir__ = attach(__name__, dict.fromkeys(__all__, "avatars"))
