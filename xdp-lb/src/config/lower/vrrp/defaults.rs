//! What `global_defs` says for every instance that says nothing else.

use std::net::IpAddr;
use std::time::Duration;

use super::garp::GarpDraft;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Announcements, Family, Garp};

const IGNORED: &str = "ignored, as keepalived does";

/// The defaults of a file.
#[derive(Debug, Default)]
pub(in crate::config::lower) struct Defaults {
    /// `vrrp_version`.
    pub(super) version: Option<u32>,
    /// `vrrp_strict`.
    pub(super) strict: bool,
    /// `vrrp_skip_check_adv_addr`.
    pub(super) skip_check_adv_addr: bool,
    /// `vrrp_check_unicast_src`.
    pub(super) check_unicast_src: bool,
    /// `vrrp_lower_prio_no_advert`.
    pub(super) lower_prio_no_advert: bool,
    /// `vrrp_higher_prio_send_advert`.
    pub(super) higher_prio_send_advert: Option<bool>,
    /// `vrrp_owner_ignore_adverts`.
    pub(super) owner_ignore_adverts: bool,
    /// `vrrp_notify_priority_changes`.
    pub(super) priority_changes: bool,
    /// `vrrp_down_timer_adverts`.
    pub(super) down_timer_adverts: Option<u8>,
    /// `vmac_prefix`.
    pub(super) vmac_prefix: Option<String>,
    /// `default_interface`.
    pub(super) interface: Option<String>,
    /// `vrrp_garp_interval` and `vrrp_gna_interval`.
    pub(super) announcements: Announcements,
    garp: GarpDraft,
    /// `vrrp_min_garp`.
    min_garp: bool,
    /// `vrrp_mcast_group4`.
    group4: Option<IpAddr>,
    /// `vrrp_mcast_group6`.
    group6: Option<IpAddr>,
}

impl Defaults {
    /// Takes the statement of `global_defs` if it is such a default; whether it was.
    pub(in crate::config::lower) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        if let Some(name) = keyword.name.strip_prefix("vrrp_garp_")
            && self.garp.take(context, name, statement)
        {
            return true;
        }
        self.take_switch(context, keyword, statement)
            || self.take_value(context, keyword, statement)
    }

    fn take_switch(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        if keyword.name == "vrrp_higher_prio_send_advert" {
            let said = switch(context, keyword, statement);
            self.higher_prio_send_advert = said.or(self.higher_prio_send_advert);
            return true;
        }
        let switch = match keyword.name {
            "vrrp_strict" => &mut self.strict,
            "vrrp_skip_check_adv_addr" => &mut self.skip_check_adv_addr,
            "vrrp_check_unicast_src" => &mut self.check_unicast_src,
            "vrrp_lower_prio_no_advert" => &mut self.lower_prio_no_advert,
            "vrrp_owner_ignore_adverts" => &mut self.owner_ignore_adverts,
            "vrrp_notify_priority_changes" => &mut self.priority_changes,
            "vrrp_min_garp" => &mut self.min_garp,
            _ => return false,
        };
        *switch = self::switch(context, keyword, statement).unwrap_or(*switch);
        true
    }

    fn take_value(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "vrrp_version" => {
                let version = context.number(statement, 2..=3, Tail::Dropped, IGNORED);
                self.version = version.or(self.version);
            }
            "vrrp_down_timer_adverts" => {
                let adverts = down_timer_adverts(context, statement);
                self.down_timer_adverts = adverts.or(self.down_timer_adverts);
            }
            "vrrp_garp_interval" => {
                let gap = interval(context, statement);
                self.announcements.garp_interval = gap.unwrap_or(self.announcements.garp_interval);
            }
            "vrrp_gna_interval" => {
                let gap = interval(context, statement);
                self.announcements.na_interval = gap.unwrap_or(self.announcements.na_interval);
            }
            "vrrp_mcast_group4" => {
                self.group4 = group(context, statement, Family::V4).or(self.group4);
            }
            "vrrp_mcast_group6" => {
                self.group6 = group(context, statement, Family::V6).or(self.group6);
            }
            "default_interface" => {
                let word = statement.values.first();
                self.interface = word.and_then(|word| context.device(word));
            }
            "vmac_prefix" => self.vmac_prefix = statement.values.first().map(|w| w.text.clone()),
            _ => return false,
        }
        true
    }

    /// What announcements are like unless the instance says otherwise.
    pub(super) fn garp(&self) -> Garp {
        self.garp.of_all(self.min_garp)
    }

    /// Where adverts go unless the instance says otherwise.
    pub(super) fn group(&self, family: Family) -> IpAddr {
        let set = match family {
            Family::V4 => self.group4,
            Family::V6 => self.group6,
        };
        set.unwrap_or_else(|| family.group())
    }
}

/// Whether a switch is on. Of some keywords keepalived does not read the value: they are always on.
pub(super) fn switch(
    context: &mut Context<'_>,
    keyword: &Keyword,
    statement: &Statement,
) -> Option<bool> {
    if keyword.values.max == 0 {
        Some(true)
    } else {
        context.boolean(keyword, statement)
    }
}

/// `down_timer_adverts`, of all or of one.
pub(super) fn down_timer_adverts(context: &mut Context<'_>, statement: &Statement) -> Option<u8> {
    let adverts = context.number(statement, 1..=100, Tail::Dropped, IGNORED)?;
    u8::try_from(adverts).ok()
}

/// A multicast group of `family`.
pub(super) fn group(
    context: &mut Context<'_>,
    statement: &Statement,
    family: Family,
) -> Option<IpAddr> {
    let word = statement.values.first()?;
    let address = word.text.parse::<IpAddr>().ok();
    let valid = |address: &IpAddr| address.is_multicast() && Family::of(*address) == family;
    address.filter(valid).or_else(|| {
        let expected = format!("an {family} multicast address");
        context.refuse(statement, word, &expected, IGNORED)
    })
}

/// A gap between two frames. A literal 0, which many files have, is what they get anyway.
fn interval(context: &mut Context<'_>, statement: &Statement) -> Option<Duration> {
    let word = statement.values.first()?;
    if word.text == "0" {
        context.push(
            Diagnostic::note(
                Code::Lenient,
                format!(
                    "{} 0 is the default; keepalived complains and does the same",
                    quote(&statement.keyword.text)
                ),
            )
            .at(statement.head(), "can be removed"),
        );
        return None;
    }
    let range = Duration::from_micros(1)..=Duration::from_micros(u64::from(u32::MAX));
    context.seconds(statement, range, Tail::Refused, IGNORED)
}
