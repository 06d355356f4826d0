//! Addresses.

use crate::config::model::{AddressFlags, Preferred, VirtualAddress};
use crate::config::print::word;

/// The line of an address.
pub(super) fn address(own: &VirtualAddress) -> String {
    let VirtualAddress {
        address,
        device,
        label,
        broadcast,
        scope,
        peer,
        preferred,
        flags,
    } = own;
    let named = |keyword: &str, name: &str| format!(" {keyword} {}", word(name));
    let preferred = match preferred {
        Preferred::ByLength => None,
        Preferred::Forever => Some(" preferred_lft forever".to_owned()),
        Preferred::Seconds(seconds) => Some(format!(" preferred_lft {seconds}")),
    };
    let options = [
        device.as_deref().map(|name| named("dev", name)),
        label.as_deref().map(|name| named("label", name)),
        broadcast.map(|address| format!(" brd {address}")),
        (*scope != 0).then(|| format!(" scope {scope}")),
        peer.map(|address| format!(" peer {address}")),
        preferred,
        Some(switches(*flags)),
    ];
    format!(
        "{address}{}",
        options.map(Option::unwrap_or_default).concat()
    )
}

fn switches(flags: AddressFlags) -> String {
    let AddressFlags {
        home,
        no_dad,
        mngtmpaddr,
        noprefixroute,
        autojoin,
        no_track,
        use_vmac,
    } = flags;
    let words = [
        (home, " home"),
        (no_dad, " -nodad"),
        (mngtmpaddr, " mngtmpaddr"),
        (noprefixroute, " noprefixroute"),
        (autojoin, " autojoin"),
        (no_track, " no_track"),
        (use_vmac, " use_vmac"),
    ];
    let on = words.into_iter().filter(|(on, _)| *on);
    on.map(|(_, word)| word).collect()
}
