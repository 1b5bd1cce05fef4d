//! How long a host waits before it attaches again.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::random_unit;

const INITIAL: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);
/// An attachment that lasted for so long begins the pauses anew.
const STEADY: Duration = Duration::from_secs(10);

/// Pauses with exponential backoff and full jitter.
pub(crate) struct Backoff {
    bound: Duration,
    attached: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            bound: INITIAL,
            attached: None,
        }
    }

    /// Says that an attempt had success.
    pub(crate) fn attached(&mut self) {
        self.attached = Some(Instant::now());
    }

    /// Time until the next attempt; what the sidecar asked for is waited for in full.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        self.next_with(retry_after, random_unit())
    }

    fn next_with(&mut self, retry_after: Option<Duration>, jitter: f64) -> Duration {
        if self
            .attached
            .take()
            .is_some_and(|since| since.elapsed() >= STEADY)
        {
            self.bound = INITIAL;
        }
        let pause = self.bound.mul_f64(jitter);
        self.bound = (self.bound * 2).min(MAX);
        pause + retry_after.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_begin_anew_after_a_steady_attachment() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..8)
            .map(|_| backoff.next_with(None, 1.0).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.attached();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(backoff.next_with(None, 1.0), MAX);
        backoff.attached();
        tokio::time::advance(STEADY).await;
        assert_eq!(backoff.next_with(Some(MAX), 1.0), MAX + INITIAL);
    }
}
