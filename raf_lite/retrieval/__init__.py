"""Retrieval-augmented training (RAF, arXiv 2603.08645): the idea of the paper, its variants and its controls.

An avatar learns to turn an expression descriptor of its subject into the subject's frame. RAF replaces some
descriptors by their nearest neighbours in a bank of *other people's* descriptors and keeps the frame: the
avatar learns that descriptors which mean the same expression, but come from other faces, must give the same
picture. In any training loop:

    raf = RetrievalAugmentation(bank, p=0.2)              # once
    descriptors, _ = raf.augment(descriptors, generator)  # every step; the loss still compares with the same
    frames

Training alone changes; the avatar's architecture and its use don't. `augmentation` is the idea, `settings`
are the names of its variants, `controls` is what each control puts in.
"""

from raf_lite.retrieval.augmentation import Augmentation, Replacements, RetrievalAugmentation
from raf_lite.retrieval.controls import CONTROLS
from raf_lite.retrieval.settings import KEYS, SETTINGS, STRATEGIES, Setting, with_controls

__all__ = [
    "CONTROLS",
    "KEYS",
    "SETTINGS",
    "STRATEGIES",
    "Augmentation",
    "Replacements",
    "RetrievalAugmentation",
    "Setting",
    "with_controls",
]
