//! The loop itself: model, tool calls, results, model.

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_openai::config::Config;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    Client, RpcError, ToolNames,
    chat::{
        announced::{Announced, announce},
        chat_completions::ChatCompletions,
        dialect::Dialect,
        early::EarlyCalls,
        errors::ChatError,
        events::{ChatEvent, Emitter},
        execution::TurnExecution,
        history::{TurnRecord, answer_open_calls},
        model::{ModelTurn, Settings, StoppedReason, StreamPart, Usage},
        options::{Api, ChatOptions, ChatResult, Turn},
        provider::Provider,
        responses::Responses,
        text,
        turn_calls::TurnCalls,
    },
    v1::{Tool, ToolCall, ToolResult, batch_event::Event},
};

/// What a run begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A question, which goes on with the loop's history.
    Question(String),
    /// A conversation as the API takes it, which replaces the history.
    Conversation(Vec<Value>),
}

impl From<&str> for Input {
    fn from(question: &str) -> Self {
        Self::Question(question.to_owned())
    }
}

impl From<String> for Input {
    fn from(question: String) -> Self {
        Self::Question(question)
    }
}

impl From<Vec<Value>> for Input {
    fn from(conversation: Vec<Value>) -> Self {
        Self::Conversation(conversation)
    }
}

/// Drives conversations: model, tool calls, sidecar, tool messages, model.
///
/// The history that it leaves is valid whatever happens: each tool call is answered, also after a
/// cancellation or an error.
pub struct ChatLoop {
    client: Client,
    provider: Arc<dyn Provider>,
    options: ChatOptions,
    dialect: Box<dyn Dialect>,
    emitter: Emitter,
    history: Vec<Value>,
    tools: Vec<Tool>,
    names: ToolNames,
    turn: usize,
}

impl ChatLoop {
    /// Takes the client of the sidecar and that of the model's provider.
    ///
    /// # Errors
    ///
    /// A choice makes no sense.
    pub fn new<C: Config + 'static>(
        client: Client,
        provider: async_openai::Client<C>,
        options: ChatOptions,
    ) -> Result<Self, ChatError> {
        options.check()?;
        Ok(Self {
            client,
            provider: Arc::new(provider),
            dialect: match options.api {
                Api::ChatCompletions => Box::new(ChatCompletions),
                Api::Responses => Box::new(Responses),
            },
            emitter: Emitter::new(options.on_event.clone()),
            options,
            history: Vec::new(),
            tools: Vec::new(),
            names: ToolNames::default(),
            turn: 0,
        })
    }

    /// The conversation so far, valid to be sent again.
    #[must_use]
    pub fn history(&self) -> &[Value] {
        &self.history
    }

    /// Asks the model until it answers without calling tools.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn run(&mut self, input: impl Into<Input>) -> Result<ChatResult, ChatError> {
        match input.into() {
            Input::Question(text) => self.history.push(json!({"role": "user", "content": text})),
            Input::Conversation(history) => self.history = history,
        }
        self.turn = 0;
        answer_open_calls(&mut self.history, self.dialect.as_ref());
        // Boxed, since it is large and whoever calls this may nest it deeply.
        let result = Box::pin(self.run_turns()).await;
        if let Err(error) = &result {
            self.emitter.report(self.turn, error).await;
        }
        result
    }

    async fn run_turns(&mut self) -> Result<ChatResult, ChatError> {
        self.choose_tools().await?;
        let mut result = ChatResult {
            text: String::new(),
            refusal: String::new(),
            turns: Vec::new(),
            usage: Usage::default(),
            stopped_reason: StoppedReason::MaxTurns,
        };
        while self.turn < self.options.max_turns {
            self.turn += 1;
            let turn = self.turn;
            self.emitter
                .emit(|| ChatEvent::TurnStarted { turn })
                .await?;
            let outcome = self.one_turn().await?;
            result.usage += outcome.turn.usage;
            result.text.clone_from(&outcome.turn.text);
            result.refusal = outcome.refusal;
            let goes_on = outcome.end == StoppedReason::Completed && !outcome.turn.calls.is_empty();
            result.turns.push(outcome.turn);
            if !goes_on {
                result.stopped_reason = outcome.end;
                break;
            }
        }
        Ok(result)
    }

    async fn choose_tools(&mut self) -> Result<(), ChatError> {
        let mut listed = self.client.list_tools().await?.tools;
        if let Some(chosen) = &self.options.tools {
            let known: BTreeSet<_> = listed.iter().map(|tool| tool.name.as_str()).collect();
            let missing: BTreeSet<_> = chosen
                .iter()
                .map(String::as_str)
                .filter(|name| !known.contains(name))
                .collect();
            if !missing.is_empty() {
                let names = missing.into_iter().collect::<Vec<_>>().join(", ");
                return Err(ChatError::invalid(format!(
                    "the sidecar offers no tool {names}"
                )));
            }
            listed.retain(|tool| chosen.contains(&tool.name));
        }
        self.names = listed.iter().collect();
        self.tools = listed;
        Ok(())
    }

    async fn one_turn(&mut self) -> Result<Outcome, ChatError> {
        let mut early = self
            .options
            .early_start
            .then(|| EarlyCalls::new(self.turn, &self.client, &self.options));
        let (announced, model_turn) = self.ask(&mut early).await?;
        let (end, refusal) = (model_turn.end, model_turn.refusal.clone());
        let taken = self.dialect.call_ids(&self.history);
        let mut calls = TurnCalls::new(&self.names, self.history.len(), taken, self.offered_only());
        for call in &model_turn.calls {
            calls.add(call.clone());
        }
        let (text, usage) = (model_turn.text.clone(), model_turn.usage);
        let turn = self.turn;
        let record = TurnRecord::new(
            &mut self.history,
            self.dialect.as_ref(),
            model_turn,
            &calls,
            self.options.attachments,
        );
        let running = RunningTurn {
            turn,
            client: &self.client,
            options: &self.options,
            emitter: &self.emitter,
            calls: &calls,
        };
        let results = running.run(end, &announced, record, early).await?;
        let call_count = calls.batch.len();
        let told = || ChatEvent::TurnFinished {
            turn,
            text: text.clone(),
            call_count,
            usage,
        };
        self.emitter.emit(told).await?;
        let turn = Turn {
            text,
            calls: calls.batch,
            results,
            usage,
        };
        Ok(Outcome { turn, refusal, end })
    }

    /// Asks the model; returns the calls that were announced meanwhile, and the whole turn.
    async fn ask(
        &self,
        early: &mut Option<EarlyCalls<'_>>,
    ) -> Result<(Vec<ToolCall>, ModelTurn), ChatError> {
        let taken = self.dialect.call_ids(&self.history);
        let calls = TurnCalls::new(&self.names, self.history.len(), taken, self.offered_only());
        let mut announced = Announced {
            turn: self.turn,
            emitter: &self.emitter,
            calls,
        };
        let (api, stream) = (self.options.api, self.options.stream);
        let settings = Settings {
            model: &self.options.model,
            stream,
            hint: &self.options.hint(),
            extra: &self.options.request,
        };
        let request = self
            .dialect
            .request(&self.history, &self.tools, &self.names, &settings);
        if !stream {
            let response = self.provider.create(api, request).await?;
            let turn = self.dialect.parse(response)?;
            for part in [
                StreamPart::Text(turn.text.clone()),
                StreamPart::Refusal(turn.refusal.clone()),
            ] {
                announced.take(part, early).await?;
            }
            return Ok((announced.calls.batch, turn));
        }
        let mut chunks = self.provider.stream(api, request).await?;
        let mut assembler = self.dialect.assembler();
        loop {
            let chunk = tokio::select! {
                event = next_event(early) => {
                    if let Some(early) = early {
                        early.take(event, &announced.calls, &self.emitter).await?;
                    }
                    continue;
                }
                chunk = chunks.next() => chunk,
            };
            let Some(chunk) = chunk else { break };
            for part in assembler.feed(&chunk?)? {
                announced.take(part, early).await?;
            }
        }
        Ok((announced.calls.batch, assembler.finish()?))
    }

    /// Whether other tools are not run because a model guesses their names.
    fn offered_only(&self) -> bool {
        self.options.tools.is_some()
    }
}

impl fmt::Debug for ChatLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatLoop")
            .field("options", &self.options)
            .field("history", &self.history.len())
            .finish_non_exhaustive()
    }
}

struct Outcome {
    turn: Turn,
    refusal: String,
    end: StoppedReason,
}

/// A turn whose calls are all known.
struct RunningTurn<'a> {
    turn: usize,
    client: &'a Client,
    options: &'a ChatOptions,
    emitter: &'a Emitter,
    calls: &'a TurnCalls<'a>,
}

impl RunningTurn<'_> {
    async fn run(
        self,
        end: StoppedReason,
        announced: &[ToolCall],
        mut record: TurnRecord<'_>,
        early: Option<EarlyCalls<'_>>,
    ) -> Result<Vec<ToolResult>, ChatError> {
        match end {
            StoppedReason::Length => record.fail(text::NOT_RUN_LENGTH),
            StoppedReason::ContentFilter => record.fail(text::NOT_RUN_FILTER),
            _ if self.calls.batch.is_empty() => {}
            _ => {
                for (index, ready) in self.calls.batch.iter().enumerate() {
                    if announced.get(index) != Some(ready) {
                        announce(self.emitter, self.turn, index, ready).await?;
                    }
                }
                let mut execution = TurnExecution::new(
                    self.turn,
                    self.calls,
                    record,
                    self.options,
                    self.client,
                    self.emitter,
                );
                let run = execution.run(early).await;
                record = execution.into_record();
                if let Err(ChatError::Sidecar(error)) = &run {
                    record.fail(&text::failed(error));
                }
                run?;
            }
        }
        Ok(record.results.into_values().collect())
    }
}

/// What happens next to calls that were sent early; never, where none are under way.
async fn next_event(early: &mut Option<EarlyCalls<'_>>) -> Result<Option<Event>, RpcError> {
    match early {
        Some(early) => early.next_event().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
