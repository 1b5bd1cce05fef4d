//! Runs the calls of one turn: once, or again after decisions and lost connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    BatchResults, Client, RpcError,
    chat::{
        approvals,
        early::EarlyCalls,
        errors::{ChatError, HookError},
        events::{ChatEvent, Emitter},
        history::TurnRecord,
        options::ChatOptions,
        text,
        turn_calls::TurnCalls,
    },
    v1::{Approval, ExecutionState, ToolResult},
};

/// Makes a `request_id`.
pub(crate) fn new_request_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    bytes.iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// Runs the calls of one turn and fills the turn's record with their results.
pub(crate) struct TurnExecution<'a> {
    turn: usize,
    calls: &'a TurnCalls<'a>,
    record: TurnRecord<'a>,
    options: &'a ChatOptions,
    client: &'a Client,
    emitter: &'a Emitter,
    request_id: String,
    /// Indexes of the calls whose final results were reported.
    told: BTreeSet<usize>,
}

impl<'a> TurnExecution<'a> {
    pub(crate) fn new(
        turn: usize,
        calls: &'a TurnCalls<'a>,
        record: TurnRecord<'a>,
        options: &'a ChatOptions,
        client: &'a Client,
        emitter: &'a Emitter,
    ) -> Self {
        Self {
            turn,
            calls,
            record,
            options,
            client,
            emitter,
            request_id: String::new(),
            told: BTreeSet::new(),
        }
    }

    /// The turn's record.
    pub(crate) fn into_record(self) -> TurnRecord<'a> {
        self.record
    }

    /// Runs the calls to their ends.
    ///
    /// # Errors
    ///
    /// An RPC failed; or a hook, once all decisions are done.
    pub(crate) async fn run(&mut self, early: Option<EarlyCalls<'_>>) -> Result<(), ChatError> {
        let complete = match early {
            Some(early) => self.complete(early).await?,
            None => false,
        };
        if !complete {
            let request_id = if self.options.resend {
                new_request_id()
            } else {
                String::new()
            };
            let timeout = self.options.batch_timeout;
            self.send(request_id, Vec::new(), timeout, String::new())
                .await?;
        }
        let errors = self.decide().await?;
        self.tell(self.record.results.keys().copied().collect())
            .await?;
        match HookError::join(errors) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Ends an early start; returns whether all calls have their results.
    async fn complete(&mut self, mut early: EarlyCalls<'_>) -> Result<bool, ChatError> {
        let timeout = self.options.batch_timeout;
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let completed = early
            .complete(self.calls, &mut self.record, self.emitter)
            .await;
        self.told.clone_from(&early.told);
        match completed {
            Ok(false) => {
                self.told.clear();
                Ok(false)
            }
            Ok(true) => {
                self.request_id = early.request_id;
                Ok(true)
            }
            // Nothing of an unsealed turn has taken effect: it is sent as a new batch. This one
            // may have, so it is sent again only where the sidecar can tell.
            Err(ChatError::Sidecar(error))
                if error.is_transient() && !early.sent_to_instance.is_empty() =>
            {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Err(error.into());
                }
                self.send(early.request_id, Vec::new(), left, early.sent_to_instance)
                    .await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    async fn send(
        &mut self,
        request_id: String,
        approvals: Vec<Approval>,
        timeout: Option<Duration>,
        sent_to_instance: String,
    ) -> Result<(), RpcError> {
        let mut options = self.options.batch_options();
        options.request_id = request_id;
        options.approvals = approvals;
        options.deadline = timeout;
        options.sent_to_instance = sent_to_instance;
        let calls = self.calls.batch.clone();
        let answered = self.client.execute_batch(calls, options).await?;
        self.request_id.clone_from(&answered.request_id);
        self.adopt(answered);
        Ok(())
    }

    fn adopt(&mut self, answered: BatchResults) {
        for (index, result) in answered.into_iter().enumerate() {
            let known = self
                .record
                .results
                .get(&index)
                .map(ToolResult::execution_state);
            if let Some(known) = known.filter(|known| *known != ExecutionState::NotStarted) {
                if result.reason() == "OUTCOME_UNKNOWN" {
                    continue; // The first send said more about it.
                }
                if known != result.execution_state() {
                    self.told.remove(&index);
                }
            }
            self.record
                .add_result(index, self.calls.settle(index, result));
        }
    }

    /// Has humans decide for as long as calls wait for them; returns what the hooks failed with.
    async fn decide(&mut self) -> Result<Vec<HookError>, ChatError> {
        let Some(hook) = &self.options.approve else {
            return Ok(Vec::new());
        };
        let mut asked = BTreeSet::new();
        // Each round decides on a call for good, so there are no more rounds than calls.
        for _ in 0..self.calls.batch.len() {
            let pending: BTreeMap<_, _> = self
                .record
                .results
                .iter()
                .filter(|(_, result)| result.is_pending_approval())
                .filter(|(_, result)| !asked.contains(&result.approval_id))
                .map(|(index, result)| (*index, result.clone()))
                .collect();
            if pending.is_empty() || self.request_id.is_empty() {
                break;
            }
            self.tell(self.started()).await?;
            asked.extend(pending.values().map(|result| result.approval_id.clone()));
            let id = &self.request_id;
            let answers = approvals::ask(hook, self.turn, id, &pending, self.emitter).await?;
            let decided = !answers.approvals.is_empty();
            if decided {
                self.send_decisions(answers.approvals).await?;
            }
            if !answers.errors.is_empty() || !decided {
                return Ok(answers.errors);
            }
        }
        Ok(Vec::new())
    }

    async fn send_decisions(
        &mut self,
        approvals: BTreeMap<usize, Approval>,
    ) -> Result<(), RpcError> {
        let results = self.record.results.clone();
        let released: Vec<_> = results
            .iter()
            .filter(|(_, result)| result.execution_state() == ExecutionState::NotStarted)
            .filter(|(index, result)| {
                approvals.contains_key(index) || !result.is_pending_approval()
            })
            .map(|(index, _)| *index)
            .collect();
        self.record.reopen(&released);
        let decided: BTreeSet<_> = approvals.keys().copied().collect();
        let approvals = approvals.into_values().collect();
        let request_id = self.request_id.clone();
        let timeout = self.options.batch_timeout;
        match self
            .send(request_id, approvals, timeout, String::new())
            .await
        {
            Err(error) if error.reason() == "APPROVAL_UNKNOWN" && error.not_started() => {
                for index in released {
                    let result = results[&index].clone();
                    let lost = decided.contains(&index);
                    let result = if lost { lost_approval(result) } else { result };
                    self.record.add_result(index, result);
                }
                Ok(())
            }
            sent => sent,
        }
    }

    /// Calls whose results will not change any more.
    fn started(&self) -> BTreeSet<usize> {
        self.record
            .results
            .iter()
            .filter(|(_, result)| result.execution_state() != ExecutionState::NotStarted)
            .map(|(index, _)| *index)
            .collect()
    }

    async fn tell(&mut self, indexes: BTreeSet<usize>) -> Result<(), HookError> {
        for index in indexes {
            if !self.told.insert(index) {
                continue;
            }
            let told = || ChatEvent::CallFinished {
                turn: self.turn,
                index,
                result: self.record.results[&index].clone(),
            };
            self.emitter.emit(told).await?;
        }
        Ok(())
    }
}

/// The result of a call that was decided on too late.
fn lost_approval(pending: ToolResult) -> ToolResult {
    let mut result = ToolResult {
        approval_id: String::new(),
        approval_arguments: String::new(),
        content: text::APPROVAL_LOST.to_owned(),
        ..pending
    };
    if let Some(status) = &mut result.status {
        text::APPROVAL_LOST.clone_into(&mut status.message);
    }
    result
}
