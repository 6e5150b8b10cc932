"""The expression bank: descriptors of many donors behind a FAISS index, with provenance and thumbnails.

A *descriptor* is what the avatar's encoder makes of one frame; a *donor* is one person's recording. The bank
is unlabeled: it knows who a frame is of (an anonymous id), never which expression it shows.
"""

from raf_lite.bank.bank import ExpressionBank, SearchResult
from raf_lite.bank.growing import add_donor
from raf_lite.bank.own_mean import OwnMean, expected_mean
from raf_lite.bank.storage import encode_thumbnail, load_truth, write_bank

__all__ = [
    "ExpressionBank",
    "OwnMean",
    "SearchResult",
    "add_donor",
    "encode_thumbnail",
    "expected_mean",
    "load_truth",
    "write_bank",
]
