//! Which VIPs this director owns.
//!
//! There is no election yet: an instance with `state MASTER` owns its VIPs, any other does not.

use crate::config::model::{Config, InitialState};
use crate::plan::table::Ownership;

/// The instances this director is MASTER for.
pub fn ownership(config: &Config) -> Ownership {
    let owned = |state| match state {
        InitialState::Master => true,
        InitialState::Backup => false,
    };
    let instances = config.vrrp_instances.iter();
    instances
        .map(|instance| (instance.name.clone(), owned(instance.initial_state)))
        .collect()
}
