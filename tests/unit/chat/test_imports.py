import subprocess
import sys


def test_the_chat_loop_imports_without_a_providers_package() -> None:
    code = "import sys; sys.modules['openai'] = None; import sidecall.chat, sidecall.scripted"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)  # noqa: S603  our own
