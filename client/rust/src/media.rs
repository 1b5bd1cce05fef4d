//! What is known about media types, file names and bytes.

const MAX_NAME_CHARS: usize = 255;

const SIGNATURES: [(usize, &[u8], &str); 10] = [
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"PK\x03\x04", "application/zip"),
];

const EXTENSIONS: [(&str, &str); 18] = [
    ("application/json", ".json"),
    ("application/msword", ".doc"),
    ("application/pdf", ".pdf"),
    ("application/rtf", ".rtf"),
    ("application/vnd.ms-excel", ".xls"),
    ("application/vnd.ms-powerpoint", ".ppt"),
    ("application/vnd.oasis.opendocument.text", ".odt"),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".pptx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".docx",
    ),
    ("text/calendar", ".ics"),
    ("text/css", ".css"),
    ("text/csv", ".csv"),
    ("text/html", ".html"),
    ("text/markdown", ".md"),
    ("text/plain", ".txt"),
    ("text/tab-separated-values", ".tsv"),
    ("text/xml", ".xml"),
];

/// The media type that bytes begin as; empty where that is not known.
pub(crate) fn media_type_of(data: &[u8]) -> &'static str {
    SIGNATURES
        .iter()
        .find(|(offset, signature, _)| {
            data.get(*offset..)
                .is_some_and(|rest| rest.starts_with(signature))
        })
        .map_or("", |(_, _, media_type)| media_type)
}

/// A media type without parameters, in lower case.
pub(crate) fn bare_media_type(media_type: &str) -> String {
    let bare = media_type.split(';').next().unwrap_or_default();
    match bare.trim().to_lowercase() {
        jpg if jpg == "image/jpg" => "image/jpeg".to_owned(),
        bare => bare,
    }
}

/// How names of files of a media type end; empty where that is not known.
pub(crate) fn extension_of(media_type: &str) -> &'static str {
    EXTENSIONS
        .iter()
        .find(|(known, _)| *known == media_type)
        .map_or("", |(_, extension)| extension)
}

/// The line that stands in a text for binary content: "[image/png, 3412 bytes: a.png]".
pub(crate) fn blob_line(media_type: &str, size_bytes: usize, name: &str) -> String {
    let name = on_one_line(name);
    let separator = if name.is_empty() { "" } else { ": " };
    format!("[{media_type}, {size_bytes} bytes{separator}{name}]")
}

/// The name without folders, control characters and more than one space in a row.
pub(crate) fn file_name(name: &str) -> String {
    let is_separator = |character| character == '/' || character == '\\';
    let name = name.trim_end_matches(is_separator);
    let last = name.rsplit(is_separator).next().unwrap_or_default();
    let clean: String = last
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    let clean = on_one_line(&clean);
    let excess = clean.chars().count().saturating_sub(MAX_NAME_CHARS);
    let clean: String = clean.chars().skip(excess).collect();
    if clean == "." || clean == ".." {
        return String::new();
    }
    clean
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_what_they_are() {
        assert_eq!(media_type_of(b"\x89PNG\r\n\x1a\n..."), "image/png");
        assert_eq!(media_type_of(b"RIFF....WEBPVP8 "), "image/webp");
        assert_eq!(media_type_of(b"RIFF"), "");
    }

    #[test]
    fn media_types_are_compared_bare() {
        assert_eq!(bare_media_type("Text/Plain; charset=utf-8"), "text/plain");
        assert_eq!(bare_media_type("image/jpg"), "image/jpeg");
    }

    #[test]
    fn names_lose_their_folders() {
        assert_eq!(file_name("../a\\b/c \x07 d.txt/"), "c d.txt");
        assert_eq!(file_name(".."), "");
        assert_eq!(file_name(&"x".repeat(300)).len(), 255);
    }
}
