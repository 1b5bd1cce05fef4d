//! JSON as models write it, and as conversations hold it.

use std::{borrow::Cow, fmt::Write as _};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses JSON. Lone surrogates, which a model may write and UTF-8 has no form for, become the
/// text of their escapes.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|error| match escape_lone_surrogates(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(escaped) => serde_json::from_str(&escaped),
    })
}

/// A value without the members that are null: providers refuse some that they write themselves.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn escape_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut written = String::new();
    let mut kept_to = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let start = at + found;
        let Some(unit) = code_unit(text, start) else {
            // Any other escape is one character long, "\\" included.
            let escaped = text[start + 1..].chars().next();
            at = start + 1 + escaped.map_or(0, char::len_utf8);
            continue;
        };
        at = start + 6;
        let leads = (0xd800..0xdc00).contains(&unit);
        if leads && code_unit(text, at).is_some_and(|next| (0xdc00..0xe000).contains(&next)) {
            at += 6;
        } else if (0xd800..0xe000).contains(&unit) {
            written.push_str(&text[kept_to..start]);
            let _ = write!(written, "\\\\u{unit:04x}");
            kept_to = at;
        }
    }
    if kept_to == 0 {
        return Cow::Borrowed(text);
    }
    written.push_str(&text[kept_to..]);
    Cow::Owned(written)
}

/// The code unit of an escape `\uXXXX` at a place.
fn code_unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lone_surrogates_become_text() {
        let parsed: Value = parse(r#"{"a": "x\ud83dy", "b": "\uDE00", "c": "\\ud83d"}"#).unwrap();
        assert_eq!(
            parsed,
            json!({"a": "x\\ud83dy", "b": "\\ude00", "c": "\\ud83d"})
        );
    }

    #[test]
    fn pairs_stay() {
        let text = r#"["\ud83d\ude00", "\ud83d\ud83d\ude00"]"#;
        assert_eq!(parse::<Value>(text).unwrap(), json!(["😀", "\\ud83d😀"]));
    }

    #[test]
    fn what_is_no_json_stays_an_error() {
        for text in ["{", "\"\\", "\"\\u12", "\"\\é\""] {
            assert!(parse::<Value>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nulls_go_at_any_depth() {
        let given = json!({"a": null, "b": [{"c": null, "d": 1}, null]});
        assert_eq!(without_nulls(given), json!({"b": [{"d": 1}, null]}));
    }
}
