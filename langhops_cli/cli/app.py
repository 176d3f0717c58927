"""The command `langhops`: its subcommands, and errors told in one line with an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

from typer import Context, Exit, Option, Typer, TyperException
from typer.core import TyperGroup

from langhops_cli import __version__
from langhops_cli.cli.console import print_error, say
from langhops_cli.cli.convert import convert
from langhops_cli.cli.demo import demo
from langhops_cli.cli.doctor import doctor
from langhops_cli.cli.evaluate import evaluate
from langhops_cli.cli.export import export
from langhops_cli.cli.hierarchy import hierarchy
from langhops_cli.cli.predict import predict
from langhops_cli.cli.prepare import prepare
from langhops_cli.cli.recipe import recipe
from langhops_cli.cli.train import train_stage1, train_stage2
from langhops_cli.errors import DATA, UserError

ORDER = (
    "prepare",
    "train-stage1",
    "train-stage2",
    "eval",
    "predict",
    "demo",
    "hierarchy",
    "recipe",
    "convert",
    "export",
    "doctor",
)
"""The subcommands as the help lists them: in the order in which they are used."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Commands(TyperGroup):
    """The subcommands; whatever goes wrong in one ends in one line and an exit code, never in a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in words
        if debug:  # it may stand anywhere on the line
            words.remove("--debug")
            words.insert(0, "--debug")
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
            if code == INTERRUPTED:
                print_error("stopped by the keyboard")
        except Exception as error:
            if debug:
                traceback.print_exc()
            code = _tell(error)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order of use, any others behind them."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def _tell(error: Exception) -> int:
    """Print one line about an error; return the exit code."""
    match error:
        case UserError():
            print_error(str(error))
            return error.code
        case TyperException():
            context = getattr(error, "ctx", None)
            hint = f"; see '{context.command_path} --help'" if context else ""
            print_error(error.format_message().rstrip(".") + hint)
            return error.exit_code
        case OSError(strerror=str(reason)):
            print_error(f"{error.filename}: {reason}" if error.filename else reason)
            return DATA
        case _:
            first = (str(error).splitlines() or [""])[0]
            print_error(f"unexpected {type(error).__name__}: {first}; run it again with --debug to see where")
            return 1


app = Typer(name="langhops", cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(prepare, name="prepare")
app.command("train-stage1")(train_stage1)
app.command("train-stage2")(train_stage2)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("demo")(demo)
app.add_typer(hierarchy, name="hierarchy")
app.add_typer(recipe, name="recipe")
app.command("convert")(convert)
app.command("export")(export)
app.command("doctor")(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"langhops {__version__}")
        raise Exit


@app.callback(invoke_without_command=True)
def langhops(
    context: Context,
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Find objects and their parts in pictures, by names of your choice.

    Example: langhops predict imgs/ --vocab 'cat:head,ear,tail; person:hair,hand'
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


def main() -> None:
    """Run the command line."""
    # Without it torch's idle threads spin, and one busy core beside them slows everything down many times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="langhops")
