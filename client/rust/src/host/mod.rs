//! The tool host: functions of an application as tools of a sidecar.

mod attachment;
mod backoff;
mod builder;
mod calls;
mod context;
mod handle;
mod outbox;
mod output;
mod results;
mod tool;

pub use builder::ToolHostBuilder;
pub use context::ToolContext;
pub use handle::ToolHost;
pub use output::{IntoToolOutput, ToolError, ToolOutput};
pub use tool::HostedTool;
