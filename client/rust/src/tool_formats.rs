//! Tools in the formats of model providers.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::v1::Tool;

const MAX_LENGTH: usize = 64;
const HASH_LENGTHS: std::ops::Range<usize> = 8..MAX_LENGTH;
const SPEAKER_PREFIX: &str = "functions.";

/// Names of tools and the names that a provider accepts for them, there and back.
///
/// An accepted name stays as it is. In others each refused character becomes "_"; where the
/// outcome is too long or not unique, a short hash of the name ends it. The order of the names
/// does not matter.
#[derive(Clone, Debug, Default)]
pub struct ToolNames {
    to_provider: HashMap<String, String>,
    to_tool: HashMap<String, String>,
}

impl ToolNames {
    /// Takes the names of the tools.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let known: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        let (accepted, others): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|name| is_accepted(name));
        let mut taken: BTreeSet<String> = accepted.iter().cloned().collect();
        let plain: Vec<String> = others.iter().map(|name| plain(name)).collect();
        let mut wanted: HashMap<&str, usize> = HashMap::new();
        for candidate in &plain {
            *wanted.entry(candidate).or_default() += 1;
        }
        let mut to_provider: HashMap<_, _> = accepted
            .into_iter()
            .map(|name| (name.clone(), name))
            .collect();
        for (name, candidate) in others.iter().zip(&plain) {
            let unique = wanted[candidate.as_str()] == 1 && !taken.contains(candidate);
            if unique && is_accepted(candidate) {
                to_provider.insert(name.clone(), candidate.clone());
            }
        }
        taken.extend(to_provider.values().cloned());
        for name in others {
            if let Entry::Vacant(free) = to_provider.entry(name) {
                let hashed = hashed(free.key(), &taken);
                taken.insert(hashed.clone());
                free.insert(hashed);
            }
        }
        let to_tool = to_provider
            .iter()
            .map(|(name, provider)| (provider.clone(), name.clone()))
            .collect();
        Self {
            to_provider,
            to_tool,
        }
    }

    /// The provider's name of a tool; None where there is no such tool.
    #[must_use]
    pub fn to_provider(&self, name: &str) -> Option<&str> {
        self.to_provider.get(name).map(String::as_str)
    }

    /// The tool that a model means; a name that nobody knows stays as it is.
    #[must_use]
    pub fn to_tool<'a>(&'a self, name: &'a str) -> &'a str {
        if let Some(tool) = self.to_tool.get(name) {
            return tool;
        }
        if !self.contains(name)
            && let Some(bare) = name.strip_prefix(SPEAKER_PREFIX)
        {
            if let Some(tool) = self.to_tool.get(bare) {
                return tool;
            }
            if self.contains(bare) {
                return bare;
            }
        }
        name
    }

    /// Whether there is such a tool.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.to_provider.contains_key(name)
    }

    /// All names that the provider is given, sorted.
    #[must_use]
    pub fn provider_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.to_tool.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl<'a> FromIterator<&'a Tool> for ToolNames {
    fn from_iter<I: IntoIterator<Item = &'a Tool>>(tools: I) -> Self {
        Self::new(tools.into_iter().map(|tool| tool.name.as_str()))
    }
}

/// Tools as the Chat Completions API takes them. `names` is made of the same tools.
///
/// A tool whose schema is no JSON is offered with an empty one.
#[must_use]
pub fn to_chat_completions_tools(tools: &[Tool], names: &ToolNames) -> Vec<Value> {
    tools
        .iter()
        .map(|tool| json!({"type": "function", "function": function(tool, names)}))
        .collect()
}

/// Tools as the Responses API takes them. `names` is made of the same tools.
///
/// A tool whose schema is no JSON is offered with an empty one.
#[must_use]
pub fn to_responses_tools(tools: &[Tool], names: &ToolNames) -> Vec<Value> {
    tools
        .iter()
        .map(|tool| {
            let mut item = Map::new();
            item.insert("type".into(), "function".into());
            item.extend(function(tool, names));
            // Here strict is on unless said otherwise, and refuses most schemas of real tools.
            item.insert("strict".into(), false.into());
            Value::Object(item)
        })
        .collect()
}

fn function(tool: &Tool, names: &ToolNames) -> Map<String, Value> {
    let name = names.to_provider(&tool.name).unwrap_or(&tool.name);
    let mut function = Map::new();
    function.insert("name".into(), name.into());
    function.insert("description".into(), tool.description.as_str().into());
    function.insert("parameters".into(), parameters(&tool.input_schema));
    function
}

fn parameters(schema: &str) -> Value {
    let mut parameters = Map::new();
    parameters.insert("type".into(), "object".into());
    parameters.insert("properties".into(), json!({}));
    if let Ok(Value::Object(mut declared)) = serde_json::from_str(schema) {
        declared.remove("$schema");
        parameters.extend(declared);
    }
    Value::Object(parameters)
}

fn is_accepted(name: &str) -> bool {
    (1..=MAX_LENGTH).contains(&name.len()) && name.chars().all(is_accepted_character)
}

fn is_accepted_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

fn plain(name: &str) -> String {
    name.chars()
        .map(|character| {
            if is_accepted_character(character) {
                character
            } else {
                '_'
            }
        })
        .collect()
}

fn hashed(name: &str, taken: &BTreeSet<String>) -> String {
    let mut digest = String::new();
    for byte in Sha256::digest(name) {
        let _ = write!(digest, "{byte:02x}");
    }
    let plain = plain(name);
    let candidate = |length: usize| {
        let stem: String = plain.chars().take(MAX_LENGTH - length - 1).collect();
        format!("{stem}_{}", &digest[..length])
    };
    HASH_LENGTHS
        .map(candidate)
        .find(|candidate| !taken.contains(candidate))
        // Nobody has so many tools that begin alike and hash alike.
        .unwrap_or_else(|| digest[..MAX_LENGTH].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, schema: &str) -> Tool {
        Tool {
            name: name.into(),
            description: "Does it.".into(),
            input_schema: schema.into(),
            ..Tool::default()
        }
    }

    #[test]
    fn accepted_names_stay() {
        let names = ToolNames::new(["get-price_2"]);
        assert_eq!(names.to_provider("get-price_2"), Some("get-price_2"));
        assert_eq!(names.to_provider("other"), None);
    }

    #[test]
    fn refused_characters_are_replaced() {
        let names = ToolNames::new(["clock.now"]);
        assert_eq!(names.to_provider("clock.now"), Some("clock_now"));
        assert_eq!(names.to_tool("clock_now"), "clock.now");
        assert_eq!(names.to_tool("functions.clock_now"), "clock.now");
        assert_eq!(names.to_tool("functions.clock.now"), "clock.now");
        assert_eq!(names.to_tool("functions.other"), "functions.other");
    }

    #[test]
    fn names_that_would_be_alike_get_a_hash() {
        let names = ToolNames::new(["clock/now", "clock.now", "clock_now"]);
        assert_eq!(names.to_provider("clock_now"), Some("clock_now"));
        assert_eq!(names.to_provider("clock.now"), Some("clock_now_2d8dd78e"));
        let other = names.to_provider("clock/now").unwrap();
        assert_eq!(names.to_tool(other), "clock/now");
    }

    #[test]
    fn long_names_are_cut() {
        let long = "é".repeat(70);
        let names = ToolNames::new([long.as_str()]);
        let provider = names.to_provider(&long).unwrap();
        assert_eq!(provider.len(), 64);
        assert_eq!(names.to_tool(provider), long);
    }

    #[test]
    fn schemas_are_completed() {
        let tools = [
            tool("a.b", r#"{"$schema": "x", "required": ["c"]}"#),
            tool("d", ""),
        ];
        let names: ToolNames = tools.iter().collect();
        let function = json!({
            "name": "a_b",
            "description": "Does it.",
            "parameters": {"type": "object", "properties": {}, "required": ["c"]},
        });
        let chat = to_chat_completions_tools(&tools, &names);
        assert_eq!(chat[0], json!({"type": "function", "function": function}));
        let responses = to_responses_tools(&tools, &names);
        assert_eq!(
            responses[1]["parameters"],
            json!({"type": "object", "properties": {}})
        );
        assert_eq!(responses[1]["strict"], json!(false));
    }
}
