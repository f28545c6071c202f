"""The application: its commands, and what a person gets to see when something goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from dlk import __version__
from dlk.cli import (
    bench,
    classify,
    convert,
    devices,
    grad,
    info,
    kernels,
    pack,
    parity,
    profile,
    train,
)
from dlk.cli import run as run_command
from dlk.cli import tune as tune_command
from dlk.errors import USER_ERRORS, describe

__all__ = ["app", "run"]

app = typer.Typer(
    name="dlk",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dlk {__version__}")
        raise typer.Exit


@app.callback()
def dlk(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error comes from (any place on the line)."),
    ] = False,
) -> None:
    """Runs neural networks on any GPU through OpenCL and Vulkan."""


app.command("devices")(devices.devices)
app.command("classify")(classify.classify)
app.command("run")(run_command.run)
app.command("convert")(convert.convert)
app.command("info")(info.info)
app.command("bench")(bench.bench)
app.command("profile")(profile.profile)
app.command("tune")(tune_command.tune)
app.command("parity")(parity.parity)
app.command("kernels")(kernels.kernels)
app.command("pack")(pack.pack)
app.command("grad")(grad.grad)
app.command("train")(train.train)


def run(arguments: Sequence[str] | None = None) -> None:
    """Parses the arguments, runs the command and exits: 0, 2 for an error, 1 for a bug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("DLK_DEBUG"))
    words = [word for word in words if word != "--debug"]
    try:
        app(words, prog_name="dlk")
    except BrokenPipeError:  # `dlk info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, USER_ERRORS)
        hint = "" if known else " (this is a bug in dlk: --debug shows where)"
        print(f"dlk: {describe(error)}{hint}", file=sys.stderr)
        sys.exit(2 if known else 1)
