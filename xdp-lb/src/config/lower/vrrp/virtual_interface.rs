//! `use_vmac` and `use_ipvlan`.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::lower::value::is_device;
use crate::config::model::{Family, VirtualInterface, VrrpInstance};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";

/// What a file says about it.
#[derive(Debug, Default)]
pub(super) struct VirtualDraft {
    vmac: Option<(Option<String>, Option<[u8; 6]>)>,
    ipvlan: Option<(Option<String>, Option<IpNet>, Span)>,
    /// `vmac_xmit_base`.
    adverts_below: Option<Span>,
}

impl VirtualDraft {
    /// Takes the statement if it is of this kind; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        name: &str,
        statement: &Statement,
    ) -> bool {
        match name {
            "use_vmac" => {
                let (mut device, mut mac) = (None, None);
                for word in &statement.values {
                    match mac_of(&word.text) {
                        Some(found) => mac = Some(found),
                        None => device = name_of(context, word).or(device),
                    }
                }
                self.vmac = Some((device, mac));
            }
            "use_ipvlan" => {
                let (mut device, mut address) = (None, None);
                for word in &statement.values {
                    match network_of(&word.text) {
                        Some(found) => address = Some(found),
                        None => device = name_of(context, word).or(device),
                    }
                }
                self.ipvlan = Some((device, address, statement.head()));
            }
            "vmac_xmit_base" => self.adverts_below = Some(statement.head()),
            _ => return false,
        }
        true
    }

    /// All of it. `prefix`: what names begin with.
    pub(super) fn finish(
        self,
        context: &mut Context<'_>,
        vrid: u8,
        prefix: Option<&str>,
        unicast: bool,
    ) -> Option<VirtualInterface> {
        let named = prefix.map(|prefix| format!("{prefix}.{vrid}"));
        let named = named.filter(|name| is_device(name));
        let default = || named.unwrap_or_else(|| format!("vrrp.{vrid}"));
        if let (Some(_), Some((.., span))) = (&self.vmac, &self.ipvlan) {
            context.push(
                Diagnostic::warning(
                    Code::Overruled,
                    "'use_vmac' and 'use_ipvlan' exclude each other",
                )
                .at(*span, "ignored"),
            );
        }
        if let (None, Some(span)) = (&self.vmac, self.adverts_below) {
            context.push(
                Diagnostic::warning(Code::Overruled, "'vmac_xmit_base' needs 'use_vmac'")
                    .at(span, IGNORED),
            );
        }
        if let Some((name, mac)) = self.vmac {
            return Some(VirtualInterface::Vmac {
                name: name.unwrap_or_else(default),
                mac,
                // Unicast needs it, and keepalived sets it.
                adverts_below: self.adverts_below.is_some() || unicast,
            });
        }
        let (name, address, _) = self.ipvlan?;
        Some(VirtualInterface::Ipvlan {
            name: name.unwrap_or_else(default),
            address,
        })
    }
}

/// Gives interfaces whose name an instance above has another one, as keepalived does: `vrrp.51`, for
/// IPv6 `vrrp6.51`, else `vrrp1.51` and so on.
pub(super) fn tell_apart(instances: &mut [VrrpInstance]) {
    let mut taken = BTreeSet::new();
    for instance in instances {
        let is_v6 = instance.family == Family::V6;
        let Some(
            VirtualInterface::Vmac { name: own, .. } | VirtualInterface::Ipvlan { name: own, .. },
        ) = &mut instance.virtual_interface
        else {
            continue;
        };
        let Some((prefix, vrid)) = own.rsplit_once('.') else {
            taken.insert(own.clone());
            continue;
        };
        let six = is_v6.then(|| format!("{prefix}6.{vrid}"));
        let numbered = (1..=u8::MAX).map(|number| format!("{prefix}{number}.{vrid}"));
        let mut names = std::iter::once(own.clone()).chain(six).chain(numbered);
        if let Some(free) = names.find(|name| !taken.contains(name)) {
            *own = free;
        }
        taken.insert(own.clone());
    }
}

fn name_of(context: &mut Context<'_>, word: &Word) -> Option<String> {
    if is_device(&word.text) {
        return Some(word.text.clone());
    }
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("{} cannot be the name of an interface", quote(&word.text)),
        )
        .at(word.span, IGNORED),
    );
    None
}

fn mac_of(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok())?)
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn network_of(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}
