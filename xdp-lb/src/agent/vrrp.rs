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

/// What users of an instance must know that waits for an election.
pub fn limits(config: &Config) -> Vec<String> {
    let waiting = |state| match state {
        InitialState::Master => false,
        InitialState::Backup => true,
    };
    let instances = config.vrrp_instances.iter();
    instances
        .filter(|instance| waiting(instance.initial_state))
        .map(|instance| {
            format!(
                "vrrp_instance {} stays BACKUP and takes no VIP: this version holds no election, \
                 only `state MASTER` takes VIPs",
                instance.name
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::websocket;

    #[test]
    fn a_master_owns_its_vips_and_a_backup_says_that_it_does_not() {
        let mut config = websocket();
        assert_eq!(ownership(&config), [("VI_1".to_owned(), true)].into());
        assert!(limits(&config).is_empty());
        config.vrrp_instances[0].initial_state = InitialState::Backup;
        assert_eq!(ownership(&config), [("VI_1".to_owned(), false)].into());
        assert_eq!(limits(&config).len(), 1);
    }
}
