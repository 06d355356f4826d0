//! Runs the scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::Report;
use super::scripts::{Action, Input, RunId, Scripts, Task};
use crate::agent::drive::{Clock, Effects, drive};
use crate::machine::Machine;
use crate::sys::command::run::{Output, run_until};
use crate::vrrp::group;
use crate::vrrp::priority::Kind;

/// Inputs that wait for the machine.
const WAITING: usize = 256;
/// From SIGTERM to SIGKILL, and some more.
const LAST_RUNS: Duration = Duration::from_millis(2500);

/// The running scripts. They are ended when this is dropped.
#[derive(Debug)]
pub(super) struct Runner {
    inputs: mpsc::Sender<Input>,
    settled: watch::Receiver<bool>,
    /// Closed when no script runs any more.
    alive: mpsc::Receiver<()>,
    driver: JoinHandle<()>,
}

impl Runner {
    pub(super) fn start(report: Report) -> Self {
        let (inputs, receiver) = mpsc::channel(WAITING);
        let (publish, settled) = watch::channel(false);
        let (lives, alive) = mpsc::channel(1);
        let all = CancellationToken::new();
        let effects = Running {
            report,
            outcomes: inputs.downgrade(),
            ends: BTreeMap::new(),
            _all_end: all.clone().drop_guard(),
            all,
            publish,
            lives,
        };
        let driver = drive(Scripts::default(), Clock::start(), receiver, effects);
        Self {
            inputs,
            settled,
            alive,
            driver: tokio::spawn(driver),
        }
    }

    pub(super) async fn configure(&self, tasks: Vec<Task>) {
        // The machine is gone only by a defect, which its own panic tells of.
        self.inputs.send(Input::Configure(tasks)).await.ok();
    }

    pub(super) fn settled(&self) -> watch::Receiver<bool> {
        self.settled.clone()
    }

    /// Ends all that run and waits for that.
    pub(super) async fn stop(self) {
        let Self {
            inputs,
            mut alive,
            driver,
            ..
        } = self;
        drop(inputs);
        driver.await.ok();
        // Whoever is still there by then has been killed, or is beyond anybody's reach.
        timeout(LAST_RUNS, alive.recv()).await.ok();
    }
}

struct Running {
    report: Report,
    /// Weak, so that the driver ends when [`Runner`] is dropped.
    outcomes: mpsc::WeakSender<Input>,
    ends: BTreeMap<RunId, CancellationToken>,
    all: CancellationToken,
    _all_end: DropGuard,
    publish: watch::Sender<bool>,
    lives: mpsc::Sender<()>,
}

impl Effects<Scripts> for Running {
    fn carry_out(&mut self, _: &Scripts, action: <Scripts as Machine>::Action) {
        match action {
            Action::Run(run, task) => self.start(run, *task),
            Action::End(run) => {
                if let Some(end) = self.ends.remove(&run) {
                    end.cancel();
                }
            }
            Action::Tell { name, condition } => (self.report)(group::Input::Tracked {
                kind: Kind::Script,
                name,
                condition,
            }),
            Action::Log { name, outcome } => info!("vrrp_script {name}: {outcome}"),
            Action::Settled => {
                self.publish.send_replace(true);
            }
        }
    }
}

impl Running {
    fn start(&mut self, run: RunId, task: Task) {
        let end = self.all.child_token();
        self.ends.retain(|_, end| !end.is_cancelled());
        self.ends.insert(run, end.clone());
        let (outcomes, life) = (self.outcomes.clone(), self.lives.clone());
        tokio::spawn(async move {
            let stop = async {
                tokio::select! {
                    () = sleep(task.script.timeout) => {}
                    () = end.cancelled() => {}
                }
            };
            // A check script may start the service that it finds dead: see `Output::Discard`.
            let outcome = run_until(&task.command, &[], stop, Output::Discard).await;
            if let Some(outcomes) = outcomes.upgrade() {
                outcomes.send(Input::Finished(run, outcome)).await.ok();
            }
            // So that its entry goes with it.
            end.cancel();
            drop(life);
        });
    }
}
