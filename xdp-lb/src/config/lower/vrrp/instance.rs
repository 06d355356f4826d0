//! A `vrrp_instance`.

use std::num::NonZeroU8;
use std::time::Duration;

use super::address::{self, Placed};
use super::authentication::{self, Wanted};
use super::checks::Base;
use super::defaults::{self, down_timer_adverts};
use super::garp::GarpDraft;
use super::notify::NotifyDraft;
use super::objects::Objects;
use super::route;
use super::trackers::{TrackersDraft, Unknown};
use super::transport::TransportDraft;
use super::virtual_interface::VirtualDraft;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{
    HmacKeys, InitialState, OwnRoute, OwnRule, VirtualAddress, VrrpInstance,
};
use crate::config::places::InstancePlaces;
use crate::config::source::Span;

pub(super) const IGNORED: &str = "ignored, as keepalived does";
/// What `advert_int` can be.
const ADVERT_INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(255);
/// Longest `preempt_delay`.
const LONGEST_DELAY: Duration = Duration::from_secs(1000);

/// What was read of an instance.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Word,
    /// What cannot be without stands there, valid or not.
    pub(super) has_interface: bool,
    pub(super) has_router_id: bool,
    pub(super) state: Option<InitialState>,
    pub(super) interface: Option<String>,
    pub(super) router_id: Option<NonZeroU8>,
    pub(super) priority: Option<u8>,
    pub(super) version: Option<(u32, Span)>,
    pub(super) advert_interval: Option<(Duration, Span)>,
    pub(super) authentication: Option<Wanted>,
    pub(super) hmac: Option<HmacKeys>,
    pub(super) addresses: Vec<Placed>,
    pub(super) excluded: Vec<VirtualAddress>,
    pub(super) routes: Vec<OwnRoute>,
    pub(super) rules: Vec<OwnRule>,
    pub(super) native_ipv6: Option<Span>,
    pub(super) no_addresses: bool,
    pub(super) transport: TransportDraft,
    pub(super) never_preempt: Option<Span>,
    pub(super) preempt_delay: Option<(Duration, Span)>,
    pub(super) down_timer_adverts: Option<u8>,
    pub(super) garp: GarpDraft,
    pub(super) lower_prio_no_advert: Option<bool>,
    pub(super) higher_prio_send_advert: Option<bool>,
    pub(super) owner_ignore_adverts: Option<bool>,
    pub(super) strict: Option<bool>,
    pub(super) skip_check_adv_addr: Option<bool>,
    pub(super) checksum_as_v2: bool,
    /// `accept` or `no_accept`.
    pub(super) accept: Option<bool>,
    pub(super) virtual_interface: VirtualDraft,
    pub(super) vmac_addresses: bool,
    pub(super) receive_buffer: Option<u32>,
    pub(super) timer_expired_backup: bool,
    pub(super) promote_secondaries: bool,
    pub(super) ignore_own_interface: bool,
    pub(super) trackers: TrackersDraft,
    pub(super) notify: NotifyDraft,
    pub(super) places: InstancePlaces,
}

impl Draft {
    pub(super) fn read(
        context: &mut Context<'_>,
        block: &Statement,
        name: &Word,
        objects: &Objects,
        unknown: &mut Vec<Unknown>,
    ) -> Self {
        let mut draft = Self::new(name);
        let (mut lines, mut excluded) = (Vec::new(), Vec::new());
        let stands = |keyword: &str| {
            let mut statements = block.body().iter();
            statements.any(|statement| statement.keyword.text == keyword)
        };
        draft.has_interface = stands("interface");
        draft.has_router_id = stands("virtual_router_id");
        for (keyword, statement) in context.keywords(Scope::VrrpInstance, block) {
            let taken = draft.transport.take(context, keyword, statement)
                || draft.notify.take(context, keyword, statement)
                || draft
                    .trackers
                    .take(context, keyword, statement, objects, unknown)
                || draft.take_election(context, keyword, statement)
                || draft.take_switch(context, keyword, statement)
                || draft.take_other(context, keyword, statement);
            match keyword.name {
                "virtual_ipaddress" => lines.extend(statement.body()),
                "virtual_ipaddress_excluded" => excluded.extend(statement.body()),
                _ if taken => {}
                _ => context.unread(keyword, statement),
            }
        }
        draft.addresses = address::read(context, &lines);
        draft.excluded = address::read_excluded(context, &excluded, &draft.addresses);
        draft
    }

    fn new(name: &Word) -> Self {
        Self {
            name: name.clone(),
            has_interface: false,
            has_router_id: false,
            state: None,
            interface: None,
            router_id: None,
            priority: None,
            version: None,
            advert_interval: None,
            authentication: None,
            hmac: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            native_ipv6: None,
            no_addresses: false,
            transport: TransportDraft::default(),
            never_preempt: None,
            preempt_delay: None,
            down_timer_adverts: None,
            garp: GarpDraft::default(),
            lower_prio_no_advert: None,
            higher_prio_send_advert: None,
            owner_ignore_adverts: None,
            strict: None,
            skip_check_adv_addr: None,
            checksum_as_v2: false,
            accept: None,
            virtual_interface: VirtualDraft::default(),
            vmac_addresses: false,
            receive_buffer: None,
            timer_expired_backup: false,
            promote_secondaries: false,
            ignore_own_interface: false,
            trackers: TrackersDraft::default(),
            notify: NotifyDraft::default(),
            places: InstancePlaces {
                name: name.span,
                ..InstancePlaces::default()
            },
        }
    }

    /// What decides who is master.
    fn take_election(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let place = statement.values.first().map(|word| word.span);
        match keyword.name {
            "state" => {
                self.places.state = place;
                self.state = state(context, statement);
            }
            "interface" => {
                let word = statement.values.first();
                self.interface = word.and_then(|word| context.device(word));
            }
            "virtual_router_id" => self.router_id = router_id(context, statement),
            "priority" => {
                self.places.priority = place;
                let instead = "100 is used, as keepalived does";
                let number = context.number(statement, 1..=255, Tail::Refused, instead);
                let number = number.and_then(|number| u8::try_from(number).ok());
                self.priority = Some(number.unwrap_or(VrrpInstance::DEFAULT_PRIORITY));
            }
            "version" => {
                let version = context.number(statement, 2..=3, Tail::Dropped, IGNORED);
                self.version = version
                    .map(|version| (version, statement.head()))
                    .or(self.version);
            }
            "advert_int" => {
                self.places.advert_interval = place;
                let time = context.seconds(statement, ADVERT_INTERVAL, Tail::Refused, IGNORED);
                self.advert_interval = time.zip(place).or(self.advert_interval);
            }
            "authentication" => {
                self.places.authentication = Some(statement.keyword.span);
                self.authentication = authentication::read(context, statement);
            }
            "auth_hmac" => self.hmac = authentication::hmac(context, statement),
            "nopreempt" => self.never_preempt = Some(statement.keyword.span),
            "preempt" => self.never_preempt = None,
            "preempt_delay" => {
                let range = Duration::ZERO..=LONGEST_DELAY;
                let time = context.seconds(statement, range, Tail::Refused, IGNORED);
                self.preempt_delay = time
                    .map(|time| (time, statement.head()))
                    .or(self.preempt_delay);
            }
            "down_timer_adverts" => {
                let adverts = down_timer_adverts(context, statement);
                self.down_timer_adverts = adverts.or(self.down_timer_adverts);
            }
            _ => return false,
        }
        true
    }

    fn take_switch(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let switch = match keyword.name {
            "lower_prio_no_advert" => &mut self.lower_prio_no_advert,
            "higher_prio_send_advert" => &mut self.higher_prio_send_advert,
            "owner_ignore_adverts" => &mut self.owner_ignore_adverts,
            "strict_mode" => &mut self.strict,
            "skip_check_adv_addr" => &mut self.skip_check_adv_addr,
            "v3_checksum_as_v2" => {
                let on = defaults::switch(context, keyword, statement);
                self.checksum_as_v2 = on.unwrap_or(self.checksum_as_v2);
                return true;
            }
            _ => {
                let flag = match keyword.name {
                    "timer_expired_backup" => &mut self.timer_expired_backup,
                    "promote_secondaries" => &mut self.promote_secondaries,
                    "dont_track_primary" => &mut self.ignore_own_interface,
                    "no_virtual_ipaddress" => &mut self.no_addresses,
                    _ => return false,
                };
                *flag = true;
                return true;
            }
        };
        *switch = defaults::switch(context, keyword, statement).or(*switch);
        true
    }

    fn take_other(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        if let Some(name) = keyword.name.strip_prefix("garp_") {
            return self.garp.take(context, name, statement);
        }
        match keyword.name {
            "accept" => self.accept = Some(true),
            "no_accept" => self.accept = Some(false),
            "native_ipv6" => self.native_ipv6 = Some(statement.keyword.span),
            "virtual_routes" => {
                for line in statement.body() {
                    let route = route::route(context, line, false);
                    self.routes.extend(route.map(|(route, _)| route));
                }
            }
            "virtual_rules" => {
                for line in statement.body() {
                    let rule = route::rule(context, line, false);
                    self.rules.extend(rule.map(|(rule, _)| rule));
                }
            }
            "use_vmac_addr" => self.vmac_addresses = true,
            "kernel_rx_buf_size" if !statement.values.is_empty() => {
                let size = context.number(statement, 1..=u32::MAX, Tail::Refused, IGNORED);
                self.receive_buffer = size.or(self.receive_buffer);
            }
            "vrf" => context.push(
                Diagnostic::warning(
                    Code::Overruled,
                    "'vrf' has no effect: the interface says which VRF the adverts belong to",
                )
                .at(statement.head(), IGNORED),
            ),
            name => return self.virtual_interface.take(context, name, statement),
        }
        true
    }

    /// What checks of several instances need of the text.
    pub(super) fn base(&self) -> Base {
        Base {
            lengths: self.addresses.iter().map(|a| a.has_length).collect(),
        }
    }
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

fn router_id(context: &mut Context<'_>, statement: &Statement) -> Option<NonZeroU8> {
    let word = statement.values.first()?;
    let number = word.text.parse().ok();
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
