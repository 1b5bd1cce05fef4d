use super::*;
use crate::{
    ToolNames,
    chat::{chat_completions::ChatCompletions, model::ModelCall, responses::Responses},
    v1::{Blob, ResultPart, result_part::Part},
};
use serde_json::json;

fn calls(names: &ToolNames) -> TurnCalls<'_> {
    let mut calls = TurnCalls::new(names, 1, Vec::new(), false);
    for id in ["a", "b"] {
        calls.add(ModelCall {
            call_id: id.into(),
            name: "draw".into(),
            ..ModelCall::default()
        });
    }
    calls
}

fn turn() -> ModelTurn {
    let call = |id: &str| json!({"id": id, "type": "function"});
    ModelTurn {
        items: vec![json!({"role": "assistant", "tool_calls": [call("a"), call("b")]})],
        ..ModelTurn::default()
    }
}

fn result(content: &str) -> ToolResult {
    ToolResult {
        content: content.into(),
        ..ToolResult::default()
    }
}

fn picture() -> ToolResult {
    let blob = Blob {
        media_type: "image/png".into(),
        data: b"\x89PNG\r\n\x1a\n".to_vec(),
        name: String::new(),
    };
    ToolResult {
        parts: vec![ResultPart {
            part: Some(Part::Blob(blob)),
        }],
        ..result("a dot")
    }
}

fn contents(history: &[Value]) -> Vec<&str> {
    history
        .iter()
        .filter_map(|item| item["content"].as_str())
        .collect()
}

#[test]
fn every_call_is_answered_from_the_first_moment() {
    let names = ToolNames::default();
    let calls = calls(&names);
    let mut history = vec![json!({"role": "user", "content": "Go."})];
    let mut record = TurnRecord::new(
        &mut history,
        &ChatCompletions,
        turn(),
        &calls,
        Attachments::Shown,
    );
    record.add_result(1, result("two"));
    record.fail("failed");
    record.reopen(&[1]);
    drop(record);
    assert_eq!(contents(&history), ["Go.", "failed", text::PENDING]);
}

#[test]
fn pictures_follow_all_answers_and_go_with_their_call() {
    let names = ToolNames::default();
    let calls = calls(&names);
    let mut history = Vec::new();
    let mut record = TurnRecord::new(
        &mut history,
        &ChatCompletions,
        turn(),
        &calls,
        Attachments::Shown,
    );
    record.add_result(1, picture());
    record.add_result(0, picture());
    assert_eq!(record.history.len(), 4);
    assert_eq!(record.history[3]["content"].as_array().unwrap().len(), 5);
    record.reopen(&[0]);
    assert_eq!(record.history[3]["content"].as_array().unwrap().len(), 3);
    record.reopen(&[1]);
    assert_eq!(record.history.len(), 3);
}

#[test]
fn calls_of_a_given_history_are_answered() {
    let call = |id: &str| json!({"id": id, "type": "function"});
    let mut history = vec![
        json!({"role": "assistant", "tool_calls": [call("a"), call("b")]}),
        json!({"role": "tool", "tool_call_id": "b", "content": "two"}),
        json!({"role": "user", "content": "Well?"}),
    ];
    answer_open_calls(&mut history, &ChatCompletions);
    assert_eq!(contents(&history), ["two", text::PENDING, "Well?"]);
    let mut items = vec![
        json!({"type": "custom_tool_call", "call_id": "a"}),
        json!({"type": "function_call", "call_id": "b"}),
        json!({"type": "function_call_output", "call_id": "b", "output": "two"}),
    ];
    answer_open_calls(&mut items, &Responses);
    assert_eq!(items[1]["type"], "custom_tool_call_output");
    assert_eq!(items.len(), 4);
}
