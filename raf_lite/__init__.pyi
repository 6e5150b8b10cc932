from raf_lite.avatar import GaussianAvatar as GaussianAvatar
from raf_lite.bank import ExpressionBank as ExpressionBank
from raf_lite.captures import open_capture as open_capture
from raf_lite.course.exercise import exercise as exercise
from raf_lite.course.setup import Session as Session
from raf_lite.course.setup import setup as setup
from raf_lite.descriptors import encode_video as encode_video
from raf_lite.retrieval import RetrievalAugmentation as RetrievalAugmentation
from raf_lite.splatting import rasterize as rasterize
from raf_lite.training import TrainConfig as TrainConfig
from raf_lite.training import Trainer as Trainer

__version__: str
