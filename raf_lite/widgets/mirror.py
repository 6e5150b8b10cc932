"""An avatar that follows one's own camera: each picture goes to the kernel, the avatar's comes back, and none
is kept."""

from __future__ import annotations

import io
import time

import anywidget
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from raf_lite.avatar import GaussianAvatar, frontal_camera, resting_descriptor, turned, within_views
from raf_lite.bank import expected_mean
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.descriptors import Detections, MediaPipeEncoder
from raf_lite.descriptors.forms import detected_descriptors, parts
from raf_lite.widgets.webcam import camera_script

MOST_BYTES = 4 << 20  # of one picture; mirror.js sends a hundredth of that
NOBODY = Detections(
    np.zeros((0, 52), np.float32),
    np.zeros((0, 478, 3), np.float32),
    np.zeros((0, 4, 4), np.float32),
    face_found=np.zeros(0, bool),
)
_FLIP = OPENGL_AXES[:3, :3]  # MediaPipe gives rotations in OpenGL's axes


class LiveDriver:
    """A camera's pictures in, an avatar's out, one at a time. Live nobody knows the next picture, so nothing
    is smoothed.

    size: pixels on the longer side of the avatar's pictures. An avatar of a raw form gets the driver's
    descriptors as they are; one of a relative form (`landmarks-mean`, `landmarks-neutral`) their change from
    what the driver's own mean is expected to be after all that was seen so far (`raf_lite.bank.OwnMean`:
    other people say how much of a first frame is the person), added to the mean of its own training frames.
    Once a picture is called the resting one, either gets the change from that one, added to its own neutral
    (its mean, where it knows no neutral). Raises ValueError for an avatar that neither blendshapes nor
    landmarks drive; MediaPipe's errors come with the first picture.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> LiveDriver(avatar, size=64).camera.width
    64
    """

    def __init__(self, avatar: GaussianAvatar, size: int = 256) -> None:
        # Of no frames: refuses what a camera does not give, and reads the basis of landmarks once.
        detected_descriptors(NOBODY, avatar.descriptor, "a camera")
        self.avatar, self.camera = avatar, frontal_camera(avatar, size)
        self.own = resting_descriptor(avatar)
        self.resting: np.ndarray | None = None  # the driver's descriptor at rest, [D]
        self._relative = parts(avatar.descriptor)[1] != "raw"
        self._trained = avatar.descriptor_mean.cpu().numpy()
        self._sum, self._seen = np.zeros(len(self._trained)), 0  # of the driver's descriptors so far
        self._descriptor, self._rotation = self.own, np.eye(3)  # shown where no face is found: the last ones
        self._encoder: MediaPipeEncoder | None = None

    def drive(self, frame: np.ndarray, *, rest: bool = False, turn: bool = True) -> tuple[np.ndarray, bool]:
        """The avatar's picture, uint8 [H, W, 3], for a camera's, uint8 [H, W, 3]; and whether a face was
        found in it.

        rest: this is the driver's resting face. turn: the avatar turns as the driver does, to 20 degrees
        beyond its training views at most; else it looks straight ahead. Without a face it holds still, and
        `rest` is passed over.
        """
        if self._encoder is None:
            self._encoder = MediaPipeEncoder()
        seen = self._encoder.detect(frame[None])
        found = bool(seen.face_found[0])
        if found:
            given = detected_descriptors(seen, self.avatar.descriptor, "a camera")[0]
            self._sum, self._seen = self._sum + given, self._seen + 1
            if rest:
                self.resting = given
            if self.resting is not None:
                self._descriptor = given - self.resting + self.own
            elif self._relative:
                own = expected_mean(self.avatar.descriptor, self._sum / self._seen, self._seen)
                self._descriptor = given - own + self._trained
            else:
                self._descriptor = given
            self._rotation = Rotation.from_matrix(_FLIP @ seen.encoder_pose[0, :3, :3]).as_matrix() @ _FLIP
        pose = turned(self.avatar, self.camera, (self._rotation if turn else np.eye(3))[None])
        pose, _ = within_views(self.avatar, self.camera, pose)
        image = self.avatar.render(self._descriptor[None], pose, [self.camera])[0, 0]
        return (image * 255 + 0.5).astype(np.uint8), found


class Mirror(anywidget.AnyWidget):
    """Made by `mirror`; `driver` is its LiveDriver."""

    _esm = camera_script("mirror.js")

    def __init__(self, driver: LiveDriver) -> None:
        super().__init__()
        self.driver = driver
        self.on_msg(self._received)

    def __repr__(self) -> str:
        """What is shown where widgets are not: at most 110 characters, which is all that ipywidgets 7
        prints."""
        return (
            "No widgets here, so nothing live: film a video, and drive with it"
            " (raf_lite.viewing.drive_video)."
        )

    def _received(self, _widget: Mirror, content: dict, buffers: list) -> None:
        """Answer one picture (JPEG) with the avatar's, or with a sentence."""
        began, run = time.perf_counter(), content.get("run")
        try:
            if len(buffers) != 1 or len(buffers[0]) > MOST_BYTES:
                raise ValueError("a camera's picture was lost on the way; start again")
            try:
                frame = np.asarray(Image.open(io.BytesIO(buffers[0]), formats=["JPEG", "PNG"]).convert("RGB"))
            except OSError:
                raise ValueError("what arrived is no picture; start again, or use another browser") from None
            image, found = self.driver.drive(
                frame, rest=bool(content.get("rest")), turn=bool(content.get("turn"))
            )
        except (ValueError, ImportError, FileNotFoundError) as error:
            self.send({"run": run, "error": str(error)})
            return
        answer = io.BytesIO()
        Image.fromarray(image).save(answer, "JPEG", quality=85)
        said = {
            "run": run,
            "found": found,
            "relative": self.driver.resting is not None,
            "seconds": time.perf_counter() - began,
        }
        self.send(said, [answer.getvalue()])


def mirror(avatar: GaussianAvatar, *, size: int = 256) -> Mirror:
    """A widget in which an avatar follows the camera, live; it says at how many pictures a second.

    avatar: one that blendshapes or landmarks drive, in any form. size: pixels on the longer side of its
    pictures. Pictures go from the browser to the kernel, on whatever machine that runs, and nowhere else;
    none is written. None comes while a cell runs. Where there is no camera, no permission, no face or no
    widget manager, a sentence says so.
    Raises ValueError for another avatar.
    """
    return Mirror(LiveDriver(avatar, size))
