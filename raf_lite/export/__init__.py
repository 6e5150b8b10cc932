"""Out again: a trained avatar as files that other people's programs open, and as one page that plays it in a
browser."""

from raf_lite.export.basis import write_basis
from raf_lite.export.browser import PackedAvatar, pack_avatar
from raf_lite.export.gltf import write_glb
from raf_lite.export.placing import PlacedGaussians, place
from raf_lite.export.player import player_script, write_player
from raf_lite.export.ply import write_ply
from raf_lite.export.sequence import write_sequence
from raf_lite.export.targets import Driver, export_avatars

__all__ = [
    "Driver",
    "PackedAvatar",
    "PlacedGaussians",
    "export_avatars",
    "pack_avatar",
    "place",
    "player_script",
    "write_basis",
    "write_glb",
    "write_player",
    "write_ply",
    "write_sequence",
]
