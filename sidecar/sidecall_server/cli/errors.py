"""How a command fails: one line on stderr and an exit code."""

import click

TOOL_FAILED = 1
"""A call has no OK result."""


class StartError(click.ClickException):
    """The settings are right, but the sidecar cannot start here."""

    exit_code = 1


class RefusedError(click.ClickException):
    """The sidecar was reached and refused what it was asked."""

    exit_code = 1


class SettingsError(click.ClickException):
    """A setting or a file of tools is wrong (EX_USAGE)."""

    exit_code = 64


class UnreachableError(click.ClickException):
    """No sidecar answers (EX_UNAVAILABLE)."""

    exit_code = 69
