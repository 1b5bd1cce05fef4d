//! What the model has finished while its turn goes on.

use crate::{
    chat::{
        early::EarlyCalls,
        errors::{ChatError, HookError},
        events::{ChatEvent, Emitter},
        model::StreamPart,
        turn_calls::TurnCalls,
    },
    v1::ToolCall,
};

/// What the model has finished while its turn goes on.
pub(crate) struct Announced<'a> {
    pub(crate) turn: usize,
    pub(crate) emitter: &'a Emitter,
    pub(crate) calls: TurnCalls<'a>,
}

impl Announced<'_> {
    /// Takes a part of the model's answer in.
    pub(crate) async fn take(
        &mut self,
        part: StreamPart,
        early: &mut Option<EarlyCalls<'_>>,
    ) -> Result<(), ChatError> {
        let turn = self.turn;
        match part {
            StreamPart::Text(text) if !text.is_empty() => {
                self.emitter
                    .emit(|| ChatEvent::TextDelta { turn, text })
                    .await?;
            }
            StreamPart::Refusal(text) if !text.is_empty() => {
                self.emitter
                    .emit(|| ChatEvent::RefusalDelta { turn, text })
                    .await?;
            }
            StreamPart::Text(_) | StreamPart::Refusal(_) => {}
            StreamPart::CallDone(call) => {
                for index in self.calls.add(call) {
                    announce(self.emitter, turn, index, &self.calls.batch[index]).await?;
                }
                if let Some(early) = early {
                    early.send(&self.calls, self.emitter).await?;
                }
            }
            StreamPart::CallReopened => {
                if let Some(early) = early {
                    let reason = "more of a call arrived after the next one had begun";
                    early.abandon(reason, self.emitter).await?;
                }
            }
        }
        Ok(())
    }
}

/// Tells that the model has finished a call.
pub(crate) async fn announce(
    emitter: &Emitter,
    turn: usize,
    index: usize,
    call: &ToolCall,
) -> Result<(), HookError> {
    emitter
        .emit(|| ChatEvent::CallReady {
            turn,
            index,
            call: call.clone(),
        })
        .await
}
