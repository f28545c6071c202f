"""Where weights come from and where they go, one at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dlk._atomic import atomic_path


class WeightProvider(Protocol):
    """Supplies weights (and an optimizer's state) when they are needed, and takes their updates."""

    def load(self, name: str) -> NDArray[Any]:
        """The array of that name. KeyError where there is none."""

    def purge(self, name: str) -> None:
        """The array is not needed for a while: its memory may be given back."""

    def update(self, name: str, value: NDArray[Any]) -> None:
        """A new value."""

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Keeps all values as they are now, under `path`."""


class FolderWeights:
    """Arrays in files of a folder, read as they are needed and written when they change.

    Args:
        folder: made where it is not there; a folder that holds weights goes on with them.

    Updates replace files whole: a kill leaves the old or the new value of each.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._loaded: dict[str, NDArray[Any]] = {}

    @property
    def loaded_bytes(self) -> int:
        """What is in memory at the moment."""
        return sum(a.nbytes for a in self._loaded.values())

    def load(self, name: str) -> NDArray[Any]:
        """The array of that name; it stays in memory until `purge`."""
        if name not in self._loaded:
            path = self._path(name)
            if not path.is_file():
                raise KeyError(f"{self.folder} holds no weight {name!r}")
            try:
                self._loaded[name] = np.load(path, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
        return self._loaded[name]

    def purge(self, name: str) -> None:
        """Gives the array's memory back."""
        self._loaded.pop(name, None)

    def update(self, name: str, value: NDArray[Any]) -> None:
        """Writes the array's file anew."""
        with atomic_path(self._path(name)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.ascontiguousarray(value), allow_pickle=False)
        self._loaded[name] = value

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Copies all files to the new folder `path`, which appears whole or not at all."""
        target = Path(path)
        if target.exists():
            raise FileExistsError(f"{target} exists already")
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(self.folder, partial)
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            message = f"the checkpoint was not written ({error.strerror or error})"
            raise OSError(error.errno, message, os.fspath(target)) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}.npy"


class loaded:
    """Arrays of a provider in a ``with`` block, by name; purged after it."""

    def __init__(self, provider: WeightProvider, names: Sequence[str]) -> None:
        self._provider, self._names = provider, list(names)

    def __enter__(self) -> dict[str, NDArray[Any]]:
        return {name: self._provider.load(name) for name in self._names}

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            self._provider.purge(name)


__all__ = ["FolderWeights", "WeightProvider", "loaded"]
