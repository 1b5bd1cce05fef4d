"""What the README shows is what happens."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from tests.support.sidecar import SidecarProcess

from sidecall._policy import POLICY_KEYS
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedModel, ScriptedTurn
from sidecall_server.config import Settings
from sidecall_server.core.defaults import Limits

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TOOLS, CALLS, CHAT, HOST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(OUTPUT,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
_LONGEST_S = 100
_APPLE = '{"product": "apple"}'


@pytest.fixture
def endpoint(start_process: Callable[..., SidecarProcess], folder: Path) -> str:
    """A sidecar that serves the README's tools."""
    path = folder / "shop_tools.py"
    path.write_text(TOOLS, encoding="utf-8")
    return start_process("unix", tools=path).address


def run(arguments: list[str], **more: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    done = subprocess.run(  # noqa: S603  the README's own code
        arguments,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_S,
        env={**kept, "NO_PROXY": "127.0.0.1", **more},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_batch_gives_what_the_readme_says(endpoint: str) -> None:
    assert run([sys.executable, "-c", CALLS], SIDECALL_ENDPOINT=endpoint) == OUTPUT


async def test_the_chat_loop_answers(endpoint: str) -> None:
    def answer(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"Together {request.results()[-1]} euros.")

    prices = ["$ref:@1#/price", "$ref:@2#/price"]
    calls = [
        ScriptedCall("get_price", {"product": "apple"}),
        ScriptedCall("get_price", {"product": "pear"}),
        ScriptedCall("add_up", {"prices": prices}),
    ]
    async with ScriptedModel([ScriptedTurn(calls=calls), answer]) as model:
        printed = await asyncio.to_thread(
            run,
            [sys.executable, "-c", CHAT],
            SIDECALL_ENDPOINT=endpoint,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=model.base_url,
        )
    assert printed == "Together 1.0 euros.\n"


def test_the_application_offers_its_function(endpoint: str) -> None:
    environment = {**os.environ, "SIDECALL_ENDPOINT": endpoint}
    with subprocess.Popen([sys.executable, "-c", HOST], env=environment) as host:  # noqa: S603
        try:
            shown = ""
            deadline = time.monotonic() + _LONGEST_S
            while shown != "12\n" and time.monotonic() < deadline:
                done = subprocess.run(  # noqa: S603  the README's own tool
                    [sys.executable, "-m", "sidecall_server", "call", "count_stock", _APPLE],
                    capture_output=True,
                    text=True,
                    check=False,
                    env=environment,
                )
                shown = done.stdout
        finally:
            host.terminate()
    assert (shown, host.returncode) == ("12\n", 0)


def test_buf_curl_calls_a_tool(start_process: Callable[..., SidecarProcess], folder: Path) -> None:
    (folder / "shop_tools.py").write_text(TOOLS, encoding="utf-8")
    address = start_process("tcp", tools=folder / "shop_tools.py").address
    (command,) = re.findall(r"^buf curl (?:.*\\\n)*.*$", README, re.MULTILINE)
    arguments = shlex.split(command.replace("\\\n", " ").replace("127.0.0.1:50071", address))
    arguments[0] = str(Path(sys.executable).with_name("buf"))
    assert r"{\"product\":\"pear\",\"price\":0.6}" in run(arguments)


def test_limits_and_their_defaults() -> None:
    table = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", README, re.MULTILINE))
    defaults: dict[str, object] = {}
    for values in (Limits(), Settings()):
        defaults |= {item.name: getattr(values, item.name) for item in fields(values)}
    assert len(table) > 10
    for option, shown in table.items():
        name = option.replace("-", "_")
        value = defaults[name] if name in defaults else f"{defaults[f'{name}_s']:g}s"
        assert shown == str(value), option


def test_the_configuration_file_is_right_and_all_keys_are_told(folder: Path) -> None:
    (config,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (folder / "shop_tools.py").write_text(TOOLS, encoding="utf-8")
    (folder / "sidecall.yaml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "sidecall_server", "check"]
    shown = run([*command, "--config", str(folder / "sidecall.yaml")])
    assert shown.endswith("ok: 2 tools, settings are right\n")
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", README, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`([a-z_]+)`", row)} == set(POLICY_KEYS)


def test_links_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (root / link).exists()] == []
