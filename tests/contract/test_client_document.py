"""What docs/writing-a-client.md tells is all there is, and true."""

import re

from tests.support.document import PATH, TEXT, quoted, table

from sidecall._rpc_errors import REJECTIONS
from sidecall._tool_formats import ToolNames
from sidecall_server.core.outcome import Reason
from sidecall_server.core.rejection import RejectionReason

_OF_HOSTS = {"TOOL_NAME_TAKEN", "TOO_MANY_HOSTS", "HOST_SILENT"}
_REASON = re.compile(r"[A-Z_]+")


def _reasons(cell: str) -> list[str]:
    return [name for name in quoted(cell) if _REASON.fullmatch(name)]


def test_all_reasons_of_refusals_are_told() -> None:
    rows = table("the RPC ended with")
    not_started = [name for row in rows if row[1] == "no" for name in _reasons(row[0])]
    assert sorted(not_started) == sorted(REJECTIONS)
    told = {name for row in rows for name in _reasons(row[0])}
    assert {reason.name for reason in RejectionReason} - _OF_HOSTS <= told


def test_all_reasons_of_results_are_told() -> None:
    told = [name for row in table("reason of a result") for name in _reasons(row[0])]
    assert sorted(told) == sorted(reason.name for reason in Reason)


def test_names_are_mapped_as_said() -> None:
    rows = table("tools")
    assert rows
    for tools, provider in rows:
        mapping = ToolNames(quoted(tools))
        assert [mapping.to_provider(name) for name in quoted(tools)] == quoted(provider)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PATH.parent / link).exists()] == []
