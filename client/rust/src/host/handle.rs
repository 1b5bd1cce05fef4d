//! A host that serves.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    RpcError,
    connection::Connection,
    host::{attachment::Attachment, backoff::Backoff, builder::ToolHostBuilder, calls::Tools},
    v1::HostAttach,
};

#[derive(Clone, Debug)]
enum State {
    Attaching,
    Attached,
    Closed,
    Refused(RpcError),
}

/// Everything that an attachment needs.
pub(crate) struct Setup {
    pub(crate) connection: Connection,
    pub(crate) attach: HostAttach,
    pub(crate) tools: Arc<Tools>,
    pub(crate) drain_timeout: Duration,
}

/// Offers functions of this process as tools of a sidecar.
///
/// It attaches to the sidecar, runs the calls that the sidecar sends, and attaches again by itself
/// when the connection is lost. Close it to let calls in hand end; dropping it drops them too.
///
/// ```no_run
/// # async fn example() -> Result<(), sidecall::BoxError> {
/// use serde_json::{Value, json};
/// use sidecall::{BoxError, Client, HostedTool, ToolContext, ToolHost, v1::Effects};
///
/// let now = |_: Value, _: ToolContext| async { Ok::<_, BoxError>("noon") };
/// let tool = HostedTool::new("clock", "Tells the time.", &json!({"type": "object"}), now)
///     .effects(Effects::ReadOnly);
/// let host = ToolHost::builder("my-app").tool(tool).start(&Client::new()?)?;
/// host.serve_until(async { tokio::signal::ctrl_c().await.unwrap() }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ToolHost {
    state: watch::Receiver<State>,
    closing: CancellationToken,
    serving: AbortHandle,
}

impl ToolHost {
    /// Begins to make a host; the name of the application is for people.
    pub fn builder(name: impl Into<String>) -> ToolHostBuilder {
        ToolHostBuilder::new(name.into())
    }

    pub(crate) fn start(setup: Setup) -> Self {
        let (tell, state) = watch::channel(State::Attaching);
        let closing = CancellationToken::new();
        let serving = tokio::spawn(stay_attached(setup, tell, closing.clone()));
        Self {
            state,
            closing,
            serving: serving.abort_handle(),
        }
    }

    /// Whether the sidecar offers its tools at present.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(*self.state.borrow(), State::Attached)
    }

    /// Waits until the sidecar offers its tools.
    ///
    /// # Errors
    ///
    /// The sidecar has refused the host for good, or the host is closed.
    pub async fn wait_until_attached(&self) -> Result<(), RpcError> {
        let mut state = self.state.clone();
        let reached = state
            .wait_for(|state| !matches!(state, State::Attaching))
            .await
            .map_or(State::Closed, |reached| reached.clone());
        match reached {
            State::Attached | State::Attaching => Ok(()),
            State::Refused(error) => Err(error),
            State::Closed => {
                let text = "the tool host is closed";
                Err(RpcError::new(Code::FailedPrecondition, text))
            }
        }
    }

    /// Waits until it serves no more.
    ///
    /// # Errors
    ///
    /// The sidecar has refused the host for good.
    pub async fn wait_closed(&self) -> Result<(), RpcError> {
        let mut state = self.state.clone();
        let ended = state
            .wait_for(|state| matches!(state, State::Closed | State::Refused(_)))
            .await
            .map_or(State::Closed, |ended| ended.clone());
        match ended {
            State::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Drains: no more calls, and those in hand end, for at most the drain timeout.
    ///
    /// # Errors
    ///
    /// The sidecar had refused the host for good.
    pub async fn close(self) -> Result<(), RpcError> {
        self.closing.cancel();
        self.wait_closed().await
    }

    /// Serves until a future completes, which drains it, or until it is refused for good.
    ///
    /// # Errors
    ///
    /// The sidecar has refused the host for good.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RpcError> {
        tokio::select! {
            ended = self.wait_closed() => return ended,
            () = shutdown => {}
        }
        self.close().await
    }
}

impl Drop for ToolHost {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Attaches, and attaches again, until it is closed or refused for good.
async fn stay_attached(setup: Setup, tell: watch::Sender<State>, closing: CancellationToken) {
    let mut backoff = Backoff::new();
    let mut told = false;
    while !closing.is_cancelled() {
        let _ = tell.send(State::Attaching);
        let attach = setup.attach.clone();
        let attached = tokio::select! {
            attached = Attachment::attach(&setup.connection, attach, setup.tools.clone()) => attached,
            () = closing.cancelled() => break,
        };
        let ended = match attached {
            Ok(attachment) => {
                backoff.attached();
                let _ = tell.send(State::Attached);
                tracing::info!("the tool host is attached");
                told = false;
                attachment.serve(&closing, setup.drain_timeout).await
            }
            Err(error) => Err(error),
        };
        let retry_after = match ended {
            Err(error) if is_refusal(&error) => {
                tracing::error!(%error, "the sidecar refuses the tool host");
                let _ = tell.send(State::Refused(error));
                return;
            }
            Err(error) => {
                // Once is enough: a sidecar may be away for hours.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "the tool host is not attached and tries again");
                }
                error.retry_after()
            }
            Ok(()) => None,
        };
        let _ = tell.send(State::Attaching);
        let pause = backoff.next(retry_after);
        tokio::select! {
            () = sleep(pause) => {}
            () = closing.cancelled() => {}
        }
    }
    let _ = tell.send(State::Closed);
}

/// Whether attaching again would change nothing.
fn is_refusal(error: &RpcError) -> bool {
    match error.code() {
        // The offer is larger than a message may be.
        Code::ResourceExhausted => error.reason().is_empty(),
        Code::AlreadyExists
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => true,
        _ => false,
    }
}
