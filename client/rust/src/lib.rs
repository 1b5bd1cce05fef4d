//! Client of Sidecall, the sidecar that executes language models' tool calls.
//!
//! * [`Client`] sends one turn's calls as one batch and gets one result per call, in call order;
//!   [`BatchStream`] does it while the model still writes.
//! * `chat::ChatLoop` (feature `chat`) goes from a question to the model's answer.
//! * [`ToolHost`] offers functions of this process as tools.
//! * [`v1`] is the contract itself.
//!
//! Nothing runs in the background but what a [`ToolHost`] serves: dropping a future cancels what it
//! waits for.

mod builder;
mod calls;
#[cfg(feature = "chat")]
pub mod chat;
mod client;
mod connection;
mod error;
mod host;
mod media;
mod options;
mod result_formats;
mod results;
mod retry;
mod status;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod tool_formats;

pub use builder::ClientBuilder;
pub use calls::{Arguments, pending_approvals};
pub use client::{Client, ListedTools};
pub use error::{BoxError, ConfigError, RpcError, code_name};
pub use host::{
    HostedTool, IntoToolOutput, ToolContext, ToolError, ToolHost, ToolHostBuilder, ToolOutput,
};
pub use options::BatchOptions;
pub use result_formats::{Attachments, to_chat_completions_messages, to_responses_outputs};
pub use results::BatchResults;
pub use stream::BatchStream;
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use tonic::Code;
pub use tool_formats::{ToolNames, to_chat_completions_tools, to_responses_tools};

/// The contract: messages and stubs of `sidecall.v1`, whose comments are its specification.
#[allow(
    missing_docs,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    reason = "the code is generated"
)]
pub mod v1 {
    tonic::include_proto!("sidecall.v1");
}
