//! The model's provider.

use std::{future::Future, pin::Pin, sync::Arc};

use async_openai::{Client, config::Config, error::OpenAIError};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, value::RawValue};

use crate::chat::{errors::ChatError, json, options::Api};

const SHOWN_CHARS: usize = 200;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ChatError>> + Send + 'a>>;

/// The chunks of a streamed answer. Dropping it hangs up.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Value, ChatError>> + Send>>;

/// Asks a model.
pub(crate) trait Provider: Send + Sync {
    /// Asks for a whole answer.
    fn create(&self, api: Api, request: Value) -> BoxFuture<'_, Value>;

    /// Asks for a streamed answer.
    fn stream(&self, api: Api, request: Value) -> BoxFuture<'_, Chunks>;
}

// Answers are taken as raw JSON: the library's types lose the members that they do not know, which
// some providers need back with the history.
impl<C: Config> Provider for Client<C> {
    fn create(&self, api: Api, request: Value) -> BoxFuture<'_, Value> {
        Box::pin(async move {
            let created: Result<Box<RawValue>, _> = match api {
                Api::ChatCompletions => self.chat().create_byot(request).await,
                Api::Responses => self.responses().create_byot(request).await,
            };
            read(created)
        })
    }

    fn stream(&self, api: Api, request: Value) -> BoxFuture<'_, Chunks> {
        Box::pin(async move {
            let chunks = match api {
                Api::ChatCompletions => self.chat().create_stream_byot(request).await,
                Api::Responses => self.responses().create_stream_byot(request).await,
            };
            let chunks = chunks.map_err(translated)?;
            Ok(chunks
                .map(read)
                .map(|chunk| chunk.and_then(without_error))
                .boxed())
        })
    }
}

fn read(answer: Result<Box<RawValue>, OpenAIError>) -> Result<Value, ChatError> {
    let raw = answer.map_err(translated)?;
    json::parse(raw.get())
        .map_err(|error| ChatError::model(format!("the model's answer cannot be read: {error}")))
}

/// A chunk, unless it reports an error, as some providers do in the middle of a stream.
fn without_error(chunk: Value) -> Result<Value, ChatError> {
    let error = &chunk["error"];
    if error.is_null() || chunk["type"].is_string() {
        return Ok(chunk);
    }
    let text = error["message"]
        .as_str()
        .map_or_else(|| error.to_string(), str::to_owned);
    Err(ChatError::model(format!(
        "the model's stream reports an error: {text}"
    )))
}

fn translated(error: OpenAIError) -> ChatError {
    match error {
        // The library reads refusals of other providers as it reads answers.
        OpenAIError::JSONDeserialize(why, content) if !is_refusal(&content) => {
            let shown: String = content.chars().take(SHOWN_CHARS).collect();
            ChatError::model(format!(
                "the model's answer cannot be read: {why}: {shown:?}"
            ))
        }
        OpenAIError::StreamError(why) => {
            ChatError::model(format!("the model's stream broke off: {why}"))
        }
        error => ChatError::Provider(Arc::new(error)),
    }
}

fn is_refusal(content: &str) -> bool {
    serde_json::from_str::<Value>(content).is_ok_and(|body| !body["error"].is_null())
}
