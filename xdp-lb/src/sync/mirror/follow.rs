//! What the stream of a peer says, taken in order; and the walks that this director asks for.

use std::net::IpAddr;
use std::time::Duration;

use super::{Action, Applied, Ledger, Mirror, Ordered};
use crate::machine::Now;
use crate::sync::event::Event;
use crate::sync::record::{Overriding, Scope, Stamp};
use crate::sync::wire::records::Told;
use crate::sync::wire::{Message, Part};
use crate::sync::{SILENCE, WALK_REPEAT};

/// Overrides that are taken over at most: one per real server, and those are fewer.
const OVERRIDES: usize = 32_768;
/// So long after the first, other peers may still turn up that hold more than the first.
const GRACE: Duration = Duration::from_secs(2);

impl Mirror {
    /// Takes all parts of a peer's stream whose turn has come.
    pub(super) fn follow(
        &mut self,
        ip: IpAddr,
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        while let Some(part) = self.peers.get_mut(&ip).and_then(|peer| peer.incoming.pop()) {
            match part {
                Part::Records(all) => self.apply(ip, &all, ledger),
                Part::WalkBegins { session, id } => self.walk_begins(ip, session, id),
                Part::WalkEnds { session, id } => self.walk_ends(ip, session, id, actions),
                Part::Summaries(all) => self.take_summaries(ip, &all, ledger, actions),
                Part::Buckets {
                    service,
                    first,
                    digests,
                } => self.take_buckets(ip, &service, first, &digests, ledger, actions),
                Part::Overrides {
                    stamp,
                    more,
                    overrides,
                } => self.take_overrides(ip, stamp, more, overrides, actions),
            }
        }
    }

    fn apply(&mut self, ip: IpAddr, all: &[Told], ledger: &mut impl Ledger) {
        self.stats.records_received += all.len() as u64;
        let walk = self.peers.get(&ip).and_then(|peer| peer.walk.as_ref());
        let is_whole = walk.is_some_and(|walk| walk.ask.is_none() && walk.scope == Scope::All);
        let mut known = None;
        for told in all.iter().filter(|told| told.is_owned) {
            let service = told.record.name.service;
            if known.replace(service) != Some(service) {
                // Here it is owned as well, so some of this is not taken over: should the other one be its
                // only owner later on, all of its word has to be heard.
                let is_refused = ledger.owns(&service);
                self.note_teller(service, Some(ip), is_whole && !is_refused);
                if is_refused {
                    self.note_teller(service, None, false);
                }
            }
        }
        for told in all {
            let applied = ledger.apply(told);
            if !told.is_owned && matches!(applied, Applied::Stands) {
                self.has_learned |= ledger.owns(&told.record.name.service);
            }
            let counter = match applied {
                Applied::Stands => &mut self.stats.records_applied,
                Applied::Kept => &mut self.stats.records_kept,
                Applied::Unknown => &mut self.stats.records_unknown,
                Applied::Full => &mut self.stats.records_without_way,
            };
            *counter += 1;
        }
        let walk = self.peers.get_mut(&ip).and_then(|peer| peer.walk.as_mut());
        if let Some(walk) = walk.filter(|walk| walk.ask.is_none()) {
            walk.entries += all.len() as u64;
        }
    }

    fn walk_begins(&mut self, ip: IpAddr, session: u64, id: u32) {
        let is_own = session == self.settings.session;
        let walk = self.peers.get_mut(&ip).and_then(|peer| peer.walk.as_mut());
        if let Some(walk) = walk.filter(|walk| is_own && walk.id == id) {
            walk.ask = None;
        }
    }

    fn walk_ends(&mut self, ip: IpAddr, session: u64, id: u32, actions: &mut Vec<Action>) {
        let (own, now) = (self.settings.session, self.now);
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        let ours = peer.walk.filter(|walk| session == own && walk.id == id);
        let Some(walk) = ours else { return };
        peer.walk = None;
        if walk.scope == Scope::All && !peer.scopes.contains(&Scope::All) {
            peer.is_complete = true;
            actions.push(Action::Say(Event::Synced {
                peer: peer.address,
                entries: walk.entries,
                took: walk.since.until(now),
            }));
        }
        peer.next_walk(now);
        // What one director told of a service that is owned here may be news to a third, which may hold
        // otherwise; nobody else tells it.
        let heard = self.peers.values().filter(|peer| peer.current().is_some());
        if std::mem::take(&mut self.has_learned) && heard.count() > 1 {
            self.offer(Scope::Owned);
        }
    }

    /// Parts of a peer's stream will not come any more: only everything anew fills the gap.
    pub(super) fn lose(&mut self, ip: IpAddr, parts: u64, actions: &mut Vec<Action>) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&ip).filter(|_| parts > 0) else {
            return;
        };
        self.stats.parts_lost += parts;
        // The walk that was under way may have lost its end.
        peer.walk = None;
        peer.overrides = None;
        peer.want(Scope::All);
        peer.next_walk(now);
        actions.push(Action::Say(Event::Lost {
            peer: peer.address,
            parts,
        }));
    }

    /// Asks peers for what is missing, and for walks.
    pub(super) fn ask(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        let everyone: Vec<IpAddr> = self.peers.keys().copied().collect();
        for ip in everyone {
            let Some(peer) = self.peers.get_mut(&ip) else {
                continue;
            };
            let Some(session) = peer.current() else {
                continue;
            };
            match peer.incoming.missing(now) {
                Ok(ranges) if ranges.is_empty() => {}
                Ok(ranges) => {
                    self.stats.parts_missing += ranges
                        .iter()
                        .map(|range| range.last - range.first + 1)
                        .sum::<u64>();
                    self.send_to(ip, session, &Message::Missing(ranges), actions);
                }
                Err(lost) => self.lose(ip, lost, actions),
            }
            self.ask_for_walk(ip, session, actions);
        }
    }

    fn ask_for_walk(&mut self, ip: IpAddr, session: u64, actions: &mut Vec<Action>) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        peer.next_walk(now);
        // Not before it is known where the stream stands: what changes meanwhile must not be missed.
        let is_following = peer.incoming.next() > 0;
        let Some(walk) = &mut peer.walk else { return };
        if walk.ask.is_none_or(|ask| ask > now) {
            return;
        }
        walk.ask = Some(now.after(WALK_REPEAT));
        let (id, scope) = (walk.id, walk.scope);
        if is_following {
            self.send_to(ip, session, &Message::Walk { id, scope }, actions);
        }
    }

    /// Notes peers that have been silent for too long.
    pub(super) fn note_silence(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        for peer in self.peers.values_mut() {
            if peer.falls_silent(now) {
                actions.push(Action::Say(Event::PeerDown {
                    peer: peer.address,
                    silence: SILENCE,
                }));
            }
        }
        if self.peers.values().all(|peer| peer.current().is_none()) {
            self.first_heard = None;
        }
    }

    fn take_overrides(
        &mut self,
        ip: IpAddr,
        stamp: Stamp,
        more: bool,
        overrides: Vec<Overriding>,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        let begun = peer.overrides.take().filter(|(begun, _)| *begun == stamp);
        let mut all = begun.map_or_else(Vec::new, |(_, all)| all);
        all.extend(overrides);
        if all.len() > OVERRIDES {
            return;
        }
        if more {
            peer.overrides = Some((stamp, all));
            return;
        }
        if stamp <= self.ordered.stamp {
            return;
        }
        actions.push(Action::Say(Event::Adopted {
            peer: peer.address,
            overrides: all.len(),
        }));
        self.ordered = Ordered {
            stamp,
            overrides: all.clone(),
        };
        actions.push(Action::Adopt {
            stamp,
            overrides: all,
        });
        // For those who hear this director and not the other.
        self.tell_overrides();
    }

    /// Says when this director has become up to date, or is not any more.
    pub(super) fn judge_up_to_date(&mut self, actions: &mut Vec<Action>) {
        let mut heard = self.peers.values().filter(|peer| peer.current().is_some());
        let all_heard = !self.settings.peers.is_empty()
            && self.peers.values().all(|peer| peer.current().is_some());
        let grace_is_over = self
            .first_heard
            .is_some_and(|first| first.until(self.now) >= GRACE);
        let is = (all_heard || grace_is_over)
            && heard.clone().next().is_some()
            && heard.all(crate::sync::peer::Peer::is_up_to_date);
        if is != self.is_up_to_date {
            self.is_up_to_date = is;
            actions.push(Action::UpToDate(is));
        }
    }

    /// When time alone may make this director up to date.
    pub(super) fn grace_ends(&self) -> Option<Now> {
        let ends = self.first_heard?.after(GRACE);
        (ends > self.now).then_some(ends)
    }
}
