//! Shows that the thread of the elections lives.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long the thread waits at most when nothing happens.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A thread that has not turned for so long hangs. It is a real-time one: a busy host alone does not
/// keep it for that long.
const PATIENCE: Duration = Duration::from_secs(3);

/// The turns of the thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// One more.
    pub(super) fn count(&self) {
        // No other memory depends on it.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Says, asked at least once a second, whether the thread still turns. After a pause of the whole
    /// process it says no until the thread has turned again: by then it has heard who else is master.
    pub(super) fn go_on(&self) -> impl Fn() -> bool + Send + 'static {
        let turns = self.0.clone();
        let last = Cell::new((0, Instant::now()));
        move || {
            let (count, now) = (turns.load(Ordering::Relaxed), Instant::now());
            let (counted, since) = last.get();
            if count != counted {
                last.set((count, now));
                return true;
            }
            now - since <= PATIENCE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_turns_now_and_then_lives() {
        let turns = Turns::default();
        let go_on = turns.go_on();
        for _ in 0..20 {
            turns.count();
            assert!(go_on());
            tokio::time::advance(Duration::from_millis(2900)).await;
            assert!(go_on());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_hangs_is_noticed_until_it_turns_again() {
        let turns = Turns::default();
        turns.count();
        let go_on = turns.go_on();
        assert!(go_on());
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        assert!(!go_on());
        assert!(!go_on());
        turns.count();
        assert!(go_on());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_never_turned_is_given_time() {
        let turns = Turns::default();
        let go_on = turns.go_on();
        assert!(go_on());
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        assert!(!go_on());
    }
}
