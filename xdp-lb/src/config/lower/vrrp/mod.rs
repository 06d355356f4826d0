//! VRRP: instances, their groups, and what they track.

mod address;
mod defaults;

use std::time::Duration;

use super::context::Context;
use super::global::Globals;
use super::value::Tail;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::{Config, InitialState, VirtualAddress, VrrpInstance};
use crate::config::places::{InstancePlaces, Places};
use crate::config::source::Span;

pub(super) use defaults::Defaults;

const DEFAULT_PRIORITY: u8 = 100;
/// The priority of the owner of the addresses (RFC 5798, 5.2.4).
const OWNER_PRIORITY: u8 = 255;
/// Characters of a password that the wire has room for (RFC 2338, 5.3.10).
const PASSWORD_LENGTH: usize = 8;
/// What `advert_int` can be.
const ADVERT_INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(255);

/// All of VRRP in a file.
#[derive(Debug, Default)]
pub(super) struct Vrrp {
    /// Each with the place of its name.
    list: Vec<(VrrpInstance, Span)>,
    /// Names that were defined, usable or not.
    names: Vec<(String, Span)>,
}

impl Vrrp {
    /// Takes the block if it is one of VRRP's; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        block: &Statement,
    ) -> bool {
        match keyword.name {
            "vrrp_instance" => self.add(context, block),
            _ => return false,
        }
        true
    }

    fn add(&mut self, context: &mut Context<'_>, block: &Statement) {
        let Some(name) = block.values.first() else {
            return;
        };
        if let Some((_, first)) = self.names.iter().find(|(known, _)| *known == name.text) {
            context.push(
                Diagnostic::warning(
                    Code::Duplicate,
                    format!("vrrp_instance {} is defined twice", quote(&name.text)),
                )
                .at(name.span, "this one is skipped, as keepalived does")
                .at(*first, "defined here first"),
            );
            return;
        }
        self.names.push((name.text.clone(), name.span));
        if let Some(instance) = Draft::read(context, block).build(context, block, name) {
            self.list.push((instance, name.span));
        }
    }

    /// Checks the instances against each other.
    pub(super) fn finish(
        self,
        context: &mut Context<'_>,
        _globals: &Globals,
        config: &mut Config,
        places: &mut Places,
    ) {
        if !self.list.is_empty() {
            context.push(
                Diagnostic::note(
                    Code::NoEffectYet,
                    "this version sends and hears no VRRP adverts: an instance with 'state MASTER' owns its addresses, one with 'state BACKUP' never does",
                )
                .help("make one director of the group MASTER, and only one"),
            );
        }
        for (index, (instance, span)) in self.list.iter().enumerate() {
            let same = |(other, _): &&(VrrpInstance, Span)| {
                other.virtual_router_id == instance.virtual_router_id
                    && other.interface == instance.interface
            };
            if let Some((other, first)) = self.list.iter().take(index).find(same) {
                context.push(
                    Diagnostic::error(
                        Code::Conflict,
                        format!(
                            "{} and {} both use virtual_router_id {} on {}",
                            quote(&other.name),
                            quote(&instance.name),
                            instance.virtual_router_id,
                            instance.interface,
                        ),
                    )
                    .at(*span, "they would take each other's adverts for their own")
                    .at(*first, "in use here")
                    .because("keepalived exits when it reads this")
                    .help("give one of them another virtual_router_id"),
                );
            }
        }
        for (instance, name) in self.list {
            config.vrrp_instances.push(instance);
            places.instances.push(InstancePlaces {
                name,
                ..InstancePlaces::default()
            });
        }
    }
}

/// What was read of an instance.
#[derive(Debug, Default)]
struct Draft {
    state: Option<InitialState>,
    interface: Option<String>,
    router_id: Option<u8>,
    priority: Option<u8>,
    addresses: Vec<VirtualAddress>,
}

impl Draft {
    fn read(context: &mut Context<'_>, block: &Statement) -> Self {
        let mut draft = Self::default();
        let mut lines = Vec::new();
        for (keyword, statement) in context.keywords(Scope::VrrpInstance, block) {
            match keyword.name {
                "virtual_ipaddress" => lines.extend(statement.body()),
                _ => draft.take(context, keyword, statement),
            }
        }
        draft.addresses = address::read(context, &lines);
        draft
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) {
        match keyword.name {
            "state" => self.state = state(context, statement),
            "interface" => {
                let word = statement.values.first();
                self.interface = word.and_then(|word| context.device(word));
            }
            "virtual_router_id" => self.router_id = router_id(context, statement),
            "priority" => {
                let instead = "100 is used, as keepalived does";
                let number = context.number(statement, 1..=255, Tail::Refused, instead);
                self.priority = number
                    .and_then(|number| u8::try_from(number).ok())
                    .or(Some(DEFAULT_PRIORITY));
            }
            "advert_int" => {
                let instead = "ignored, as keepalived does";
                context.seconds(statement, ADVERT_INTERVAL, Tail::Dropped, instead);
            }
            "authentication" => authentication(context, statement),
            _ => context.unread(keyword, statement),
        }
    }

    fn build(
        self,
        context: &mut Context<'_>,
        block: &Statement,
        name: &Word,
    ) -> Option<VrrpInstance> {
        let id = "'virtual_router_id 51', the same on every director of the group";
        missing(context, block, name, "interface", "'interface eth0'");
        missing(context, block, name, "virtual_router_id", id);
        let initial_state = self.state.unwrap_or(InitialState::Backup);
        let priority = self.priority.unwrap_or(match initial_state {
            InitialState::Master => OWNER_PRIORITY,
            InitialState::Backup => DEFAULT_PRIORITY,
        });
        if self.priority.is_none() && initial_state == InitialState::Master {
            context.push(
                Diagnostic::note(
                    Code::DefaultUsed,
                    format!(
                        "{} has no 'priority': 255 is used, as keepalived does for 'state MASTER'",
                        quote(&name.text)
                    ),
                )
                .at(
                    name.span,
                    "it takes the addresses from every other director",
                ),
            );
        }
        Some(VrrpInstance {
            name: name.text.clone(),
            initial_state,
            interface: self.interface?,
            virtual_router_id: self.router_id?,
            priority,
            virtual_addresses: self.addresses,
        })
    }
}

/// An error when `keyword` does not stand in the block at all; a wrong value was spoken about.
fn missing(
    context: &mut Context<'_>,
    block: &Statement,
    name: &Word,
    keyword: &str,
    example: &str,
) {
    let stands = |statement: &Statement| statement.keyword.text == keyword;
    if block.body().iter().any(stands) {
        return;
    }
    context.push(
        Diagnostic::error(
            Code::MissingKeyword,
            format!("vrrp_instance {} has no '{keyword}'", quote(&name.text)),
        )
        .at(name.span, "it cannot run without")
        .help(format!("add {example}")),
    );
}

fn state(context: &mut Context<'_>, statement: &Statement) -> Option<InitialState> {
    let word = statement.values.first()?;
    match word.text.as_str() {
        "MASTER" => Some(InitialState::Master),
        "BACKUP" => Some(InitialState::Backup),
        _ => context.refuse(
            statement,
            word,
            "MASTER or BACKUP",
            "BACKUP is used, as keepalived does",
        ),
    }
}

fn router_id(context: &mut Context<'_>, statement: &Statement) -> Option<u8> {
    let word = statement.values.first()?;
    let number = word.text.parse().ok().filter(|number| *number != 0);
    if number.is_none() {
        context.push(
            Diagnostic::error(
                Code::BadValue,
                format!(
                    "{} is not a value of 'virtual_router_id'",
                    quote(&word.text)
                ),
            )
            .at(word.span, "expected a whole number from 1 to 255")
            .because("keepalived exits when an instance has no valid one"),
        );
    }
    number
}

/// Looks for what leaves adverts without the password that the file seems to ask for.
fn authentication(context: &mut Context<'_>, block: &Statement) {
    let mut kind = false;
    let mut password = false;
    for (keyword, statement) in context.keywords(Scope::Authentication, block) {
        let Some(value) = statement.values.first() else {
            continue;
        };
        if keyword.name == "auth_type" {
            kind = matches!(value.text.as_str(), "PASS" | "AH");
            if !kind {
                context.refuse::<()>(
                    statement,
                    value,
                    "PASS or AH",
                    "ignored, as keepalived does",
                );
            }
        } else {
            password = true;
            long_password(context, value);
        }
    }
    let lacking = match (kind, password) {
        (true, true) => return,
        (true, false) => "'auth_pass' is not set",
        (false, true) => "'auth_type' is not set",
        (false, false) => "neither 'auth_type' nor 'auth_pass' is set",
    };
    context.push(
        Diagnostic::warning(
            Code::NoAuthentication,
            format!("no authentication: {lacking}"),
        )
        .at(block.keyword.span, "adverts carry no password, as with keepalived")
        .help("set both, 'auth_type PASS' and 'auth_pass …', each on its own line, on every director of the group at once; or remove the block"),
    );
}

fn long_password(context: &mut Context<'_>, value: &Word) {
    if value.text.len() > PASSWORD_LENGTH {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("only the first {PASSWORD_LENGTH} characters of the password count"),
            )
            .at(value.span, "the others are dropped, as keepalived does"),
        );
    }
}
