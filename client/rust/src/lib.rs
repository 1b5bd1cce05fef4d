//! Client of Sidecall.

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
pub use client::Client;
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

/// The contract.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("sidecall.v1");
}
