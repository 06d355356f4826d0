//! Metrics of VRRP instances. What only an election knows has no series while an instance takes part
//! in none.

use std::collections::BTreeSet;
use std::fmt::Error;

use prometheus_client::encoding::DescriptorEncoder;

use super::collector::Family;
use super::table::{self, Metric};
use crate::control::snapshot::vrrp::{Election, VrrpInstance, VrrpState};
use crate::vrrp::packet::refusal::Kind;

/// A metric and how to read it off an election.
type ValueOf = (&'static Metric, fn(&Election) -> u64);

const VALUES: [ValueOf; 9] = [
    (&table::VRRP_PRIORITY, |e| u64::from(e.priority)),
    (&table::VRRP_TRANSITIONS, |e| e.counters.transitions),
    (&table::VRRP_BECAME_MASTER, |e| e.counters.became_master),
    (&table::VRRP_ADVERTS_SENT, |e| e.counters.adverts_sent),
    (&table::VRRP_ADVERTS_RECEIVED, |e| {
        e.counters.adverts_received
    }),
    (&table::VRRP_PRIORITY_ZERO_SENT, |e| {
        e.counters.priority_zero_sent
    }),
    (&table::VRRP_PRIORITY_ZERO_RECEIVED, |e| {
        e.counters.priority_zero_received
    }),
    (&table::VRRP_OTHER_MASTERS, |e| e.counters.other_masters),
    (&table::VRRP_LATE, |e| e.counters.late),
];

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    instances: &[VrrpInstance],
) -> Result<(), Error> {
    let instances = by_name(instances);
    encode_state(encoder, &instances)?;
    let elections: Vec<(&str, &Election)> = instances
        .iter()
        .filter_map(|instance| Some((instance.name.as_str(), instance.election.as_ref()?)))
        .collect();
    for (metric, value) in VALUES {
        let mut family = Family::begin(encoder, metric)?;
        for &(name, election) in &elections {
            family.sample(&[("instance_name", name)], value(election))?;
        }
    }
    let mut family = Family::begin(encoder, &table::VRRP_STATE_AGE)?;
    for &(name, election) in &elections {
        family.seconds_of(&[("instance_name", name)], election.state_age_ms)?;
    }
    let mut family = Family::begin(encoder, &table::VRRP_ADVERT_ERRORS)?;
    for &(name, election) in &elections {
        for kind in Kind::ALL {
            let labels = [("instance_name", name), ("reason", kind.label())];
            family.sample(&labels, refused(election, *kind))?;
        }
    }
    let mut family = Family::begin(encoder, &table::VRRP_ADVERT_DIFFERENCES)?;
    for &(name, election) in &elections {
        let counters = &election.counters;
        for (difference, count) in [
            ("address_list", counters.address_list_differs),
            ("interval", counters.interval_differs),
        ] {
            let labels = [("instance_name", name), ("difference", difference)];
            family.sample(&labels, count)?;
        }
    }
    Ok(())
}

/// Of several of one name the first: while a reload changes the VRID of an instance the old one is
/// still about to leave, and a series must not be there twice.
fn by_name(instances: &[VrrpInstance]) -> Vec<&VrrpInstance> {
    let mut names = BTreeSet::new();
    let mut all: Vec<&VrrpInstance> = instances.iter().collect();
    all.retain(|instance| names.insert(instance.name.as_str()));
    all
}

fn encode_state(
    encoder: &mut DescriptorEncoder<'_>,
    instances: &[&VrrpInstance],
) -> Result<(), Error> {
    let mut family = Family::begin(encoder, &table::VRRP_STATE)?;
    for instance in instances {
        for state in VrrpState::ALL {
            let labels = [
                ("instance_name", instance.name.as_str()),
                ("state", state.name()),
            ];
            family.sample(&labels, u64::from(instance.state == state))?;
        }
    }
    let mut family = Family::begin(encoder, &table::VRRP_BASE_PRIORITY)?;
    for instance in instances {
        let labels = [("instance_name", instance.name.as_str())];
        family.sample(&labels, u64::from(instance.base_priority))?;
    }
    Ok(())
}

fn refused(election: &Election, kind: Kind) -> u64 {
    let mut all = election.refused.iter();
    let found = all.find(|refused| refused.reason == kind.label());
    found.map_or(0, |refused| refused.count)
}
