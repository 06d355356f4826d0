//! `virtual_server` and `virtual_server_group`.
//!
//! Blocks are read and built as they come, but for the services of a group, which may stand behind
//! them.

mod advice;
mod build;
mod draft;
mod frontend;
mod group;
mod overlap;
mod quorum;
mod real_server;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checker;
use super::context::Context;
use super::global::Globals;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::model::{Config, Frontend, ServiceGroup, ServiceKey, Ssl, VirtualServer};
use crate::config::places::{Places, ServicePlaces};
use crate::config::source::Span;
use draft::Draft;

/// The services of a file.
#[derive(Debug, Default)]
pub(super) struct Services {
    list: Vec<Entry>,
    groups: BTreeMap<String, Group>,
    ssl: Ssl,
}

/// A `virtual_server`.
#[derive(Debug)]
enum Entry {
    Built(Box<(VirtualServer, ServicePlaces)>),
    /// Its group may be yet to come.
    Waiting(Box<Draft>),
}

/// A `virtual_server_group`.
#[derive(Debug)]
struct Group {
    /// `None` when nothing in it could be used.
    model: Option<Arc<ServiceGroup>>,
    /// Its keyword and name.
    head: Span,
    /// Of each member.
    lines: Vec<Span>,
    used: bool,
}

/// What all services inherit.
#[derive(Clone, Copy, Debug)]
struct Defaults {
    smtp_alert: Option<bool>,
    timers: checker::Timers,
}

impl Defaults {
    fn of(globals: &Globals) -> Self {
        Self {
            smtp_alert: globals.smtp_alert_checker.or(globals.smtp_alert),
            timers: checker::Timers::logging_all(globals.model.log_all_failures),
        }
    }
}

/// Where each service was defined first.
#[derive(Debug, Default)]
struct Heads(BTreeMap<ServiceKey, Span>);

impl Services {
    /// Takes the block if it is one of a service; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        globals: &Globals,
        keyword: &Keyword,
        block: &Statement,
    ) -> bool {
        match keyword.name {
            "virtual_server" => self.add(context, globals, block),
            "virtual_server_group" => self.add_group(context, block),
            "SSL" => checker::ssl(context, block, &mut self.ssl),
            _ => return false,
        }
        true
    }

    fn add(&mut self, context: &mut Context<'_>, globals: &Globals, block: &Statement) {
        let Some(draft) = Draft::read(context, block) else {
            return;
        };
        if draft.is_of_a_group() {
            self.list.push(Entry::Waiting(Box::new(draft)));
            return;
        }
        let built = draft.build(context, &mut self.groups, Defaults::of(globals));
        let built = built.map(|built| Entry::Built(Box::new(built)));
        self.list.extend(built);
    }

    fn add_group(&mut self, context: &mut Context<'_>, block: &Statement) {
        let Some(name) = block.values.first() else {
            return;
        };
        if let Some(first) = self.groups.get(&name.text) {
            let line = context.line(first.head);
            context.push(
                Diagnostic::warning(
                    Code::Duplicate,
                    format!(
                        "the virtual_server_group {} is defined twice",
                        quote(&name.text)
                    ),
                )
                .at(
                    block.head(),
                    format!("ignored: the one on line {line} counts"),
                )
                .at(first.head, "defined here first")
                .help("put all addresses into one block, or give this one its own name"),
            );
            return;
        }
        let group = group::read(context, block, &name.text);
        self.groups.insert(name.text.clone(), group);
    }

    pub(super) fn finish(
        mut self,
        context: &mut Context<'_>,
        globals: &Globals,
        config: &mut Config,
        places: &mut Places,
    ) {
        let mut heads = Heads::default();
        for entry in std::mem::take(&mut self.list) {
            let built = match entry {
                Entry::Built(built) => Some(*built),
                Entry::Waiting(draft) => {
                    draft.build(context, &mut self.groups, Defaults::of(globals))
                }
            };
            let Some((service, place)) = built else {
                continue;
            };
            if heads.are_new(context, &service.frontend, place.head) {
                config.virtual_servers.push(service);
                places.services.push(place);
            }
        }
        config.ssl = self.ssl;
        for (name, group) in self.groups.iter().filter(|(_, group)| !group.used) {
            context.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    format!("the virtual_server_group {} is not used", quote(name)),
                )
                .at(group.head, "no 'virtual_server group' names it"),
            );
        }
        overlap::check(context, config, places);
        advice::check(context, config, places);
    }
}

impl Heads {
    /// Whether no service before had this frontend; if one had, says so.
    fn are_new(&mut self, context: &mut Context<'_>, frontend: &Frontend, head: Span) -> bool {
        let key = frontend.key();
        let Some(first) = self.0.insert(key, head) else {
            return true;
        };
        let line = context.line(first);
        context.push(
            Diagnostic::error(
                Code::Duplicate,
                format!("the virtual server {key} is defined twice"),
            )
            .at(head, format!("already defined on line {line}"))
            .at(first, "defined here first")
            .help("put all its real servers into one block, or give this one its own port or protocol"),
        );
        false
    }
}
