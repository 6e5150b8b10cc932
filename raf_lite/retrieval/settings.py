"""`Setting`: what is searched on, how many neighbours, what is put in; the settings that have a name, and
their controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raf_lite.retrieval.controls import CONTROLS

KEYS = ("raw", "centred", "weighted")
STRATEGIES = ("nearest", *CONTROLS)


@dataclass(frozen=True)
class Setting:
    """What is put in for a descriptor: key, k, strategy and blend as `RetrievalAugmentation` explains them.

    >>> Setting.named("centred").control("gaussian")
    Setting(key='centred', k=16, strategy='gaussian', blend=False)
    >>> Setting("centred", 16, "gaussian").name
    'centred-gaussian'

    Raises ValueError for an unknown key or strategy.
    """

    key: str = "raw"
    k: int = 1
    strategy: str = "nearest"
    blend: bool = False

    def __post_init__(self) -> None:
        if self.key not in KEYS:
            raise ValueError(f"unknown key '{self.key}'; choose one of {', '.join(KEYS)}")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy '{self.strategy}'; choose one of {', '.join(STRATEGIES)}")

    @classmethod
    def named(cls, name: str) -> Setting:
        """One of `SETTINGS`, such as "paper", "centred" or "centred-gaussian". ValueError for another
        name."""
        if name not in SETTINGS:
            raise ValueError(f"unknown setting '{name}'; choose one of {', '.join(SETTINGS)}")
        return SETTINGS[name]

    def control(self, strategy: str) -> Setting:
        """The setting that controls this one: its key, k and blend, with one of `CONTROLS`. ValueError for
        another strategy."""
        if strategy not in CONTROLS:
            raise ValueError(f"unknown control '{strategy}'; choose one of {', '.join(CONTROLS)}")
        return replace(self, strategy=strategy)

    @property
    def name(self) -> str:
        """Its name in `SETTINGS`. ValueError for one that has none."""
        for name, setting in SETTINGS.items():
            if setting == self:
                return name
        raise ValueError(f"{self} has no name; settings with one are {', '.join(SETTINGS)}")


def with_controls(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """These settings by name, and after them every control of each, as "NAME-CONTROL".

    >>> sorted(with_controls({"mine": Setting("centred", k=4)}))
    ['mine', 'mine-gaussian', 'mine-mean_shift', 'mine-random', 'mine-residual']
    """
    controls = {
        f"{name}-{control}": setting.control(control)
        for name, setting in settings.items()
        for control in CONTROLS
    }
    return {**settings, **controls}


# The k = 1 of "paper" is our reading of its nearest neighbour; k = 16, centred and weighted keys, and
# blending are ours.
SETTINGS = with_controls(
    {
        "paper": Setting("raw", k=1),
        "paper-k16": Setting("raw", k=16),
        "centred": Setting("centred", k=16),
        "weighted": Setting("weighted", k=16),
        "blended": Setting("centred", k=16, blend=True),
    }
)
