//! Summaries and digests: whether two directors hold the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Action, Ledger, Mirror, Teller};
use crate::sync::SUMMARY;
use crate::sync::digest::difference;
use crate::sync::event::Event;
use crate::sync::peer::Theirs;
use crate::sync::record::{Scope, ServiceName, Summary};
use crate::sync::wire::Message;

/// Services of a peer that are kept in mind: more than a director can have.
const SERVICES: usize = 8192;

impl Mirror {
    /// Compares what a peer holds with what stands here, at this point of its stream. Digests tell only
    /// between the director that gets the packets of a service and one that does not.
    pub(super) fn take_summaries(
        &mut self,
        ip: IpAddr,
        all: &[Summary],
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        let now = self.now;
        let (mut asked, mut is_open) = (Vec::new(), false);
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        for summary in all {
            let service = summary.service;
            if peer.services.len() >= SERVICES && !peer.services.contains_key(&summary.service) {
                continue;
            }
            let known = peer.services.entry(summary.service);
            let theirs = known.or_insert_with(|| Theirs::new(now, *summary));
            theirs.summary = *summary;
            theirs.told = now;
            let mine = ledger.summary(&summary.service);
            theirs.same_view = mine.map(|mine| mine.view == summary.view);
            let follows = summary.is_owned && mine.is_some_and(|mine| !mine.is_owned);
            // As long as all of it is still to come, there is nothing to settle.
            if follows && peer.is_complete && settle(&mut self.tellers, service, ip) {
                is_open = true;
            }
            let Some(mine) = mine.filter(|mine| mine.view == summary.view) else {
                theirs.is_equal = None;
                continue;
            };
            let is_equal = mine.digest == summary.digest && mine.entries == summary.entries;
            if !summary.is_owned || mine.is_owned {
                // It is for the other to follow this director.
                theirs.is_equal = Some(is_equal);
            } else if theirs.judge(now, is_equal) {
                asked.push(summary.service);
            }
        }
        if is_open {
            peer.want(Scope::Owned);
            peer.next_walk(now);
        }
        let session = peer.current().unwrap_or(0);
        for service in asked {
            self.send_to(ip, session, &Message::Compare(service), actions);
        }
    }

    /// Notes who tells entries of a service as its owner. Two that do so, one after the other or at
    /// once, may contradict each other; and so may the first one what stands here already, unless it
    /// tells all that it has (`is_whole`).
    pub(super) fn note_teller(
        &mut self,
        service: ServiceName,
        teller: Option<IpAddr>,
        is_whole: bool,
    ) {
        if self.tellers.len() >= SERVICES && !self.tellers.contains_key(&service) {
            return;
        }
        let known = self.tellers.entry(service).or_insert(Teller {
            last: teller,
            is_contested: !is_whole,
        });
        known.is_contested |= known.last != teller;
        known.last = teller;
    }

    /// Says when services have begun to differ between the files, and when they do no more; forgets
    /// those that a peer has told nothing of for long.
    pub(super) fn say_views(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        for peer in self.peers.values_mut() {
            if peer.current().is_none() {
                continue;
            }
            peer.services
                .retain(|_, theirs| theirs.told.until(now) < SUMMARY * 4);
            let services = peer.services.iter();
            let mut differing = services.filter(|(_, theirs)| theirs.same_view == Some(false));
            let first = differing.next().map(|(service, _)| *service);
            let services = first.map_or(0, |_| 1 + differing.count());
            if services == peer.differing_said {
                continue;
            }
            peer.differing_said = services;
            let peer = peer.address;
            actions.push(Action::Say(match first {
                Some(first) => Event::ViewsDiffer {
                    peer,
                    services,
                    first,
                },
                None => Event::ViewsAgree { peer },
            }));
        }
    }

    /// Asks for the entries of buckets that differ, and tells its own of them.
    pub(super) fn take_buckets(
        &mut self,
        ip: IpAddr,
        service: &ServiceName,
        first: u8,
        digests: &[u64],
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        // Answers go to all; only who differs does something about it.
        let suspects = |theirs: &Theirs| theirs.is_equal == Some(false) && theirs.summary.is_owned;
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        if ledger.owns(service) || !peer.services.get(service).is_some_and(suspects) {
            return;
        }
        let Some(mine) = ledger.buckets(service) else {
            return;
        };
        let mask = difference(&mine, first.into(), digests);
        if mask == 0 {
            return;
        }
        let scope = Scope::Buckets {
            service: *service,
            mask,
        };
        peer.want(scope);
        peer.next_walk(now);
        actions.push(Action::Say(Event::Differs {
            peer: peer.address,
            service: *service,
            buckets: mask.count_ones(),
        }));
        self.offer(scope);
    }
}

/// A peer says that it owns a service; whether its word on all of it has to be heard, as somebody else
/// told entries of it as well.
fn settle(
    tellers: &mut BTreeMap<ServiceName, Teller>,
    service: ServiceName,
    owner: IpAddr,
) -> bool {
    if tellers.len() >= SERVICES && !tellers.contains_key(&service) {
        return false;
    }
    let settled = Teller {
        last: Some(owner),
        is_contested: false,
    };
    let before = tellers.insert(service, settled);
    // What stands here may be of a time before this director started, told by whomever.
    before.is_none_or(|before| before.is_contested || before.last != Some(owner))
}
