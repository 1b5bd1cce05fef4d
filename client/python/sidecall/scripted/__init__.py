"""A model server that answers from a script, for demonstrations and tests."""

from sidecall.scripted.script import ModelRequest, Reply, ScriptedCall, ScriptedTurn
from sidecall.scripted.server import ScriptedModel

__all__ = ["ModelRequest", "Reply", "ScriptedCall", "ScriptedModel", "ScriptedTurn"]
