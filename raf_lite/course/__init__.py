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
    from raf_lite.course.own_video import OwnAvatar, train_video

__all__ = [
    "AVATARS",
    "OwnAvatar",
    "SUBJECT",
    "avatar_folder",
    "lesson_config",
    "train_landmark_net",
    "train_video",
    "trained_avatar",
]

_OWN_VIDEO = ("OwnAvatar", "train_video")
__getattr__, __dir__ = attach(
    __name__, {name: "own_video" if name in _OWN_VIDEO else "avatars" for name in __all__}
)
