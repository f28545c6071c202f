"""dlk: deep learning on any GPU."""

from dlk._core import __version__

__all__ = ["__version__"]
