"""The commands of `profiler`, one file each."""

from __future__ import annotations

import importlib

import typer

COMMANDS = (
    "spaces", "devices", "collect", "table", "train", "import-ofa", "sample", "fit", "predict", "search", "finetune", "export", "verify",
    "report", "run",
)  # fmt: skip
GROUPS = ("table", "fit")

app = typer.Typer(
    name="profiler",
    help="Find the image network that keeps a latency budget on a device you own, and prove on the device that it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"profiler (elastic-latency) {version('elastic-latency')}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit.")) -> None:
    """Nothing to do before a command."""


for _name in COMMANDS:
    _module = importlib.import_module(f"profiler.cli.{_name.replace('-', '_')}")
    if _name in GROUPS:
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name)(_module.command)
