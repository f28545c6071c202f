"""What the person at the terminal sees: lines, and a bar for each long step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["Failure", "run", "say"]

WIDTH = 24


class Failure(RuntimeError):
    """Something the user can act on; printed without a traceback."""


def say(text: str) -> None:
    print(f"dlk: {text}", file=sys.stderr, flush=True)


class Stage:
    """A line on stderr that shows what is going on, how far it is and for how long."""

    def __init__(self, title: str) -> None:
        self.title, self.start, self.live = title, time.monotonic(), sys.stderr.isatty()
        self.done = self.total = 0
        self.detail = ""
        self._over = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)
        if self.live:
            self._painter.start()

    def update(self, done: int, total: int, detail: str = "") -> None:
        """`total` 0: how much there is to do is not known."""
        self.done, self.total, self.detail = done, total, detail

    def _paint(self) -> None:
        while not self._over.wait(0.2):
            elapsed = time.monotonic() - self.start
            if self.total:
                filled = WIDTH * self.done // self.total
                bar, count = "#" * filled + "-" * (WIDTH - filled), f" {self.done}/{self.total}"
            else:
                at = int(elapsed * 5) % (WIDTH - 3)
                bar, count = ("-" * at + "###").ljust(WIDTH, "-"), ""
            line = f"{self.title} [{bar}]{count} {elapsed:.0f} s  {self.detail}"
            columns = min(os.get_terminal_size(sys.stderr.fileno()).columns, 120) - 1
            print("\r" + line[:columns].ljust(columns), end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        self._over.set()
        if self.live:
            self._painter.join()
            print("\r\033[K", end="", file=sys.stderr)
        say(f"{self.title}: {time.monotonic() - self.start:.0f} s")


def run(command: list[str], title: str, log: Path, env: dict[str, str] | None = None) -> None:
    """Runs a command with a bar from its ``[n/m]`` lines; its output goes to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    with log.open("a", buffering=1, encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        stage = Stage(title)
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env={**os.environ, **(env or {})}, errors="replace", stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                tail = [*tail[-30:], line.rstrip()]
                found = re.match(r"\s*\[(\d+)/(\d+)\]", line)
                if found:
                    stage.update(int(found[1]), int(found[2]))
                elif not stage.total or stage.done == stage.total:
                    stage.update(0, 0, line.strip())
            code = process.wait()
        finally:
            stage.finish()
    if code:
        raise Failure(f"{title} failed (exit {code}); the end of {log}:\n" + "\n".join(tail))
