//! When an RPC may be sent again, and after how long.

use std::time::Duration;

use tokio::time::Instant;

use crate::RpcError;

/// A sidecar that restarts serves again within their pauses, 2.5 to 5 seconds together.
pub(crate) const DEFAULT_RETRIES: u32 = 6;

const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The attempts of one RPC, within its deadline.
pub(crate) struct Attempts {
    left: u32,
    deadline: Option<Instant>,
    backoff: Duration,
    may_have_started: bool,
    /// Whether sending again is harmless even if the RPC was received.
    pub(crate) repeatable: bool,
}

impl Attempts {
    /// # Arguments
    ///
    /// * `retries`: most attempts after the first.
    /// * `timeout`: time for all attempts together; None for no bound.
    pub(crate) fn new(retries: u32, timeout: Option<Duration>) -> Self {
        Self {
            left: retries,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            backoff: INITIAL_BACKOFF,
            may_have_started: false,
            repeatable: false,
        }
    }

    /// For an RPC that changes nothing.
    pub(crate) fn harmless(retries: u32, timeout: Option<Duration>) -> Self {
        Self {
            repeatable: true,
            ..Self::new(retries, timeout)
        }
    }

    /// Says that an earlier RPC may have started what this one asks for.
    pub(crate) fn after_earlier_send(mut self) -> Self {
        self.may_have_started = true;
        self
    }

    /// Whether something may have been started by what was sent so far.
    pub(crate) fn may_have_started(&self) -> bool {
        self.may_have_started
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long to wait before the next attempt; None: the error is final.
    ///
    /// The error then speaks of all attempts: where an earlier one may have started calls, it
    /// is no longer `not_started`.
    pub(crate) fn delay(&mut self, error: &mut RpcError) -> Option<Duration> {
        self.delay_with(error, random_unit())
    }

    fn delay_with(&mut self, error: &mut RpcError, jitter: f64) -> Option<Duration> {
        self.may_have_started |= !error.not_started;
        error.not_started = !self.may_have_started;
        let harmless = error.not_started || self.repeatable;
        if self.left == 0 || !error.is_transient() || !harmless {
            return None;
        }
        self.left -= 1;
        // Half of it is sure: pauses of next to nothing would be over before a restart is.
        let mut delay = self.backoff.mul_f64(f64::midpoint(1.0, jitter));
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        delay += error.retry_after().unwrap_or_default();
        match self.deadline {
            Some(deadline) if Instant::now() + delay >= deadline => None,
            _ => Some(delay),
        }
    }
}

/// A number from [0, 1), drawn at random.
pub(crate) fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    // Without a source of randomness all clients pause alike, which costs no correctness.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn lost() -> RpcError {
        RpcError::new(Code::Unavailable, "lost")
    }

    fn refused() -> RpcError {
        lost().before_sending()
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut attempts = Attempts::new(6, None);
        let delays: Vec<_> = std::iter::from_fn(|| attempts.delay_with(&mut refused(), 1.0))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000]);
    }

    #[test]
    fn half_of_a_pause_is_sure() {
        let mut attempts = Attempts::new(1, None);
        let delay = attempts.delay_with(&mut refused(), 0.0);
        assert_eq!(delay, Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_may_have_started_is_not_repeated() {
        let mut attempts = Attempts::new(6, None);
        assert_eq!(attempts.delay(&mut lost()), None);
        let mut attempts = Attempts::harmless(6, None);
        assert!(attempts.delay(&mut lost()).is_some());
    }

    #[test]
    fn an_error_speaks_of_all_attempts() {
        let mut attempts = Attempts::harmless(6, None);
        attempts.delay(&mut lost());
        let mut last = refused();
        attempts.delay(&mut last);
        assert!(!last.not_started());
        assert!(attempts.may_have_started());
    }

    #[test]
    fn what_waiting_does_not_change_is_final() {
        let mut attempts = Attempts::harmless(6, None);
        let mut invalid = RpcError::new(Code::InvalidArgument, "no").before_sending();
        assert_eq!(attempts.delay(&mut invalid), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_goes_past_the_deadline() {
        let mut attempts = Attempts::new(6, Some(Duration::from_millis(120)));
        assert!(attempts.delay_with(&mut refused(), 1.0).is_some());
        assert_eq!(attempts.delay_with(&mut refused(), 1.0), None);
    }
}
