//! From what was read of a `vrrp_instance` to the instance: defaults filled in, contradictions decided
//! the way keepalived does.

use std::time::Duration;

use super::checks;
use super::defaults::Defaults;
use super::instance::{Draft, IGNORED};
use crate::config::ast::Word;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::model::{
    Centiseconds, Family, InitialState, Preemption, Seconds, Transport, Version, VrrpInstance,
};
use crate::config::places::InstancePlaces;
use crate::config::source::Span;

impl Draft {
    /// The instance with everything filled in; `None` when keepalived would exit, which is an error.
    pub(super) fn build(
        mut self,
        context: &mut Context<'_>,
        defaults: &Defaults,
        mail: bool,
    ) -> Option<(VrrpInstance, InstancePlaces)> {
        let id = "'virtual_router_id 51', the same on every director of the group";
        missing(
            context,
            &self.name,
            self.has_interface,
            "interface",
            "'interface eth0'",
        );
        missing(
            context,
            &self.name,
            self.has_router_id,
            "virtual_router_id",
            id,
        );
        let (state, priority) = self.standing(context);
        let strict = self.strict.unwrap_or(defaults.strict);
        let family = self.family(context);
        let preemption = self.preemption(context, state, priority);
        let version = self.version(context, family, strict, defaults);
        let transport = std::mem::take(&mut self.transport);
        let travel = transport.finish(context, family, defaults);
        let unicast = matches!(travel.transport, Transport::Unicast { .. });
        let router_id = self.router_id?;
        let draft = std::mem::take(&mut self.virtual_interface);
        let prefix = defaults.vmac_prefix.as_deref();
        let virtual_interface = draft.finish(context, router_id.get(), prefix, unicast);
        let decided = VrrpInstance {
            initial_state: state,
            priority,
            family,
            version,
            transport: travel.transport,
            source: travel.source,
            track_source: travel.track_source,
            preemption,
            strict,
            virtual_interface,
            ..VrrpInstance::new(&self.name.text, self.interface.as_deref()?, router_id)
        };
        let (no_addresses, accept) = (self.no_addresses, self.accept);
        let dropped = self.authentication.is_some();
        let (mut instance, places) = self.fill(decided, defaults, mail);
        checks::own_interface(context, &mut instance, &places);
        checks::without_addresses(context, &instance, &places, no_addresses);
        if strict {
            checks::strict(context, &mut instance, &places, accept, dropped);
        }
        Some((instance, places))
    }

    /// With what needed no decision.
    fn fill(
        mut self,
        decided: VrrpInstance,
        defaults: &Defaults,
        mail: bool,
    ) -> (VrrpInstance, InstancePlaces) {
        self.places.addresses = self.addresses.iter().map(|placed| placed.span).collect();
        let or = Option::<bool>::unwrap_or;
        let adverts = self.down_timer_adverts.or(defaults.down_timer_adverts);
        let instance = VrrpInstance {
            virtual_addresses: self.addresses.into_iter().map(|a| a.address).collect(),
            excluded_addresses: self.excluded,
            routes: self.routes,
            rules: self.rules,
            hmac: self.hmac,
            down_timer_adverts: adverts.unwrap_or(decided.down_timer_adverts),
            garp: self.garp.of_instance(&defaults.garp()),
            lower_prio_no_advert: or(self.lower_prio_no_advert, defaults.lower_prio_no_advert),
            higher_prio_send_advert: self
                .higher_prio_send_advert
                .or(defaults.higher_prio_send_advert),
            owner_ignore_adverts: or(self.owner_ignore_adverts, defaults.owner_ignore_adverts),
            timer_expired_backup: self.timer_expired_backup,
            skip_check_adv_addr: or(self.skip_check_adv_addr, defaults.skip_check_adv_addr),
            accept: self.accept.unwrap_or(true),
            vmac_addresses: self.vmac_addresses,
            receive_buffer: self.receive_buffer,
            promote_secondaries: self.promote_secondaries,
            ignore_own_interface: self.ignore_own_interface,
            trackers: self.trackers.finish(),
            notify: self.notify.finish(mail, defaults.priority_changes),
            ..decided
        };
        (instance, self.places)
    }

    /// `state` and `priority`, each by the other where it is missing.
    fn standing(&self, context: &mut Context<'_>) -> (InitialState, u8) {
        const OWNER: u8 = VrrpInstance::OWNER_PRIORITY;
        let implied = match self.priority {
            Some(OWNER) if self.places.state.is_none() => InitialState::Master,
            _ => InitialState::Backup,
        };
        let state = self.state.unwrap_or(implied);
        if let Some(priority) = self.priority {
            return (state, priority);
        }
        match state {
            InitialState::Backup => (state, VrrpInstance::DEFAULT_PRIORITY),
            InitialState::Master => {
                context.push(
                    Diagnostic::note(
                        Code::DefaultUsed,
                        format!(
                            "{} has no 'priority': 255 is used, as keepalived does for 'state MASTER'",
                            quote(&self.name.text)
                        ),
                    )
                    .at(
                        self.name.span,
                        "it takes the addresses from every other director",
                    ),
                );
                (state, OWNER)
            }
        }
    }

    fn family(&self, context: &mut Context<'_>) -> Family {
        let first = self.addresses.first();
        let first = first.map(|placed| Family::of(placed.address.address.addr()));
        if let (Some(span), Some(Family::V4)) = (self.native_ipv6, first) {
            context.push(
                Diagnostic::warning(
                    Code::Overruled,
                    "'native_ipv6' has no effect: the addresses are IPv4",
                )
                .at(span, IGNORED),
            );
        }
        first
            .or_else(|| self.native_ipv6.map(|_| Family::V6))
            .or_else(|| self.transport.family())
            .unwrap_or(Family::V4)
    }

    fn preemption(
        &self,
        context: &mut Context<'_>,
        state: InitialState,
        priority: u8,
    ) -> Preemption {
        let reason = match (priority, state) {
            (VrrpInstance::OWNER_PRIORITY, _) => {
                "the owner of the addresses (priority 255) always takes over"
            }
            (_, InitialState::Master) => "with 'state MASTER' it takes over at the start",
            (_, InitialState::Backup) => match (self.never_preempt, self.preempt_delay) {
                (None, delay) => {
                    return Preemption::After(delay.map_or(Duration::ZERO, |(time, _)| time));
                }
                (Some(_), None) => return Preemption::Never,
                (Some(place), Some((_, span))) => {
                    let message = "'preempt_delay' has no effect beside 'nopreempt'";
                    overruled(context, message.to_owned(), span, Some(place));
                    return Preemption::Never;
                }
            },
        };
        // keepalived lets an owner have a delay, which it never waits for.
        let delay = self.preempt_delay.filter(|(time, _)| !time.is_zero());
        for (keyword, span) in [
            ("nopreempt", self.never_preempt),
            ("preempt_delay", delay.map(|(_, span)| span)),
        ] {
            if let Some(span) = span {
                let message = format!("'{keyword}' has no effect: {reason}");
                overruled(context, message, span, self.places.state);
            }
        }
        Preemption::default()
    }

    fn version(
        &mut self,
        context: &mut Context<'_>,
        family: Family,
        strict: bool,
        defaults: &Defaults,
    ) -> Version {
        let asked = self.version.map(|(version, _)| version);
        let number = match family {
            Family::V4 => asked.or(defaults.version).unwrap_or(2),
            Family::V6 => 3,
        };
        if let (Family::V6, Some((2, span))) = (family, self.version) {
            let message = "IPv6 is always version 3 of VRRP".to_owned();
            overruled(context, message, span, None);
        }
        let interval = self.advert_interval.map(|(time, _)| time);
        let interval = interval.unwrap_or(Duration::from_secs(1));
        let version = if number == 3 {
            if let Some(wanted) = &self.authentication {
                checks::no_authentication_in_v3(context, wanted.place);
            }
            Version::V3 {
                advert_interval: Centiseconds::nearest(interval),
                checksum_as_v2: self.checksum_as_v2 && family == Family::V4,
            }
        } else {
            let wanted = if strict {
                None
            } else {
                self.authentication.take()
            };
            Version::V2 {
                advert_interval: Seconds::nearest(interval),
                authentication: wanted.and_then(|wanted| wanted.usable(context)),
            }
        };
        if number == 3 {
            self.authentication = None;
        }
        if let Some((time, span)) = self.advert_interval {
            checks::rounded(context, &version, time, span);
        }
        version
    }
}

fn overruled(context: &mut Context<'_>, message: String, place: Span, by: Option<Span>) {
    let diagnostic = Diagnostic::warning(Code::Overruled, message).at(place, IGNORED);
    context.push(match by {
        Some(by) => diagnostic.at(by, "because of this"),
        None => diagnostic,
    });
}

/// An error when the keyword does not stand in the block at all; a wrong value was spoken about.
/// keepalived exits over such an instance, the good ones of the file with it.
fn missing(context: &mut Context<'_>, name: &Word, stands: bool, keyword: &str, example: &str) {
    if stands {
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
