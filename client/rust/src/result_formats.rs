//! Results in the forms that model providers take.
//!
//! A provider takes images and files beside the text of a result: in the Responses API inside the
//! call's output; in Chat Completions, whose tool messages hold text only, in a user message after
//! all tool messages of the turn. Links stay text: a provider that cannot fetch one refuses the
//! whole conversation.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    media::{bare_media_type, blob_line, extension_of, file_name, media_type_of},
    v1::{Blob, ToolResult, result_part::Part},
};

/// Begins the user message that holds attachments.
const ATTACHMENTS_NOTE: &str =
    "[Images and files of the tool results above. The user did not write this.]";

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const PDF: &str = "application/pdf";
const PDF_MARK: &[u8] = b"%PDF-";
const PDF_HEAD_BYTES: usize = 1024;
const DOCUMENTS: [&str; 10] = [
    PDF,
    "application/json",
    "application/rtf",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
];

/// Whether images and files of results are shown to the model beside their text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attachments {
    /// The model is shown them.
    #[default]
    Shown,
    /// The model reads the line that stands for each.
    Left,
}

/// Makes the messages that answer the calls of one turn in Chat Completions.
///
/// They go right after the assistant message that made the calls, and together answer all of them
/// where there is a result for each. A user message with images and PDF files follows the tool
/// messages where there are any.
#[must_use]
pub fn to_chat_completions_messages(
    results: &[ToolResult],
    attachments: Attachments,
) -> Vec<Value> {
    let mut messages: Vec<_> = results
        .iter()
        .map(|result| {
            let (id, content) = (&result.call_id, &result.content);
            json!({"role": "tool", "tool_call_id": id, "content": content})
        })
        .collect();
    if attachments == Attachments::Shown {
        let parts: Vec<_> = results
            .iter()
            .flat_map(|result| attached_parts(&result.call_id, [result]))
            .collect();
        if !parts.is_empty() {
            messages.push(attached_message(parts));
        }
    }
    messages
}

/// Makes the items that answer function calls in the Responses API.
#[must_use]
pub fn to_responses_outputs(results: &[ToolResult], attachments: Attachments) -> Vec<Value> {
    results
        .iter()
        .map(|result| {
            let shown = (attachments == Attachments::Shown).then_some(result);
            json!({
                "type": "function_call_output",
                "call_id": result.call_id,
                "output": responses_output(&result.content, shown),
            })
        })
        .collect()
}

/// The images and PDF files of a call's results as labelled parts of a user message.
///
/// Beside them it holds nothing that a tool wrote: that would speak as the user.
pub(crate) fn attached_parts<'a>(
    call_id: &str,
    results: impl IntoIterator<Item = &'a ToolResult>,
) -> Vec<Value> {
    let mut parts = Vec::new();
    for result in results {
        for part in blobs(result).filter_map(chat_completions_part) {
            let number = parts.len() / 2 + 1;
            let name = &result.name;
            let label = format!("Attachment {number} of the result of call {call_id} ({name}):");
            parts.push(json!({"type": "text", "text": label}));
            parts.push(part);
        }
    }
    parts
}

/// The user message that holds attachments.
pub(crate) fn attached_message(parts: Vec<Value>) -> Value {
    let mut content = vec![json!({"type": "text", "text": ATTACHMENTS_NOTE})];
    content.extend(parts);
    json!({"role": "user", "content": content})
}

/// The output of a call: its text, and with images or documents a list that begins so.
pub(crate) fn responses_output<'a>(
    content: &str,
    results: impl IntoIterator<Item = &'a ToolResult>,
) -> Value {
    let mut parts = vec![json!({"type": "input_text", "text": content})];
    for blob in results.into_iter().flat_map(blobs) {
        if let Some(part) = responses_part(blob) {
            let line = blob_line(&blob.media_type, blob.data.len(), &blob.name);
            parts.push(json!({"type": "input_text", "text": format!("{line}:")}));
            parts.push(part);
        }
    }
    if parts.len() == 1 {
        return content.into();
    }
    parts.into()
}

fn blobs(result: &ToolResult) -> impl Iterator<Item = &Blob> {
    result.parts.iter().filter_map(|part| match &part.part {
        Some(Part::Blob(blob)) if !blob.data.is_empty() => Some(blob),
        _ => None,
    })
}

fn chat_completions_part(blob: &Blob) -> Option<Value> {
    let media_type = shown_as(blob);
    if IMAGES.contains(&media_type.as_str()) {
        let url = data_url(&media_type, &blob.data);
        return Some(json!({"type": "image_url", "image_url": {"url": url}}));
    }
    if media_type == PDF {
        // Without the tool's own name for it, which the tool message tells.
        let (name, data) = file(&media_type, "", &blob.data);
        return Some(json!({"type": "file", "file": {"filename": name, "file_data": data}}));
    }
    None
}

fn responses_part(blob: &Blob) -> Option<Value> {
    let media_type = shown_as(blob);
    if IMAGES.contains(&media_type.as_str()) {
        let url = data_url(&media_type, &blob.data);
        return Some(json!({"type": "input_image", "image_url": url}));
    }
    if DOCUMENTS.contains(&media_type.as_str()) || media_type.starts_with("text/") {
        let (name, data) = file(&media_type, &blob.name, &blob.data);
        return Some(json!({"type": "input_file", "filename": name, "file_data": data}));
    }
    None
}

/// The media type to show bytes as; empty where they are not what they are said to be.
///
/// A provider that cannot read one image refuses the whole conversation, from then on.
fn shown_as(blob: &Blob) -> String {
    let media_type = bare_media_type(&blob.media_type);
    if IMAGES.contains(&media_type.as_str()) {
        let found = media_type_of(&blob.data);
        return if IMAGES.contains(&found) { found } else { "" }.to_owned();
    }
    if media_type == PDF {
        let head = &blob.data[..blob.data.len().min(PDF_HEAD_BYTES)];
        if !head
            .windows(PDF_MARK.len())
            .any(|window| window == PDF_MARK)
        {
            return String::new();
        }
    }
    media_type
}

fn file(media_type: &str, name: &str, data: &[u8]) -> (String, String) {
    let name = match file_name(name) {
        name if name.is_empty() => format!("file{}", extension_of(media_type)),
        name => name,
    };
    (name, data_url(media_type, data))
}

fn data_url(media_type: &str, data: &[u8]) -> String {
    format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::ResultPart;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn result(blobs: &[(&str, &[u8], &str)]) -> ToolResult {
        let parts = blobs.iter().map(|(media_type, data, name)| ResultPart {
            part: Some(Part::Blob(Blob {
                media_type: (*media_type).into(),
                data: data.to_vec(),
                name: (*name).into(),
            })),
        });
        ToolResult {
            call_id: "a".into(),
            name: "draw".into(),
            content: "A dot.".into(),
            parts: parts.collect(),
            ..ToolResult::default()
        }
    }

    #[test]
    fn images_follow_the_tool_messages() {
        let results = [result(&[("image/png", PNG, "dot.png")]), result(&[])];
        let messages = to_chat_completions_messages(&results, Attachments::Shown);
        assert_eq!(messages.len(), 3);
        assert_eq!(
            messages[0],
            json!({"role": "tool", "tool_call_id": "a", "content": "A dot."})
        );
        let content = &messages[2]["content"];
        assert_eq!(
            content[1]["text"],
            "Attachment 1 of the result of call a (draw):"
        );
        let url = "data:image/png;base64,iVBORw0KGgo=";
        assert_eq!(content[2]["image_url"]["url"], url);
        assert_eq!(
            to_chat_completions_messages(&results, Attachments::Left).len(),
            2
        );
    }

    #[test]
    fn bytes_that_are_not_what_they_are_said_to_be_are_left() {
        let results = [result(&[
            ("image/png", b"nonsense", ""),
            (PDF, b"none", ""),
        ])];
        let outputs = to_responses_outputs(&results, Attachments::Shown);
        assert_eq!(outputs[0]["output"], "A dot.");
    }

    #[test]
    fn documents_are_parts_of_outputs() {
        let results = [result(&[
            ("text/csv", b"a,b", ""),
            (PDF, b"%PDF-1", "x/r.pdf"),
        ])];
        let outputs = to_responses_outputs(&results, Attachments::Shown);
        let output = &outputs[0]["output"];
        assert_eq!(output[1]["text"], "[text/csv, 3 bytes]:");
        assert_eq!(output[2]["filename"], "file.csv");
        assert_eq!(output[4]["filename"], "r.pdf");
    }
}
