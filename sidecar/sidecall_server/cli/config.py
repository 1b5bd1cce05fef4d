"""`sidecall config`: the schema of the configuration file, and the values in force."""

import json
from typing import Any

import click

from sidecall._loader import ToolLoadError
from sidecall_server.checking import check_tools
from sidecall_server.cli.config_text import config_lines
from sidecall_server.cli.errors import SettingsError
from sidecall_server.cli.output import stdout, tools_print_to_stderr
from sidecall_server.cli.settings import read_settings, settings_options
from sidecall_server.config import ConfigError
from sidecall_server.config.schema import config_schema


@click.group("config")
def command() -> None:
    """Show the schema of the configuration file, or the values in force."""


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration file.

    Editors complete and check the file with it: write it to a file and begin the
    configuration with `# yaml-language-server: $schema=FILE`.
    """
    click.echo(json.dumps(config_schema(), indent=2), file=stdout())


@command.command("print")
@settings_options
def print_values(**flags: Any) -> None:
    """Print the values in force, as a configuration file.

    It takes what `serve` takes. A comment says where each value comes from: a flag, a
    variable, file and line, the declaration of the tool, or the default. Secrets are
    masked. A mistake ends with exit code 64.
    """
    settings = read_settings(flags)
    try:
        with tools_print_to_stderr():
            tools = check_tools(settings)
    except (ConfigError, ToolLoadError) as error:
        raise SettingsError(str(error)) from None
    for line in config_lines(settings, tools):
        click.echo(line, file=stdout())
