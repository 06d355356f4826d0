//! Which checks rest: a task that compares `ha_suspend` with the addresses of this host.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};

use crate::config::model::ServiceKey;
use crate::health::monitor::Input;
use crate::health::target::{Suspendable, resting};
use crate::plan::table::Network;

/// Tells the machine whenever it changes; `told` is what it knows. Ends with either sender or with the
/// machine.
pub(super) async fn follow(
    mut suspendable: watch::Receiver<Suspendable>,
    mut network: watch::Receiver<Network>,
    mut told: BTreeSet<ServiceKey>,
    inputs: mpsc::WeakSender<Input>,
) {
    loop {
        let rests = resting(
            &suspendable.borrow_and_update(),
            &network.borrow_and_update(),
        );
        if rests != told {
            told.clone_from(&rests);
            let Some(inputs) = inputs.upgrade() else {
                return;
            };
            if inputs.send(Input::Resting(rests)).await.is_err() {
                return;
            }
        }
        let changed = tokio::select! {
            changed = suspendable.changed() => changed,
            changed = network.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
