//! Another director: whether what comes from it is of now, and how far its stream was followed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::incoming::Incoming;
use super::record::{Overriding, Scope, ServiceName, Stamp, Summary};
use super::window::Window;
use super::wire::{Header, Range, Refusal};
use super::{SILENCE, SUMMARY};
use crate::machine::Now;

/// Sessions of a peer that are over and remembered, so that none comes back.
const RETIRED: usize = 64;
/// Requests that wait for their turn.
const SCOPES: usize = 8;
/// The longest time between two comparisons of a service that differs for good.
const COMPARE_SELDOM: Duration = Duration::from_mins(10);

/// A session of a peer that is followed.
#[derive(Debug)]
struct Session {
    id: u64,
    epoch: u64,
    window: Window,
    heard: Now,
    is_alive: bool,
}

/// A session that has not shown yet that it is of now.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u64,
    epoch: u64,
    at: Now,
}

/// Entries that this director asked for.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Number of the request.
    pub id: u32,
    /// Which entries.
    pub scope: Scope,
    /// When it was first asked for.
    pub since: Now,
    /// When it is asked for again; `None` once it has begun.
    pub ask: Option<Now>,
    /// How many entries came.
    pub entries: u64,
}

/// A service as the peer holds it, and how the comparison stands.
#[derive(Clone, Copy, Debug)]
pub struct Theirs {
    /// What it said last.
    pub summary: Summary,
    /// When it said so.
    pub told: Now,
    /// Whether it has the same view; `None`: the service is not known here.
    pub same_view: Option<bool>,
    /// Whether the digests were equal at the same point; `None`: not compared.
    pub is_equal: Option<bool>,
    /// How often in a row they were not.
    differing: u32,
    /// Until when nothing is asked, and how long the next pause is.
    pause: (Now, Duration),
}

impl Theirs {
    /// Before any comparison.
    pub const fn new(now: Now, summary: Summary) -> Self {
        Self {
            summary,
            told: now,
            same_view: None,
            is_equal: None,
            differing: 0,
            pause: (Now::ZERO, SUMMARY),
        }
    }

    /// Notes whether digests were equal; whether the buckets are to be asked for. One difference may
    /// be a moment's, such as an entry that ended a tick earlier here.
    pub fn judge(&mut self, now: Now, is_equal: bool) -> bool {
        self.is_equal = Some(is_equal);
        if is_equal {
            self.differing = 0;
            self.pause = (Now::ZERO, SUMMARY);
            return false;
        }
        self.differing = self.differing.saturating_add(1);
        let (until, pause) = self.pause;
        let asks = self.differing >= 2 && until <= now;
        if asks {
            self.pause = (now.after(pause), (pause * 2).min(COMPARE_SELDOM));
        }
        asks
    }
}

/// What a datagram is, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Of the session that is followed.
    Current,
    /// Of that session, which was silent for long.
    Back,
    /// Of a session that has just shown that it is of now; whether there was another before.
    New {
        /// Whether the peer was followed before, in a session that is over.
        is_restart: bool,
    },
    /// Of a session that has not shown that yet; whether it is the first sign of it.
    Candidate {
        /// Whether it was not known yet.
        is_first: bool,
    },
}

/// Another director.
#[derive(Debug)]
pub struct Peer {
    /// Where it is reached.
    pub address: SocketAddr,
    session: Option<Session>,
    candidate: Option<Candidate>,
    retired: VecDeque<u64>,
    /// Its stream.
    pub incoming: Incoming,
    /// The walk that was asked for, if one is under way.
    pub walk: Option<Walk>,
    /// Walks to be asked for next.
    pub scopes: VecDeque<Scope>,
    /// Number of the last walk.
    pub walks: u32,
    /// Whether all of its entries have come in this session.
    pub is_complete: bool,
    /// Where its stream has to have been followed to, before this director is up to date.
    pub target: u64,
    /// Number of the last walk that it asked for.
    pub asked: u32,
    /// Parts of this director's stream that it asked for again.
    pub repeats: VecDeque<Range>,
    /// How far it has followed this director's stream.
    pub follows: u64,
    /// Fingerprint of its hash key.
    pub hash_key: Option<u64>,
    /// Its services.
    pub services: BTreeMap<ServiceName, Theirs>,
    /// Overrides of which parts have come.
    pub overrides: Option<(Stamp, Vec<Overriding>)>,
    /// How many services its file defines differently, as it was last said.
    pub differing_said: usize,
}

impl Peer {
    /// One that was never heard.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            session: None,
            candidate: None,
            retired: VecDeque::new(),
            incoming: Incoming::default(),
            walk: None,
            scopes: VecDeque::new(),
            walks: 0,
            is_complete: false,
            target: 0,
            asked: 0,
            repeats: VecDeque::new(),
            follows: 0,
            hash_key: None,
            services: BTreeMap::new(),
            overrides: None,
            differing_said: 0,
        }
    }

    /// The session that is followed, if it was heard lately.
    pub fn current(&self) -> Option<u64> {
        let session = self.session.as_ref()?;
        session.is_alive.then_some(session.id)
    }

    /// The session to repeat to the peer.
    pub fn to_repeat(&self) -> impl Iterator<Item = u64> {
        let session = self.session.as_ref().map(|session| session.id);
        let candidate = self.candidate.map(|candidate| candidate.id);
        session.into_iter().chain(candidate)
    }

    /// How long it has been silent; `None`: never heard.
    pub fn silence(&self, now: Now) -> Option<Duration> {
        let session = self.session.as_ref()?;
        Some(session.heard.until(now))
    }

    /// When it counts as gone.
    pub fn deadline(&self) -> Option<Now> {
        let session = self.session.as_ref().filter(|session| session.is_alive)?;
        Some(session.heard.after(SILENCE))
    }

    /// Whether it has just been silent for too long.
    pub fn falls_silent(&mut self, now: Now) -> bool {
        let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
        if let Some(session) = self.session.as_mut().filter(|_| is_due) {
            session.is_alive = false;
        }
        is_due
    }

    /// Judges a datagram that is signed. `repeats_own`: it repeats this director's session, so it was
    /// made after this director's start.
    pub fn admit(
        &mut self,
        now: Now,
        header: &Header,
        repeats_own: bool,
    ) -> Result<Standing, Refusal> {
        if let Some(session) = &mut self.session
            && session.id == header.session
        {
            if !session.window.admit(header.nonce) {
                return Err(Refusal::Replay);
            }
            session.heard = now;
            if session.is_alive {
                return Ok(Standing::Current);
            }
            session.is_alive = true;
            return Ok(Standing::Back);
        }
        if self.is_over(header) {
            return Err(Refusal::Session);
        }
        if repeats_own {
            Ok(self.begin(now, header))
        } else {
            self.consider(now, header)
        }
    }

    /// Whether a session that is not the one followed can only be an earlier one. The clock of a
    /// director that was restarted may have been set back; then its predecessor falls silent first.
    fn is_over(&self, header: &Header) -> bool {
        let is_older = |session: &Session| session.is_alive && header.epoch < session.epoch;
        self.retired.contains(&header.session) || self.session.as_ref().is_some_and(is_older)
    }

    fn begin(&mut self, now: Now, header: &Header) -> Standing {
        let before = self.session.take();
        let is_restart = before.is_some();
        let mut retired = std::mem::take(&mut self.retired);
        if let Some(before) = before {
            retired.push_back(before.id);
            if retired.len() > RETIRED {
                retired.pop_front();
            }
        }
        *self = Self {
            session: Some(Session {
                id: header.session,
                epoch: header.epoch,
                // What it sent before told nothing that counts; played back, it would be news.
                window: Window::begin(header.nonce),
                heard: now,
                is_alive: true,
            }),
            retired,
            walks: self.walks,
            ..Self::new(self.address)
        };
        Standing::New { is_restart }
    }

    /// Keeps the session in mind that began last; one that is not heard any more makes room.
    fn consider(&mut self, now: Now, header: &Header) -> Result<Standing, Refusal> {
        let known = self.candidate;
        let is_first = known.is_none_or(|known| known.id != header.session);
        let stands = known.is_some_and(|known| {
            is_first && known.epoch > header.epoch && known.at.until(now) < SILENCE
        });
        if stands {
            return Err(Refusal::Session);
        }
        self.candidate = Some(Candidate {
            id: header.session,
            epoch: header.epoch,
            at: now,
        });
        Ok(Standing::Candidate { is_first })
    }

    /// Wants entries of the peer. One request is under way at a time.
    pub fn want(&mut self, scope: Scope) {
        if scope == Scope::All {
            self.is_complete = false;
            self.scopes.clear();
        }
        let covered = self.scopes.contains(&Scope::All) || self.scopes.contains(&scope);
        if !covered && self.scopes.len() < SCOPES {
            self.scopes.push_back(scope);
        }
    }

    /// Begins the next request, if none is under way.
    pub fn next_walk(&mut self, now: Now) {
        if self.walk.is_some() || self.current().is_none() {
            return;
        }
        if let Some(scope) = self.scopes.pop_front() {
            self.walks = self.walks.wrapping_add(1);
            self.walk = Some(Walk {
                id: self.walks,
                scope,
                since: now,
                ask: Some(now),
                entries: 0,
            });
        }
    }

    /// Whether everything that the peer held when it was heard (again) has come.
    pub fn is_up_to_date(&self) -> bool {
        self.is_complete && self.incoming.next() >= self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn header(session: u64, epoch: u64, nonce: u64) -> Header {
        Header {
            cluster: 0,
            session,
            epoch,
            nonce,
            to: 0,
        }
    }

    const fn at(seconds: u64) -> Now {
        Now::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_is_followed_once_it_is_shown_to_be_of_now() {
        let mut peer = Peer::new("192.0.2.2:8848".parse().unwrap());
        let first = Standing::Candidate { is_first: true };
        assert_eq!(peer.admit(at(0), &header(7, 100, 1), false), Ok(first));
        assert_eq!(peer.to_repeat().collect::<Vec<_>>(), [7]);
        assert_eq!(peer.current(), None);
        let new = Standing::New { is_restart: false };
        assert_eq!(peer.admit(at(0), &header(7, 100, 2), true), Ok(new));
        assert_eq!(peer.current(), Some(7));
        for nonce in [1, 2] {
            let replayed = peer.admit(at(1), &header(7, 100, nonce), true);
            assert_eq!(replayed, Err(Refusal::Replay), "{nonce}");
        }
        assert_eq!(
            peer.admit(at(1), &header(7, 100, 3), false),
            Ok(Standing::Current)
        );
        assert!(!peer.falls_silent(at(3)));
        assert!(peer.falls_silent(at(4)));
        assert!(!peer.falls_silent(at(5)), "once");
        assert_eq!(
            peer.admit(at(6), &header(7, 100, 4), false),
            Ok(Standing::Back)
        );
    }

    #[test]
    fn recordings_of_earlier_sessions_displace_nobody() {
        let mut peer = Peer::new("192.0.2.2:8848".parse().unwrap());
        peer.admit(at(0), &header(7, 100, 1), true).unwrap();
        let restarted = peer.admit(at(1), &header(8, 200, 1), true);
        assert_eq!(restarted, Ok(Standing::New { is_restart: true }));
        for repeats_own in [false, true] {
            let old = peer.admit(at(1), &header(7, 100, 9), repeats_own);
            assert_eq!(old, Err(Refusal::Session), "it is over");
            let older = peer.admit(at(1), &header(6, 50, 9), repeats_own);
            assert_eq!(older, Err(Refusal::Session), "it began before");
        }
        // Nor do they keep a newer one from being repeated.
        assert!(peer.admit(at(1), &header(9, 300, 1), false).is_ok());
        assert_eq!(
            peer.admit(at(1), &header(5, 250, 1), false),
            Err(Refusal::Session)
        );
        assert!(peer.to_repeat().any(|id| id == 9));
        // A clock that was set back: once the session before is silent.
        assert!(peer.falls_silent(at(4)));
        assert!(peer.admit(at(5), &header(10, 10, 1), true).is_ok());
    }
}
