"""The steps of ``scripts/bootstrap.py``; the standard library only."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess

from .console import Failure, say
from .environment import VENV, install, python
from .place import ROOT, check_place

__all__ = ["main"]


def demo(env: dict[str, str], arguments: list[str]) -> int:
    image = ROOT / "examples" / "images" / "coffee.png"
    command = [str(VENV / "bin" / "dlk"), "classify", str(image), *arguments]
    say(" ".join(command))
    code = subprocess.run(command, env={**os.environ, **env}).returncode
    if code == 0:
        activate = VENV.relative_to(ROOT) / "bin" / "activate"
        say(f"more: `source {activate}`, then `dlk --help`")
    return code


def test(env: dict[str, str], arguments: list[str]) -> int:
    return subprocess.run(
        [python(), str(ROOT / "scripts" / "run_tests.py"), *arguments],
        env={**os.environ, "DLK_REQUIRE": "opencl,vulkan", **env}, cwd=ROOT,
    ).returncode  # fmt: skip


def main(description: str) -> int:
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
        epilog="Further arguments go to `dlk classify` (demo) or scripts/run_tests.py (test).",
    )
    parser.add_argument("what", choices=("demo", "test", "build"))
    chosen, rest = parser.parse_known_args()
    if chosen.what == "build" and rest:
        parser.error(f"build takes no further arguments: {' '.join(rest)}")
    try:
        check_place(chosen.what == "test")
        env = install(chosen.what == "test")
        if chosen.what == "demo":
            return demo(env, rest)
        return test(env, rest) if chosen.what == "test" else 0
    except Failure as failure:
        say(str(failure))
    except OSError as error:
        hint = "; free some space, then run this again" if error.errno == errno.ENOSPC else ""
        say(f"{error.filename or 'the file system'}: {error.strerror}{hint}")
    except KeyboardInterrupt:
        say("stopped; run this again to go on from here")
        return 130
    return 1
