//! Answers what operators ask about decisions, beside the agent: it goes on as if nobody asked.
//!
//! [`trace`] has the program say what would become of a packet, [`capture`] shows what becomes of those
//! that come. Both need the program in the kernel once more, and let go of it when nobody asks any more.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::control::Snapshots;
use crate::control::looks::Looked;
use crate::dataplane::decision::Lens;

mod capture;
mod trace;

/// How the packet path can be looked at; `None` if it cannot.
pub type Seen = Option<Arc<dyn Lens>>;

/// What is said where it cannot.
const BLIND: &str = "the packet path of this agent cannot be looked at; see its log";

/// Answers until nobody can ask any more.
pub async fn answer(looked: Looked, seen: Seen, snapshots: Snapshots) {
    let Looked { traces, captures } = looked;
    let lens = seen.clone();
    let shown = spawn_blocking(move || capture::run(captures, &lens));
    trace::run(traces, seen, snapshots).await;
    // However it ended: nobody is shown anything any more.
    drop(shown.await);
}
