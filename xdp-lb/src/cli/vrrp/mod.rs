//! `xdp-lb vrrp`: who is master, since when, and why.

use std::fmt::{Error, Write};
use std::time::Duration;

use super::output;
use super::time::{Moment, age, ago};
use crate::control::client;
use crate::control::protocol::Verb;
use crate::control::snapshot::vrrp::{Election, VrrpHeard, VrrpInstance, VrrpState};

mod json;
#[cfg(test)]
mod tests;

pub(super) use json::InstanceView;

/// Show VRRP instances: who is master, since when and why
#[derive(Clone, Debug, Default, clap::Args)]
pub struct VrrpArgs {
    /// Print JSON
    #[arg(long, long_help = json::HELP)]
    pub json: bool,
}

/// Runs the command.
pub fn run(instance: &str, args: &VrrpArgs) -> anyhow::Result<()> {
    let snapshot = client::ask(instance, Verb::Vrrp)?;
    let (instances, now) = (&snapshot.vrrp_instances, Moment::now());
    let text = if args.json {
        json::render(instances, now)?
    } else {
        screen(instances, now)?
    };
    output::data(&text)
}

fn screen(instances: &[VrrpInstance], now: Moment) -> Result<String, Error> {
    if instances.is_empty() {
        return Ok(
            "the configuration has no vrrp_instance: virtual services are balanced wherever \
                   their packets arrive\n"
                .to_owned(),
        );
    }
    let mut out = String::new();
    for (nth, instance) in instances.iter().enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        headline(&mut out, instance, now)?;
        for (name, facts) in facts(instance) {
            for (nth, fact) in facts.iter().enumerate() {
                let name = if nth == 0 { name } else { "" };
                writeln!(out, "    {name:<14} {fact}")?;
            }
        }
    }
    Ok(out)
}

fn headline(out: &mut String, instance: &VrrpInstance, now: Moment) -> Result<(), Error> {
    write!(out, "{}: {}", instance.name, instance.state.name())?;
    let Some(election) = &instance.election else {
        return writeln!(out);
    };
    if election.leaving {
        out.push_str(", handing over,");
    }
    let age = election.state_age_ms;
    write!(out, " since {} ({})", now.before(age), ago(age))?;
    match &election.reason {
        Some(reason) => writeln!(out, ": {reason}"),
        None => writeln!(out),
    }
}

/// What there is to say of an instance: names, and one or more lines for each.
fn facts(instance: &VrrpInstance) -> Vec<(&'static str, Vec<String>)> {
    let mut facts = Vec::new();
    let election = instance.election.as_ref();
    if let Some(election) = election {
        facts.push(("master", vec![master(instance.state, election)]));
    }
    facts.push(("priority", vec![priority(instance)]));
    facts.push(("interface", vec![interface(instance)]));
    facts.push(("VIPs", vips(&instance.vips)));
    match election {
        Some(election) => history(election, &mut facts),
        None => facts.push(("election", vec!["it takes part in none".to_owned()])),
    }
    facts
}

fn master(state: VrrpState, election: &Election) -> String {
    match (election.master, election.last_master) {
        (Some(master), _) if state == VrrpState::Master => format!("{master} (this director)"),
        (Some(master), Some(heard)) if heard.address == master => of_heard(&heard),
        (Some(master), _) => master.to_string(),
        (None, _) => "not known".to_owned(),
    }
}

fn of_heard(heard: &VrrpHeard) -> String {
    let VrrpHeard {
        address,
        priority,
        age_ms,
        ..
    } = heard;
    format!("{address}, priority {priority}, heard {}", ago(*age_ms))
}

/// `99 (base 101)`; where trackers change nothing, the one number.
pub(super) fn priority(instance: &VrrpInstance) -> String {
    let base = instance.base_priority;
    match &instance.election {
        Some(election) if election.priority != base => {
            format!("{} (base {base})", election.priority)
        }
        Some(_) | None => base.to_string(),
    }
}

fn interface(instance: &VrrpInstance) -> String {
    let VrrpInstance {
        interface,
        vrid,
        version,
        ..
    } = instance;
    let mut line = format!("{interface}, VRID {vrid}, version {version}");
    if let Some(election) = &instance.election {
        let every = Duration::from_millis(election.advert_interval_ms).as_secs_f64();
        let group = election.group.map(|group| group.to_string());
        let peers = election.peers.iter().map(ToString::to_string);
        let to: Vec<String> = group.into_iter().chain(peers).collect();
        let advert = format!(
            ", advert every {every} s from {} to {}",
            election.source,
            to.join(" ")
        );
        line.push_str(&advert);
    }
    line
}

/// A few in a line.
fn vips(vips: &[String]) -> Vec<String> {
    match vips {
        [] => vec!["none".to_owned()],
        _ => vips.chunks(4).map(|vips| vips.join(" ")).collect(),
    }
}

fn history(election: &Election, facts: &mut Vec<(&'static str, Vec<String>)>) {
    let counters = &election.counters;
    facts.push(("transitions", vec![counters.transitions.to_string()]));
    let adverts = format!(
        "{} sent, {} received",
        counters.adverts_sent, counters.adverts_received
    );
    facts.push(("adverts", vec![adverts]));
    let mut differ = Vec::new();
    if counters.address_list_differs > 0 {
        let count = counters.address_list_differs;
        differ.push(format!(
            "{count} received with other VIPs: make virtual_ipaddress equal"
        ));
    }
    if counters.interval_differs > 0 {
        let count = counters.interval_differs;
        differ.push(format!(
            "{count} received with another interval: make advert_int equal"
        ));
    }
    facts.push(("differences", differ));
    let refused = election.refused.iter().map(|refused| {
        let from = refused.last_sender.map(|sender| format!(" from {sender}"));
        let (count, reason, error) = (refused.count, &refused.reason, &refused.last_error);
        let (from, ago) = (from.unwrap_or_default(), ago(refused.age_ms));
        format!("{count} {reason}, the last{from} {ago}: {error}")
    });
    facts.push(("refused", refused.collect()));
    let others = election.other_master.as_ref().map(|heard| {
        let count = counters.other_masters;
        format!(
            "{count} adverts while MASTER, the last from {}",
            of_heard(heard)
        )
    });
    facts.push(("other masters", others.into_iter().collect()));
    let late = (counters.late > 0).then(|| {
        format!(
            "{}: too busy to advertise in time while MASTER",
            times(counters.late)
        )
    });
    facts.push(("late", late.into_iter().collect()));
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// For how long an instance has been in its state; nothing where that is not known.
pub(super) fn state_age(instance: &VrrpInstance) -> String {
    let election = instance.election.as_ref();
    election.map_or_else(String::new, |election| {
        format!("for {}", age(Duration::from_millis(election.state_age_ms)))
    })
}
