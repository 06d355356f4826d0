//! What belongs to the director and not to an instance: static addresses, routes and rules, the pace
//! of announcements, delays of link changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use super::address;
use super::defaults::Defaults;
use super::route;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Scope;
use crate::config::lower::context::Context;
use crate::config::lower::value::{Tail, is_device, seconds_of};
use crate::config::model::{Config, GarpGroup, LinkDelay, StaticAddress};

const IGNORED: &str = "ignored, as keepalived does";
/// Interface of static addresses that name none.
const DEFAULT_INTERFACE: &str = "eth0";

/// What reading them in order needs to remember.
#[derive(Debug)]
pub(super) struct Host<'a> {
    defaults: &'a Defaults,
    /// Groups that were defined so far: they must stand above, as keepalived has it.
    pub(super) track_groups: BTreeSet<String>,
    addresses: BTreeSet<(IpNet, Option<String>)>,
    /// Interfaces that are in a `garp_group`.
    paced: BTreeSet<String>,
    delayed: BTreeMap<String, usize>,
}

impl<'a> Host<'a> {
    pub(super) const fn new(defaults: &'a Defaults) -> Self {
        Self {
            defaults,
            track_groups: BTreeSet::new(),
            addresses: BTreeSet::new(),
            paced: BTreeSet::new(),
            delayed: BTreeMap::new(),
        }
    }

    /// Reads a block.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        keyword: &str,
        block: &Statement,
        config: &mut Config,
    ) {
        match keyword {
            "static_ipaddress" => self.static_addresses(context, block, config),
            "static_routes" => {
                for line in block.body() {
                    if let Some((mut route, group)) = route::route(context, line, true) {
                        route.track_group = self.existing(context, group);
                        config.static_routes.push(route);
                    }
                }
            }
            "static_rules" => {
                for line in block.body() {
                    if let Some((mut rule, group)) = route::rule(context, line, true) {
                        rule.track_group = self.existing(context, group);
                        config.static_rules.push(rule);
                    }
                }
            }
            "garp_group" => {
                let group = self.garp_group(context, block);
                config.announcements.groups.extend(group);
            }
            _ => self.link_delays(context, block, &mut config.link_delays),
        }
    }

    fn static_addresses(
        &mut self,
        context: &mut Context<'_>,
        block: &Statement,
        config: &mut Config,
    ) {
        for line in block.body() {
            let Some(placed) = address::line_of(context, line, true) else {
                continue;
            };
            let mut address = placed.address;
            let default = || {
                self.defaults
                    .interface
                    .as_deref()
                    .unwrap_or(DEFAULT_INTERFACE)
            };
            address.device.get_or_insert_with(|| default().to_owned());
            if !self
                .addresses
                .insert((address.address, address.device.clone()))
            {
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!("{} stands twice in static_ipaddress", address.address),
                    )
                    .at(placed.span, "ignored"),
                );
                continue;
            }
            let track_group = self.existing(context, placed.track_group);
            config.static_addresses.push(StaticAddress {
                address,
                track_group,
            });
        }
    }

    fn existing(&self, context: &mut Context<'_>, group: Option<Word>) -> Option<String> {
        let group = group?;
        if self.track_groups.contains(&group.text) {
            return Some(group.text);
        }
        context.push(
            Diagnostic::warning(
                Code::UnknownName,
                format!("no track_group is called {}", quote(&group.text)),
            )
            .at(group.span, IGNORED)
            .help("define it above this block"),
        );
        None
    }

    fn garp_group(&mut self, context: &mut Context<'_>, block: &Statement) -> Option<GarpGroup> {
        let mut group = GarpGroup {
            interfaces: Vec::new(),
            garp_interval: None,
            na_interval: None,
        };
        for (keyword, line) in context.keywords(Scope::GarpGroup, block) {
            match keyword.name {
                "garp_interval" => {
                    group.garp_interval = pace(context, line).or(group.garp_interval);
                }
                "gna_interval" => {
                    group.na_interval = pace(context, line).or(group.na_interval);
                }
                "interface" => {
                    for word in line.values.iter().take(1) {
                        self.add_interface(context, &mut group, word);
                    }
                }
                _ => {
                    let words = line.body().iter();
                    for word in
                        words.flat_map(|line| std::iter::once(&line.keyword).chain(&line.values))
                    {
                        self.add_interface(context, &mut group, word);
                    }
                }
            }
        }
        let lacking = if group.garp_interval.is_none() && group.na_interval.is_none() {
            "'garp_interval' nor 'gna_interval'"
        } else if group.interfaces.is_empty() {
            "'interface' nor 'interfaces'"
        } else {
            return Some(group);
        };
        context.push(
            Diagnostic::warning(
                Code::Empty,
                format!("this garp_group has neither {lacking}: it is ignored"),
            )
            .at(block.keyword.span, "has no effect"),
        );
        None
    }

    fn add_interface(&mut self, context: &mut Context<'_>, group: &mut GarpGroup, word: &Word) {
        let Some(name) = context.device(word) else {
            return;
        };
        if self.paced.insert(name.clone()) {
            group.interfaces.push(name);
            return;
        }
        context.push(
            Diagnostic::warning(
                Code::Duplicate,
                format!("{} is in a garp_group already", quote(&name)),
            )
            .at(word.span, IGNORED),
        );
    }

    /// `interface_up_down_delays`: `DEVICE DOWN [UP]`.
    fn link_delays(
        &mut self,
        context: &mut Context<'_>,
        block: &Statement,
        delays: &mut Vec<LinkDelay>,
    ) {
        let longest = Duration::from_hours(1);
        for line in block.body() {
            let name = &line.keyword;
            let time = |at: usize| {
                let word = line.values.get(at)?;
                seconds_of(&word.text).filter(|time| *time <= longest)
            };
            let valid = is_device(&name.text)
                && time(0).is_some()
                && (line.values.len() < 2 || time(1).is_some());
            let (true, Some(down)) = (valid, time(0)) else {
                context.push(
                    Diagnostic::warning(
                        Code::BadValue,
                        format!("the delays of {} are not understood", quote(&name.text)),
                    )
                    .at(
                        line.head(),
                        "ignored; expected DEVICE DOWN [UP], in seconds",
                    ),
                );
                continue;
            };
            let delay = LinkDelay {
                interface: name.text.clone(),
                down,
                up: time(1).unwrap_or(Duration::ZERO),
            };
            let known = self.delayed.get(&name.text);
            if let Some(known) = known.and_then(|index| delays.get_mut(*index)) {
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!("the delays of {} are set twice", quote(&name.text)),
                    )
                    .at(line.head(), "the last ones count"),
                );
                *known = delay;
            } else {
                self.delayed.insert(name.text.clone(), delays.len());
                delays.push(delay);
            }
        }
    }
}

fn pace(context: &mut Context<'_>, line: &Statement) -> Option<Duration> {
    let range = Duration::ZERO..=Duration::from_secs(2147);
    context.seconds(line, range, Tail::Refused, IGNORED)
}
