"""Files appear whole or not at all; messages are for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from dlk import _progress
from dlk._atomic import atomic_path, write_text
from dlk.errors import describe


def test_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_impossible_targets(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "no" / "file"):
        pass
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("wrong\n  because"), "wrong because"),
        (FileNotFoundError(2, "No such file", "x"), "x: No such file"),
        (KeyError("name"), "name"),
        (ValueError(), "ValueError"),
    ],
)
def test_descriptions(error: Exception, text: str) -> None:
    assert describe(error) == text
    assert "memory" in describe(MemoryError())


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress.shown():
        _progress.report("work", 1, 2)
    assert capsys.readouterr() == ("", "")
