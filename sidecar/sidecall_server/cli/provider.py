"""Which model answers: a provider's, or the scripted one."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import click

from sidecall.chat import ModelError
from sidecall_server.cli.errors import RefusedError, SettingsError
from sidecall_server.demo.conversation import reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_F = TypeVar("_F", bound=Callable[..., Any])
_DEFAULT_MODEL = "gpt-5.4-mini"
_SCRIPTED_TURNS = 1_000

Api = Literal["chat_completions", "responses"]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What was chosen on the command line.

    Attributes:
        api: The provider's API to speak.
        model: Name of the model; None for the default.
        api_key: Key of the provider; None for none.
        base_url: URL of a provider that speaks the same API; None for OpenAI's.
        scripted: Whether the scripted model answers.
    """

    api: Api
    model: str | None
    api_key: str | None
    base_url: str | None
    scripted: bool

    def __post_init__(self) -> None:
        """Checks them.

        Raises:
            SettingsError: The key or the URL cannot be sent to anybody.
        """
        key, url = self.api_key or "", self.base_url
        if not (key.isascii() and key.isprintable()):
            raise SettingsError("--api-key (OPENAI_API_KEY): has characters that no key has")
        if url and not _is_url(url):
            raise SettingsError(f"--base-url (OPENAI_BASE_URL): {url!r} is no http(s) URL")

    @property
    def has_provider(self) -> bool:
        """Whether there is a provider to ask."""
        return bool(self.api_key or self.base_url)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Model:
    """A model to talk to.

    Attributes:
        client: Client of the provider.
        name: Name of the model.
        described: Where it is, for people.
    """

    client: "AsyncOpenAI"
    name: str
    described: str


def model_options(function: _F) -> _F:
    """Adds the options of `ModelChoice`."""
    options = (
        click.option(
            "--api",
            type=click.Choice(["chat_completions", "responses"]),
            default="chat_completions",
            show_default=True,
            help="The provider's API to speak.",
        ),
        click.option(
            "--model",
            envvar="SIDECALL_MODEL",
            show_envvar=True,
            help=f"Name of the model.  [default: {_DEFAULT_MODEL}]",
        ),
        click.option("--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="Its key."),
        click.option(
            "--base-url",
            envvar="OPENAI_BASE_URL",
            show_envvar=True,
            help="URL of another provider that speaks this API.",
        ),
        click.option(
            "--scripted",
            is_flag=True,
            help="Let a scripted model on loopback answer. It needs no key and plays the "
            "demonstration's conversation, whatever it is asked.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@asynccontextmanager
async def open_model(choice: ModelChoice) -> AsyncIterator[Model]:
    """A model that can be asked inside the block.

    Raises:
        SettingsError: The openai package is not installed.
    """
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415  an extra, and slow
    except ModuleNotFoundError:
        raise SettingsError("this needs the extra: pip install 'sidecall[server,openai]'") from None
    from sidecall.scripted import ScriptedModel  # noqa: PLC0415  only where it answers

    async with AsyncExitStack() as stack:
        if not choice.scripted:
            client = AsyncOpenAI(api_key=choice.api_key or "none", base_url=choice.base_url)
            await stack.enter_async_context(client)
            name = choice.model or _DEFAULT_MODEL
            yield Model(client, name, f"{name} at {client.base_url}")
            return
        server = await stack.enter_async_context(ScriptedModel([reply] * _SCRIPTED_TURNS))
        client = AsyncOpenAI(
            api_key="scripted",
            base_url=server.base_url,
            # A proxy that the environment names does not lead to loopback.
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        )
        await stack.enter_async_context(client)
        yield Model(client, server.model, f"scripted, speaking the same HTTP at {server.base_url}")


@contextmanager
def model_errors_explained() -> Iterator[None]:
    """Turns errors of the model into one line and an exit code.

    Raises:
        RefusedError: It cannot be reached, refused a request, or its answer broke off.
    """
    from openai import APIConnectionError, OpenAIError  # noqa: PLC0415  an extra, and slow

    try:
        yield
    except APIConnectionError as error:
        why = (str(error.__cause__ or "") or str(error)).rstrip(".")
        raise RefusedError(f"the model gave no answer: {error.request.url}: {why}") from error
    except (OpenAIError, ModelError) as error:
        raise RefusedError(f"the model gave no answer: {error}") from error
