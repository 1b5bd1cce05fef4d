//! The chat loop: a model's tool calls, run in a sidecar, until the model answers.
//!
//! ```no_run
//! # async fn example() -> Result<(), sidecall::BoxError> {
//! use sidecall::{Client, chat::{ChatLoop, ChatOptions}};
//!
//! let options = ChatOptions::new("gpt-5.4-mini").stream().early_start();
//! let openai = async_openai::Client::new();
//! let mut chat = ChatLoop::new(Client::new()?, openai, options)?;
//! let answer = chat.run("What do an apple and a pear cost together?").await?;
//! println!("{}", answer.text);
//! # Ok(())
//! # }
//! ```
//!
//! A run is cancelled by dropping its future, with
//! [`run_until_cancelled`](tokio_util::sync::CancellationToken::run_until_cancelled) for example.
//! The history that it leaves is valid all the same: each call is answered, and the next run goes
//! on from there.

mod announced;
mod approvals;
mod assembly;
mod chat_completions;
mod conversation;
mod dialect;
mod early;
mod errors;
mod events;
mod execution;
mod hint;
mod history;
mod json;
mod model;
mod options;
mod provider;
mod responses;
mod text;
mod turn_calls;

pub use approvals::ApprovalRequest;
pub use conversation::{ChatLoop, Input};
pub use errors::{ChatError, HookError, ModelError};
pub use events::ChatEvent;
pub use hint::{REFERENCE_HINT, session_reference_hint};
pub use model::{StoppedReason, Usage};
pub use options::{Api, ChatOptions, ChatResult, Turn};
