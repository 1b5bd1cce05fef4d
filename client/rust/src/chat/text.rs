//! Texts that answer a call which has no result.

use std::fmt::Write as _;

use crate::RpcError;

pub(crate) const PENDING: &str = "CANCELLED: the conversation went on before this call had a \
     result. It may have taken effect; check before you call it again.";
pub(crate) const NOT_RUN_LENGTH: &str = "NOT RUN: the answer that made this call was cut off at \
     the output limit. None of its calls has taken effect.";
pub(crate) const NOT_RUN_FILTER: &str = "NOT RUN: the answer that made this call was stopped by \
     a content filter. None of its calls has taken effect.";
pub(crate) const APPROVAL_LOST: &str = "NOT RUN: a human decided on this call, but too late: the \
     tools no longer know the question. Make the call again if it is still wanted.";
pub(crate) const NOT_SUPPORTED: &str = "NOT RUN: only function tools can be called here.";
pub(crate) const NO_RECIPIENT: &str =
    "NOT RUN: each entry of tool_uses needs the name of a tool as recipient_name.";

const MAX_NAMES: usize = 20;

/// Says that a tool was called that the chat does not offer.
pub(crate) fn not_offered(name: &str, offered: &[&str]) -> String {
    let shown = &offered[..offered.len().min(MAX_NAMES)];
    let more = if offered.len() > MAX_NAMES {
        ", ..."
    } else {
        ""
    };
    format!(
        "NOT RUN: there is no tool {}. The tools are: {}{more}.",
        repr(name),
        shown.join(", ")
    )
}

/// Says that a whole batch has no results.
pub(crate) fn failed(error: &RpcError) -> String {
    if error.not_started() {
        return format!("NOT RUN: the tools cannot be reached at present ({error}).");
    }
    format!(
        "UNKNOWN: the connection to the tools failed ({error}). This call may have taken \
         effect; check before you call it again."
    )
}

/// A text in quotes, with escapes for what is not printable: as all clients write it, since
/// histories are the same in all languages.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut written = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            _ if character == quote || character == '\\' => written.extend(['\\', character]),
            _ if is_printable(character) => written.push(character),
            _ => push_escape(&mut written, character.into()),
        }
    }
    written.push(quote);
    written
}

fn push_escape(written: &mut String, code: u32) {
    let _ = match code {
        0..=0xff => write!(written, "\\x{code:02x}"),
        0x100..=0xffff => write!(written, "\\u{code:04x}"),
        _ => write!(written, "\\U{code:08x}"),
    };
}

fn is_printable(character: char) -> bool {
    let escaped = |character: char| character.escape_debug().len() > 1;
    // escape_debug also escapes quotes, and marks that belong to the character before them.
    matches!(character, ' ' | '"' | '\'')
        || (!(character.is_whitespace() || character.is_control())
            && (!escaped(character) || is_mark(character)))
}

fn is_mark(character: char) -> bool {
    let after_another: String = format!("a{character}").escape_debug().collect();
    after_another.chars().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_alike_everywhere() {
        assert_eq!(repr("get"), "'get'");
        assert_eq!(repr("it's"), "\"it's\"");
        assert_eq!(repr("it's \"odd\""), "'it\\'s \"odd\"'");
        assert_eq!(repr("a\\b\n\0\u{7f}"), "'a\\\\b\\n\\x00\\x7f'");
        assert_eq!(repr("é\u{301}\u{200b}\u{a0}😀"), "'é\u{301}\\u200b\\xa0😀'");
    }

    #[test]
    fn only_the_first_names_are_listed() {
        let names: Vec<String> = (0..21).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(not_offered("x", &names).ends_with("18, 19, ...."));
        assert!(not_offered("x", &names[..2]).ends_with("The tools are: 0, 1."));
    }

    #[test]
    fn a_failed_batch_says_whether_it_may_have_run() {
        let error = RpcError::new(tonic::Code::Unavailable, "gone");
        assert!(failed(&error).starts_with("UNKNOWN:"));
        assert!(failed(&error.before_sending()).starts_with("NOT RUN:"));
    }
}
