"""The Java client: it builds, its own checks pass, and its README's example runs."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.sidecar import SidecarProcess

import sidecall
from sidecall.chat import REFERENCE_HINT, SESSION_REFERENCE_HINT
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedModel, ScriptedTurn

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "client" / "java"
_LONGEST_S = 1_500
_OLDEST_JAVA = 17
_POM = {"m": "http://maven.apache.org/POM/4.0.0"}
_HINTS = """
class Hints {
  public static void main(String[] arguments) {
    System.out.print(dev.sidecall.chat.ReferenceHint.TEXT);
    System.out.print(dev.sidecall.chat.ReferenceHint.SESSION_TEXT);
  }
}
"""

_HOSTING = """
class Hosting {
  record Text(String text) {}

  public static void main(String[] arguments) throws Exception {
    var echo = dev.sidecall.host.HostedTool.builder("echo", "Returns a text.")
        .function(Text.class, (in, call) -> in.text());
    try (var client = dev.sidecall.SidecallClient.create();
        var host = dev.sidecall.host.ToolHost.builder(client).tool(echo).start()) {
      host.awaitAttached(java.time.Duration.ofSeconds(60));
      System.out.println(client.call("echo", "{\\"text\\": \\"hello\\"}").getContent());
    }
  }
}
"""

pytestmark = pytest.mark.timeout(_LONGEST_S)


def _run(*command: str, **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    done = subprocess.run(  # noqa: S603  the project's own commands
        command,
        cwd=PROJECT,
        env={**kept, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _why_not() -> str:
    if missing := [name for name in ("java", "javac", "mvn") if shutil.which(name) is None]:
        return f"not on the PATH: {', '.join(missing)}"
    found = re.match(r"javac (\d+)", _run("javac", "-version"))
    if found is None or int(found[1]) < _OLDEST_JAVA:
        return f"the JDK is older than {_OLDEST_JAVA}"
    return ""


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Generates, compiles with all warnings as errors, checks the format, runs the tests."""
    if why := _why_not():
        if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    _run("mvn", "-q", "-B", "verify", MAVEN_OPTS="-Xmx512m -XX:TieredStopAtLevel=1")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar without tools of its own."""
    with tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        with SidecarProcess(f"unix:{folder}/s", tmp_path / "log") as process:
            yield process
        assert process.signs_of_bugs() == []


def _java(folder: Path, name: str, source: str, without: str = "none", **environ: str) -> str:
    """Runs one source file with the client and its libraries on its class path."""
    file = folder / f"{name}.java"
    file.write_text(source, encoding="utf-8")
    listed = (PROJECT / "target" / "classpath").read_text(encoding="utf-8").strip()
    libraries = [path for path in listed.split(os.pathsep) if without not in Path(path).name]
    path = os.pathsep.join([str(PROJECT / "target" / "classes"), *libraries])
    return _run("java", "-cp", path, str(file), **environ)


def test_the_unit_tests_ran() -> None:
    reports = [ET.parse(path) for path in (PROJECT / "target/surefire-reports").glob("TEST-*.xml")]  # noqa: S314  our own build wrote them
    counts = [report.getroot().attrib for report in reports]
    assert sum(int(count["tests"]) for count in counts) > 50
    assert all(count[kind] == "0" for count in counts for kind in ("failures", "errors", "skipped"))


async def test_the_readme_chats(sidecar: SidecarProcess, tmp_path: Path) -> None:
    (source,) = re.findall(
        r"```java\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )

    def answer(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"I know: {request.results()}")

    calls = [ScriptedCall("get_fruit_price", {"name": name}) for name in ("apple", "pear")]
    async with ScriptedModel([ScriptedTurn(calls=calls), answer]) as model:
        printed = await asyncio.to_thread(
            _java,
            tmp_path,
            "Example",
            source,
            SIDECALL_ENDPOINT=sidecar.address,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=model.base_url,
        )
    assert printed == "I know: ['0.4', '0.6']\n"


def test_all_but_the_chat_loop_needs_no_provider(sidecar: SidecarProcess, tmp_path: Path) -> None:
    environ = {"SIDECALL_ENDPOINT": sidecar.address}
    assert _java(tmp_path, "Hosting", _HOSTING, without="openai", **environ) == "hello\n"


def test_the_model_is_told_the_same_about_references(tmp_path: Path) -> None:
    assert _java(tmp_path, "Hints", _HINTS) == REFERENCE_HINT + SESSION_REFERENCE_HINT


def test_it_could_be_published() -> None:
    pom = ET.parse(PROJECT / "pom.xml").getroot()  # noqa: S314  our own file

    def text(path: str) -> str | None:
        return pom.findtext(path, namespaces=_POM)

    assert text("m:version") == sidecall.__version__
    assert (text("m:groupId"), text("m:artifactId")) == ("dev.sidecall", "sidecall")
    assert text("m:licenses/m:license/m:name") == "Apache-2.0"
    assert text("m:description")
    assert (PROJECT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for kind in ("repositories", "pluginRepositories", "distributionManagement"):
        assert pom.find(f"m:{kind}", _POM) is None


def test_each_plugin_and_dependency_has_a_version() -> None:
    pom = ET.parse(PROJECT / "pom.xml").getroot()  # noqa: S314  our own file
    found = [*pom.iterfind(".//m:dependency", _POM), *pom.iterfind(".//m:plugin", _POM)]
    assert found
    assert [
        each.findtext("m:artifactId", None, _POM)
        for each in found
        if each.find("m:version", _POM) is None
    ] == []
