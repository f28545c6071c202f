"""Calling the command line from tests, and what an error has to look like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dlk.cli import main


class Outcome:
    """What a call left behind: the exit status and both streams."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> Any:
        """The only line on stdout; the call must have succeeded."""
        assert self.code == 0, self.err
        assert len(self.out.splitlines()) == 1
        return json.loads(self.out)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """Runs the command line in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return Outcome(0 if code is None else int(code), out, err)


def fails(outcome: Outcome, *words: str) -> None:
    """One line on stderr that has these words, exit status 2, nothing on stdout."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    for word in words:
        assert word in outcome.err, outcome.err
