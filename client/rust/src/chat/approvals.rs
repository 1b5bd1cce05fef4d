//! Asks humans about the calls of a turn that wait for them.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    BoxError,
    chat::{
        errors::HookError,
        events::{ChatEvent, Emitter},
    },
    v1::{Approval, ToolResult},
};

/// A call that waits for a human.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApprovalRequest {
    /// Number of the model turn, counted from 1.
    pub turn: usize,
    /// Position of the call among those of its turn, counted from 0.
    pub index: usize,
    /// Id of the call.
    pub call_id: String,
    /// Name of the tool, as the sidecar knows it.
    pub tool_name: String,
    /// JSON text of what the call would run with: references resolved, defaults applied.
    pub arguments: String,
    /// Id under which the decision is made; what [`Approval::approve`] and [`Approval::reject`]
    /// take.
    pub approval_id: String,
    /// Id under which the turn's calls are sent again with a decision that comes later.
    pub request_id: String,
}

type Asked = Pin<Box<dyn Future<Output = Result<Option<Approval>, BoxError>> + Send>>;

/// Asks a human about one call.
#[derive(Clone)]
pub(crate) struct ApprovalHook(Arc<dyn Fn(ApprovalRequest) -> Asked + Send + Sync>);

impl ApprovalHook {
    pub(crate) fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(ApprovalRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Approval>, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(hook(request))))
    }
}

/// What humans decided, and what went wrong with asking them.
#[derive(Default)]
pub(crate) struct Answers {
    /// The decisions, by index of the call.
    pub(crate) approvals: BTreeMap<usize, Approval>,
    pub(crate) errors: Vec<HookError>,
}

/// Asks about all calls at the same time and waits for the answers.
///
/// # Arguments
///
/// * `request_id`: id of the batch that asked.
/// * `pending`: results of the calls that wait, by index.
pub(crate) async fn ask(
    hook: &ApprovalHook,
    turn: usize,
    request_id: &str,
    pending: &BTreeMap<usize, ToolResult>,
    emitter: &Emitter,
) -> Result<Answers, HookError> {
    let requests: Vec<_> = pending
        .iter()
        .map(|(&index, result)| ApprovalRequest {
            turn,
            index,
            call_id: result.call_id.clone(),
            tool_name: result.name.clone(),
            arguments: result.approval_arguments.clone(),
            approval_id: result.approval_id.clone(),
            request_id: request_id.to_owned(),
        })
        .collect();
    for request in &requests {
        emitter
            .emit(|| ChatEvent::ApprovalRequested(request.clone()))
            .await?;
    }
    let mut waiting: FuturesUnordered<_> = requests
        .into_iter()
        .map(|request| {
            let asked = (hook.0)(request.clone());
            async move { (request, asked.await) }
        })
        .collect();
    let mut answers = Answers::default();
    while let Some((request, answer)) = waiting.next().await {
        let taken = answer.and_then(|approval| checked(&request, approval));
        let told = match taken {
            Err(error) => Err(HookError::from(error)),
            Ok(approval) => {
                if let Some(approval) = &approval {
                    answers.approvals.insert(request.index, approval.clone());
                }
                emitter
                    .emit(|| ChatEvent::ApprovalDecided {
                        turn,
                        index: request.index,
                        approval,
                    })
                    .await
            }
        };
        answers.errors.extend(told.err());
    }
    Ok(answers)
}

fn checked(
    request: &ApprovalRequest,
    approval: Option<Approval>,
) -> Result<Option<Approval>, BoxError> {
    match &approval {
        Some(decision) if decision.approval_id != request.approval_id => {
            Err("an approval hook decides on the call that it was asked about".into())
        }
        _ => Ok(approval),
    }
}
