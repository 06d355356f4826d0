//! VRRP: instances, their groups, and what they track.
//!
//! Blocks are read in the order of the file, for what an instance tracks must be defined above it, as
//! keepalived has it. Once all were read, defaults are filled in and instances are checked against
//! each other.

mod address;
mod authentication;
mod build;
mod checks;
mod defaults;
mod garp;
mod group;
mod host;
mod instance;
mod notify;
mod objects;
mod route;
mod trackers;
mod transport;
mod virtual_interface;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::context::Context;
use super::global::Globals;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::model::{Config, VrrpInstance};
use crate::config::places::Places;
use crate::config::source::Span;
use group::{GroupDraft, Member};
use host::Host;
use instance::Draft;
use objects::Objects;
use trackers::Unknown;

pub(super) use defaults::Defaults;

/// All of VRRP in a file.
#[derive(Debug, Default)]
pub(super) struct Vrrp {
    objects: Objects,
    instances: Vec<Draft>,
    groups: Vec<GroupDraft>,
    /// Names of instances, groups and track groups, usable or not, and where they stand.
    names: BTreeMap<(&'static str, String), Span>,
    /// Blocks that need the defaults or the instances.
    later: Vec<(&'static str, Statement)>,
    unknown: Vec<Unknown>,
}

impl Vrrp {
    /// Takes the block if it is one of VRRP's; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        block: &Statement,
    ) -> bool {
        if self.objects.take(context, keyword, block) {
            return true;
        }
        match keyword.name {
            "vrrp_instance" => {
                if let Some(name) = self.new_name(context, keyword.name, block) {
                    let (objects, unknown) = (&self.objects, &mut self.unknown);
                    let draft = Draft::read(context, block, name, objects, unknown);
                    self.instances.push(draft);
                }
            }
            "vrrp_sync_group" => {
                if let Some(name) = self.new_name(context, keyword.name, block) {
                    let (objects, unknown) = (&self.objects, &mut self.unknown);
                    let group = GroupDraft::read(context, block, name, objects, unknown);
                    self.groups.push(group);
                }
            }
            "track_group" => {
                if self.new_name(context, keyword.name, block).is_some() {
                    self.later.push((keyword.name, block.clone()));
                }
            }
            "static_ipaddress"
            | "static_routes"
            | "static_rules"
            | "garp_group"
            | "interface_up_down_delays" => self.later.push((keyword.name, block.clone())),
            _ => return false,
        }
        true
    }

    /// The name of a block, unless another one of its kind has it, which it says.
    fn new_name<'s>(
        &mut self,
        context: &mut Context<'_>,
        kind: &'static str,
        block: &'s Statement,
    ) -> Option<&'s Word> {
        let name = block.values.first()?;
        match self.names.entry((kind, name.text.clone())) {
            Entry::Vacant(place) => {
                place.insert(name.span);
                Some(name)
            }
            Entry::Occupied(first) => {
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!("{kind} {} is defined twice", quote(&name.text)),
                    )
                    .at(name.span, "this one is skipped, as keepalived does")
                    .at(*first.get(), "defined here first"),
                );
                None
            }
        }
    }

    /// Fills in the defaults and checks instances against each other.
    pub(super) fn finish(
        self,
        context: &mut Context<'_>,
        globals: &Globals,
        config: &mut Config,
        places: &mut Places,
    ) {
        for unknown in &self.unknown {
            unknown.report(context, &self.objects);
        }
        let mail = globals
            .smtp_alert_vrrp
            .or(globals.smtp_alert)
            .unwrap_or(false);
        let mut bases = Vec::new();
        for draft in self.instances {
            let base = draft.base();
            if let Some((instance, place)) = draft.build(context, &globals.vrrp, mail) {
                config.vrrp_instances.push(instance);
                places.instances.push(place);
                bases.push(base);
            }
        }
        let instances = &mut config.vrrp_instances;
        virtual_interface::tell_apart(instances);
        let member = |(index, instance): (usize, &VrrpInstance)| {
            (instance.name.clone(), Member { index, group: None })
        };
        let mut roll: BTreeMap<String, Member> = instances.iter().enumerate().map(member).collect();
        for group in self.groups {
            let changes = globals.vrrp.priority_changes;
            let built = group.build(context, instances, &mut roll, mail, changes);
            config.sync_groups.extend(built);
        }
        checks::check(context, config, places, &bases);
        config.scripts = self.objects.scripts;
        config.track_files = self.objects.files;
        config.track_processes = self.objects.processes;
        config.announcements = globals.vrrp.announcements.clone();
        let mut host = Host::new(&globals.vrrp);
        for (keyword, block) in &self.later {
            match (*keyword, block.values.first()) {
                ("track_group", Some(name)) => {
                    let group = group::track_group(context, block, name, &roll);
                    host.track_groups
                        .extend(group.iter().map(|group| group.name.clone()));
                    config.track_groups.extend(group);
                }
                (keyword, _) => host.read(context, keyword, block, config),
            }
        }
    }
}
