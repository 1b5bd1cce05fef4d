use super::*;

fn call(call_id: &str, name: &str, arguments: &str) -> ModelCall {
    ModelCall {
        call_id: call_id.into(),
        name: name.into(),
        arguments: arguments.into(),
        unsupported: false,
    }
}

fn result(name: &str, content: &str) -> ToolResult {
    ToolResult {
        name: name.into(),
        content: content.into(),
        ..ToolResult::default()
    }
}

fn ids(calls: &TurnCalls<'_>) -> Vec<(String, String)> {
    let sent = calls.batch.iter().map(|call| call.id.clone());
    let kept = calls
        .answered
        .iter()
        .map(|answered| answered.call_id.clone());
    kept.zip(sent).collect()
}

fn pair(kept: &str, sent: &str) -> (String, String) {
    (kept.into(), sent.into())
}

#[test]
fn ids_are_minted_and_made_unique() {
    let names = ToolNames::new(["a"]);
    let long = "x".repeat(40);
    let mut calls = TurnCalls::new(&names, 3, vec!["b".into(), long.clone()], false);
    for id in ["", "b", "b", &long] {
        calls.add(call(id, "a", ""));
    }
    let cut = format!("{}_2", "x".repeat(32));
    assert_eq!(
        ids(&calls),
        [
            pair("call_3_0", "call_3_0"),
            pair("b_2", "b"),
            pair("b_3", "b"),
            pair(&cut, &long)
        ]
    );
}

#[test]
fn a_wrapper_stands_for_its_calls() {
    let names = ToolNames::new(["a.b"]);
    let mut calls = TurnCalls::new(&names, 0, Vec::new(), true);
    let uses = r#"{"tool_uses": [
        {"recipient_name": "functions.a_b", "parameters": {"n": 123456789012345678901234567890}},
        {"recipient_name": "a_b", "parameters": "{\"n\": 1}"},
        {"recipient_name": "a_b", "parameters": [ ]},
        {"recipient_name": "c"},
        {"parameters": {}},
        7]}"#;
    assert_eq!(calls.add(call("w", "multi_tool_use.parallel", uses)), 0..6);
    let sent: Vec<_> = calls
        .batch
        .iter()
        .map(|call| {
            (
                call.id.as_str(),
                call.name.as_str(),
                call.arguments.as_str(),
            )
        })
        .collect();
    assert_eq!(
        sent,
        [
            ("w_1", "a.b", r#"{"n": 123456789012345678901234567890}"#),
            ("w_2", "a.b", r#"{"n": 1}"#),
            ("w_3", "a.b", "{}"),
            ("w_4", "", ""),
            ("w_5", "", ""),
            ("w_6", "", ""),
        ]
    );
    let mut results = BTreeMap::new();
    results.insert(0, result("a.b", "one"));
    results.insert(1, result("a.b", "t\"wo"));
    assert_eq!(calls.content(&calls.answered[0], &results), None);
    results.insert(2, result("a.b", "é"));
    let content = calls.content(&calls.answered[0], &results).unwrap();
    assert!(content.starts_with(
        r#"[{"recipient_name": "a.b", "content": "one"}, {"recipient_name": "a.b", "content": "t\"wo"}, {"recipient_name": "a.b", "content": "é"}, {"recipient_name": "c", "content": "NOT RUN: there is no tool 'c'."#
    ));
}

#[test]
fn a_wrapper_that_cannot_be_read_is_one_call() {
    let names = ToolNames::default();
    for arguments in ["", "[]", r#"{"tool_uses": {}}"#, r#"[{"tool_uses": []}]"#] {
        let mut calls = TurnCalls::new(&names, 0, Vec::new(), false);
        assert_eq!(
            calls.add(call("w", "multi_tool_use_parallel", arguments)),
            0..1
        );
    }
}

#[test]
fn an_empty_wrapper_is_answered_at_once() {
    let names = ToolNames::default();
    let mut calls = TurnCalls::new(&names, 0, Vec::new(), false);
    calls.add(call("w", "multi_tool_use.parallel", r#"{"tool_uses": []}"#));
    let content = calls.content(&calls.answered[0], &BTreeMap::new());
    assert_eq!(content.as_deref(), Some("[]"));
}

#[test]
fn a_tool_that_has_a_wrapper_s_name_is_a_tool() {
    let names = ToolNames::new(["multi_tool_use.parallel"]);
    let mut calls = TurnCalls::new(&names, 0, Vec::new(), false);
    calls.add(call("w", "multi_tool_use_parallel", r#"{"tool_uses": []}"#));
    assert_eq!(calls.batch[0].name, "multi_tool_use.parallel");
}

#[test]
fn what_is_refused_keeps_its_place() {
    let names = ToolNames::new(["a"]);
    let mut calls = TurnCalls::new(&names, 0, Vec::new(), true);
    calls.add(call("1", "b", "{}"));
    let mut custom = call("2", "", "");
    custom.unsupported = true;
    calls.add(custom);
    let settled = calls.settle(0, result("", "not found"));
    assert_eq!(settled.name, "b");
    assert_eq!(
        settled.content,
        "NOT RUN: there is no tool 'b'. The tools are: a."
    );
    assert_eq!(calls.settle(1, result("", "")).content, text::NOT_SUPPORTED);
    assert_eq!(calls.settle(2, result("a", "kept")).content, "kept");
}
