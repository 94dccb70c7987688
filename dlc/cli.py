"""The command line: finds the commands, and turns the user's mistakes into messages and exit statuses.

Exit status: 0, 1 for a mistake in the user's files or data, 2 for wrong usage, 130 after Ctrl-C. With `--json` the last
line of standard output is one object. Each command is a module of `dlc.commands`, imported when it is called for.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import pkgutil
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import rich_click as click

import dlc
from dlc import commands
from dlc.commands.options import emit_json


class Commands(click.RichGroup):
    """The modules of `dlc.commands` that hold a `command`, by their names (`import_` is `import`, `lr_find` is `lr-find`)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, sorted."""
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is no such."""
        names = _modules()
        if cmd_name not in names:
            return None
        found = importlib.import_module(f"dlc.commands.{names[cmd_name]}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with. Raises UsageError, with the nearest name, where there is none."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            nearest = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


def _modules() -> dict[str, str]:
    """The commands' modules by the commands' names."""
    found = [m.name for m in pkgutil.iter_modules(commands.__path__) if m.name != "options"]
    return {name.rstrip("_").replace("_", "-"): name for name in found}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dlc.__version__, prog_name="dlc")
def program() -> None:
    """Describe a neural network and its training in one text file; compile it; run it."""


def _show_warning(otherwise: Callable[..., None], shown: list[Any], message: Any, *rest: Any, **more: Any) -> None:
    """Prints a warning about a spec as it prints mistakes, and keeps it in `shown` for `--json`."""
    diagnostic = getattr(message, "diagnostic", None)
    if diagnostic is None:
        otherwise(message, *rest, **more)
        return
    click.echo(f"{diagnostic.render()}\n", err=True)
    shown.append(diagnostic)


def main() -> None:
    """The command `dlc`: turns the user's mistakes into messages and exit statuses."""
    gc.set_threshold(50_000)  # a command makes little garbage: looking for it often takes a tenth of its time
    shown: list[Any] = []
    warnings.showwarning = partial(_show_warning, warnings.showwarning, shown)
    try:
        program.main(standalone_mode=False, obj=shown)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nothing is left to say, also not at interpreter exit
        sys.exit(1)
    except (dlc.DlcError, dlc.RuntimeFault) as error:
        click.echo(str(error), err=True)
        if "--json" in sys.argv:
            from dlc import report

            emit_json({"diagnostics": report.diagnostics(error)})
        sys.exit(getattr(error, "status", 1))  # training that Ctrl-C stopped has one of its own
    except MemoryError as error:
        click.echo(f"error: not enough memory: {error or 'the machine has no more'}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
