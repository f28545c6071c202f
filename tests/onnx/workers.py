"""Backend tests in worker processes: a driver that takes its process down fails one test only."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

TIMEOUT_S = 300.0  # of one test: the light networks on a CPU driver


@dataclass(frozen=True)
class Outcome:
    """One test: the reason is "" where it passed."""

    name: str
    reason: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.reason


def reason_of(error: BaseException) -> str:
    """One line that says why a test failed."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def _serve(device_id: str, connection: Connection) -> None:
    from .backend import tests_of

    tests = tests_of(device_id)
    while (name := connection.recv()) is not None:
        try:
            tests[name][1](None)
        except BaseException as error:  # any failure is an outcome
            connection.send(reason_of(error))
        else:
            connection.send("")


class _Worker:
    def __init__(self, context: Any, device_id: str) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(device_id, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.name, self.started = "", 0.0

    def give(self, name: str) -> None:
        self.name, self.started = name, time.monotonic()
        self.connection.send(name)

    def outcome(self, reason: str) -> Outcome:
        return Outcome(self.name, reason, round(time.monotonic() - self.started, 2))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_all(device_id: str, names: list[str], workers: int) -> list[Outcome]:
    """Every test once, in the order of `names`."""
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(names))
    outcomes: dict[str, Outcome] = {}
    busy: list[_Worker] = []

    def start(worker: _Worker | None) -> None:
        if not waiting:
            if worker:
                worker.end()
            return
        worker = worker or _Worker(context, device_id)
        worker.give(waiting.pop())
        busy.append(worker)

    for _ in range(min(workers, len(names))):
        start(None)
    while busy:
        ready = wait([w.connection for w in busy], timeout=5)
        for worker in list(busy):
            if worker.connection in ready:
                busy.remove(worker)
                try:
                    outcome = worker.outcome(worker.connection.recv())
                    alive = True
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    outcome = worker.outcome(f"the process died ({worker.process.exitcode})")
                    alive = False
            elif time.monotonic() - worker.started > TIMEOUT_S:
                busy.remove(worker)
                outcome, alive = worker.outcome(f"no result after {TIMEOUT_S:.0f} s"), False
            else:
                continue
            outcomes[outcome.name] = outcome
            if not alive:
                worker.end()
            start(worker if alive else None)
    return [outcomes[name] for name in names]
