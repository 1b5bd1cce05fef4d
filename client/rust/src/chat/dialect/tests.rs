use super::*;
use crate::chat::{chat_completions::ChatCompletions, model::StoppedReason, responses::Responses};
use serde_json::{Map, json};

const SETTINGS_MODEL: &str = "m";

fn dialects() -> [Box<dyn Dialect>; 2] {
    [Box::new(ChatCompletions), Box::new(Responses)]
}

fn request(dialect: &dyn Dialect, history: &[Value], hint: &str, extra: &Value) -> Value {
    let no_members = Map::new();
    let settings = Settings {
        model: SETTINGS_MODEL,
        stream: true,
        hint,
        extra: extra.as_object().unwrap_or(&no_members),
    };
    dialect.request(history, &[], &ToolNames::default(), &settings)
}

/// Values of every kind, bare and as members of a chunk.
fn odd_values() -> Vec<Value> {
    let bare = [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!([null, 7]),
        json!({}),
    ];
    let mut values = bare.to_vec();
    for value in bare {
        for kind in [
            "response.output_item.added",
            "response.output_item.done",
            "response.completed",
        ] {
            values.push(json!({
                "type": kind, "item": value, "response": value, "output": value, "status": value,
                "choices": [{"message": value, "delta": value}],
            }));
        }
        values.push(json!({"choices": value, "output": [value], "error": value}));
        values.push(json!({"choices": [value]}));
        let calls =
            json!({"role": "assistant", "tool_calls": [value], "content": value, "audio": value});
        values.push(
            json!({"choices": [{"message": calls, "delta": calls, "finish_reason": "stop"}]}),
        );
        values.push(calls);
    }
    values
}

#[test]
fn nothing_that_a_provider_says_panics() {
    for dialect in dialects() {
        let mut assembler = dialect.assembler();
        for value in odd_values() {
            let _ = assembler.feed(&value);
            if let Ok(mut turn) = dialect.parse(value.clone()) {
                dialect.set_call_ids(&mut turn.items, &["a", "b"]);
            }
            let history = [value];
            dialect.call_ids(&history);
            dialect.open_calls(&history);
            request(dialect.as_ref(), &history, "hint", &json!({}));
        }
        let _ = assembler.finish();
    }
}

#[test]
fn the_hint_joins_what_instructs_already() {
    let system = json!({"role": "developer", "content": [{"type": "text", "text": "a"}]});
    let sent = request(&ChatCompletions, &[system], "hint", &json!({}));
    let content = &sent["messages"][0]["content"];
    assert_eq!(
        *content,
        json!([{"type": "text", "text": "a"}, {"type": "text", "text": "hint"}])
    );
    let sent = request(
        &ChatCompletions,
        &[],
        "hint",
        &json!({"tools": [{"type": "x"}]}),
    );
    assert_eq!(
        sent["messages"][0],
        json!({"role": "system", "content": "hint"})
    );
    assert_eq!(sent["tools"], json!([{"type": "x"}]));
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    let sent = request(&Responses, &[], "hint", &json!({"instructions": "a"}));
    assert_eq!(sent["instructions"], "a\n\nhint");
}

#[test]
fn a_turn_is_read_from_a_whole_answer() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": null}});
    let message = json!({"role": "assistant", "content": "", "refusal": null, "annotations": [], "tool_calls": [call]});
    let answer = json!({
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    });
    let turn = ChatCompletions.parse(answer).unwrap();
    assert_eq!(turn.end, StoppedReason::Completed);
    assert_eq!(turn.calls[0].arguments, "");
    assert_eq!(turn.usage.total_tokens(), 7);
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}});
    let item = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    assert_eq!(turn.items, [item]);
}

#[test]
fn an_answer_that_was_cut_off_says_so() {
    let text = json!({"type": "message", "content": [{"type": "output_text", "text": "Hm"}]});
    let answer = json!({
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [text, {"type": "reasoning", "summary": null}],
    });
    let turn = Responses.parse(answer).unwrap();
    assert_eq!(
        (turn.end, turn.text.as_str()),
        (StoppedReason::Length, "Hm")
    );
    assert_eq!(turn.items, [text]);
    let failed = json!({"status": "failed", "error": {"message": "no"}});
    assert!(Responses.parse(failed).is_err());
}
