from typing import Any

from sidecall.scripted import ModelRequest, ScriptedTurn
from sidecall_server.demo.conversation import reply


def request(*contents: str) -> ModelRequest:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "?"}]
    messages += [{"role": "tool", "content": content} for content in contents]
    return ModelRequest("/v1/chat/completions", {"messages": messages}, 0)


def test_turns_follow_from_the_results_so_far() -> None:
    first = reply(request())
    second = reply(request(*["{}"] * len(first.calls)))
    last = reply(request(*["{}"] * (len(first.calls) + len(second.calls))))
    assert (len(first.calls), len(second.calls), len(last.calls)) == (5, 4, 0)


def test_a_new_question_begins_anew() -> None:
    asked_again = request(*["{}"] * 9)
    asked_again.body["messages"].append({"role": "user", "content": "and now?"})
    assert len(reply(asked_again).calls) == 5


def test_the_answer_is_made_of_the_results() -> None:
    results = ['{"local_time": "12:34", "temperature": 7}'] * 8 + ['{"text": "Greetings!"}']
    answer = reply(request(*results))
    assert isinstance(answer, ScriptedTurn)
    assert "12:34" in answer.text
    assert answer.text.endswith("Greetings!")


def test_failed_tools_do_not_break_the_answer() -> None:
    assert "unknown" in reply(request(*["There is no such tool."] * 8, "[1]")).text
