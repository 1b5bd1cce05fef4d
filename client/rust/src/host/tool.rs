//! A function of the application as a tool.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    BoxError,
    calls::to_proto_duration,
    host::{
        context::ToolContext,
        output::{IntoToolOutput, ToolError, ToolOutput},
    },
    v1::{Effects, Rate, Tool, ToolLimits},
};

/// Why a function has no output.
pub(crate) enum Failure {
    /// Its arguments are not of its type; it was not started.
    Arguments(serde_json::Error),
    /// It failed, with a text for the model.
    Told(ToolError),
    /// It returned something that cannot be written.
    Output(serde_json::Error),
    /// It failed otherwise.
    Other(BoxError),
}

impl Failure {
    fn of(error: BoxError) -> Self {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
        while let Some(cause) = next {
            if let Some(told) = cause.downcast_ref::<ToolError>() {
                return Self::Told(told.clone());
            }
            next = cause.source();
        }
        Self::Other(error)
    }
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Result<ToolOutput, Failure>> + Send>>;
type Function = dyn Fn(&str, ToolContext) -> Running + Send + Sync;

/// A function of the application as a tool. It is given to a
/// [`ToolHostBuilder`](crate::ToolHostBuilder).
///
/// The policy that is said here holds in the sidecar, unless its configuration says otherwise.
#[derive(Clone)]
#[must_use]
pub struct HostedTool {
    pub(crate) tool: Tool,
    pub(crate) function: Arc<Function>,
}

impl HostedTool {
    /// Takes a function and the JSON Schema of its arguments, of whose type they are then read.
    ///
    /// The function fails with [`ToolError`] where the model is to read why; the text of any other
    /// error is logged and goes nowhere else.
    ///
    /// ```
    /// use serde_json::{Value, json};
    /// use sidecall::{HostedTool, ToolContext, ToolError};
    ///
    /// let schema = json!({
    ///     "type": "object",
    ///     "properties": {"city": {"type": "string"}},
    ///     "required": ["city"],
    /// });
    /// let weather = |arguments: Value, _: ToolContext| async move {
    ///     match arguments["city"].as_str() {
    ///         Some("Rome") => Ok("sunny"),
    ///         _ => Err(ToolError::new("I only know Rome.")),
    ///     }
    /// };
    /// let tool = HostedTool::new("get_weather", "Returns the weather.", &schema, weather);
    /// ```
    pub fn new<A, F, Fut, T, E>(
        name: impl Into<String>,
        description: impl Into<String>,
        input_schema: &Value,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned,
        F: Fn(A, ToolContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoToolOutput,
        E: Into<BoxError>,
    {
        let function = move |arguments: &str, context: ToolContext| -> Running {
            let text = if arguments.is_empty() {
                "{}"
            } else {
                arguments
            };
            let running = serde_json::from_str(text).map(|arguments| function(arguments, context));
            Box::pin(async move {
                let returned = running.map_err(Failure::Arguments)?.await;
                let value = returned.map_err(|error| Failure::of(error.into()))?;
                value.into_tool_output().map_err(Failure::Output)
            })
        };
        Self {
            tool: Tool {
                name: name.into(),
                description: description.into(),
                input_schema: input_schema.to_string(),
                effects: Effects::NonIdempotent.into(),
                ..Tool::default()
            },
            function: Arc::new(function),
        }
    }

    /// Takes a function; the schema is made of the type of its arguments.
    #[cfg(feature = "schemars")]
    pub fn typed<A, F, Fut, T, E>(
        name: impl Into<String>,
        description: impl Into<String>,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned + schemars::JsonSchema,
        F: Fn(A, ToolContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoToolOutput,
        E: Into<BoxError>,
    {
        let mut schema = schemars::schema_for!(A);
        // Neither tells the model anything.
        schema.remove("$schema");
        schema.remove("title");
        Self::new(name, description, schema.as_value(), function)
    }

    /// What running it may change; by default it may do harm to run it twice.
    pub fn effects(mut self, effects: Effects) -> Self {
        self.tool.effects = effects.into();
        self
    }

    /// JSON Schema of what it returns.
    pub fn output_schema(mut self, schema: &Value) -> Self {
        self.tool.output_schema = schema.to_string();
        self
    }

    /// Has a human decide on each call.
    pub fn requires_approval(mut self) -> Self {
        self.tool.requires_approval = true;
        self
    }

    /// Template of the key of its lane, for example "account:{`account_id`}": calls with one key
    /// run one at a time.
    pub fn lane(mut self, template: impl Into<String>) -> Self {
        self.tool.lane = template.into();
        self
    }

    /// Most calls that run at a time, on all hosts together.
    pub fn max_concurrency(self, calls: i32) -> Self {
        self.limit(|limits| limits.max_concurrency = calls)
    }

    /// Most calls that may be ready and waiting.
    pub fn max_queue(self, calls: i32) -> Self {
        self.limit(|limits| limits.max_queue = calls)
    }

    /// Time that one attempt may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.limit(|limits| limits.timeout = Some(to_proto_duration(timeout)))
    }

    /// Time that a ready call may wait.
    pub fn queue_timeout(self, timeout: Duration) -> Self {
        self.limit(|limits| limits.queue_timeout = Some(to_proto_duration(timeout)))
    }

    /// How often it may start: `count` times per `period` in the long run, `burst` times at once
    /// after a pause.
    pub fn rate(self, count: i64, period: Duration, burst: i64) -> Self {
        let period = Some(to_proto_duration(period));
        self.limit(|limits| {
            limits.rate = Some(Rate {
                count,
                period,
                burst,
            });
        })
    }

    /// Names of limits that it shares with other tools.
    pub fn shared_limits<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.limit(|limits| limits.groups = names.into_iter().map(Into::into).collect())
    }

    /// Most attempts of a call.
    pub fn max_attempts(self, attempts: i32) -> Self {
        self.limit(|limits| limits.max_attempts = attempts)
    }

    /// Time for which a result answers identical calls.
    pub fn cache_ttl(self, ttl: Duration) -> Self {
        self.limit(|limits| limits.cache_ttl = Some(to_proto_duration(ttl)))
    }

    /// Bytes that one result may take.
    pub fn max_result_bytes(self, bytes: i64) -> Self {
        self.limit(|limits| limits.max_result_bytes = bytes)
    }

    fn limit(mut self, set: impl FnOnce(&mut ToolLimits)) -> Self {
        set(self.tool.limits.get_or_insert_default());
        self
    }
}

impl std::fmt::Debug for HostedTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostedTool")
            .field("tool", &self.tool)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[cfg(feature = "schemars")]
    #[test]
    fn a_schema_is_made_of_the_type_of_the_arguments() {
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        #[expect(dead_code, reason = "only its schema counts")]
        struct Of {
            /// Name of the city.
            city: String,
            days: Option<u8>,
        }
        let tool = HostedTool::typed("a", "", |_: Of, _| async { Ok::<_, ToolError>(()) });
        let schema: Value = serde_json::from_str(&tool.tool.input_schema).unwrap();
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["required"], json!(["city"]));
        assert_eq!(
            schema["properties"]["city"]["description"],
            "Name of the city."
        );
        assert_eq!(schema.get("title"), None);
    }

    #[test]
    fn a_policy_is_part_of_the_offer() {
        let tool = HostedTool::new("a", "", &json!({}), |_: Value, _| async {
            Ok::<_, ToolError>(())
        })
        .effects(Effects::Idempotent)
        .timeout(Duration::from_millis(1500))
        .rate(10, Duration::from_secs(1), 20)
        .shared_limits(["b"])
        .requires_approval();
        let limits = tool.tool.limits.clone().unwrap();
        assert_eq!(limits.timeout.unwrap().nanos, 500_000_000);
        assert_eq!(limits.rate.unwrap().burst, 20);
        assert_eq!(limits.groups, ["b"]);
        assert!(tool.tool.requires_approval);
        assert_eq!(tool.tool.effects(), Effects::Idempotent);
    }

    #[test]
    fn a_text_for_the_model_is_found_behind_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] ToolError);
        let outer: BoxError = Outer(ToolError::new("inner")).into();
        assert!(matches!(Failure::of(outer), Failure::Told(error) if error.message == "inner"));
        assert!(matches!(Failure::of("other".into()), Failure::Other(_)));
    }
}
