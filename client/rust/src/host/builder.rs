//! How a host is made.

use std::{sync::Arc, time::Duration};

use crate::{
    Client, ConfigError,
    host::{
        calls::Tools,
        handle::{Setup, ToolHost},
        tool::HostedTool,
    },
    v1::HostAttach,
};

const MAX_NAME_BYTES: usize = 256;
const MAX_CONCURRENCY: i32 = 10_000;

/// Makes a [`ToolHost`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ToolHostBuilder {
    name: String,
    tools: Vec<HostedTool>,
    max_concurrency: i32,
    drain_timeout: Duration,
}

impl ToolHostBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            tools: Vec::new(),
            max_concurrency: 16,
            drain_timeout: Duration::from_secs(25),
        }
    }

    /// Offers a function.
    pub fn tool(mut self, tool: HostedTool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Offers functions.
    pub fn tools(mut self, tools: impl IntoIterator<Item = HostedTool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Slots: most calls that run at a time, from 1 to 10 000; by default 16.
    pub fn max_concurrency(mut self, calls: i32) -> Self {
        self.max_concurrency = calls;
        self
    }

    /// Time that calls get to end when the host closes; by default 25 seconds.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Begins to attach to the client's sidecar, with its settings; it does not wait.
    ///
    /// # Errors
    ///
    /// There are no tools, two have one name, or a setting makes no sense.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self, client: &Client) -> Result<ToolHost, ConfigError> {
        let wrong = |text: String| Err(ConfigError(text));
        if self.name.len() > MAX_NAME_BYTES {
            return wrong(format!(
                "the host's name takes more than {MAX_NAME_BYTES} bytes"
            ));
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.max_concurrency) {
            return wrong(format!(
                "max_concurrency must be from 1 to {MAX_CONCURRENCY}"
            ));
        }
        if self.tools.is_empty() {
            return wrong("a host needs at least one tool".to_owned());
        }
        let offered = self.tools.iter().map(|tool| tool.tool.clone()).collect();
        let mut tools = Tools::new();
        for tool in self.tools {
            let name = tool.tool.name.clone();
            if tools.insert(name.clone(), tool).is_some() {
                return wrong(format!("two tools have the name {name:?}"));
            }
        }
        let connection = client.connection.clone();
        let attach = HostAttach {
            host_name: self.name,
            tools: offered,
            max_concurrency: self.max_concurrency,
            user_agent: concat!("sidecall-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_message_bytes: i64::try_from(connection.max_message_bytes).unwrap_or(i64::MAX),
        };
        Ok(ToolHost::start(Setup {
            connection,
            attach,
            tools: Arc::new(tools),
            drain_timeout: self.drain_timeout,
        }))
    }
}
