//! What a director has told of each way of a table, so that a scan finds what is new.
//!
//! A scan compares each state word with the one that was told last. An expiry that moves is worth no
//! datagram each time: a peer hears of it when a quarter of the life has passed, so its copy always has
//! three quarters left of what the entry has here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use xdp_lb_common::conn::State;
use xdp_lb_common::tick::{MASK, Tick};

use super::digest::Sums;
use super::record::{Name, Phase};

/// Everything of a state word but its expiry.
const EXPIRY_SHIFT: u32 = 40;

/// What is told of a way that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Whose it is.
    pub name: Name,
    /// The service's index.
    pub service: u32,
    /// The real server.
    pub server: SocketAddr,
    /// Its digest, see [`super::digest::word`].
    pub word: u64,
}

/// What was told of the ways of a table.
#[derive(Debug)]
pub struct Shadow {
    /// State words, as they were told.
    told: Vec<u64>,
    /// Digests of lasting entries, 0 of others.
    words: Vec<u64>,
    /// Indexes of their services.
    services: Vec<u16>,
}

/// Sums of lasting entries, by the index of the service.
pub type Totals = BTreeMap<u32, Sums>;

impl Shadow {
    /// Nothing told yet of a table of so many ways.
    pub fn new(ways: usize) -> Self {
        Self {
            told: vec![0; ways],
            words: vec![0; ways],
            services: vec![0; ways],
        }
    }

    /// Whether a way may be passed over: nothing has changed that is worth telling.
    #[inline]
    pub fn is_told(&self, way: usize, state: State, now: Tick) -> bool {
        let Some(told) = self.told.get(way) else {
            return true;
        };
        let changed = state.0 ^ told;
        if changed == 0 {
            // What has expired since is to be noted, once.
            return state.0 == 0 || state.is_free(now) == 0 || self.word(way) == 0;
        }
        if changed << (64 - EXPIRY_SHIFT) != 0 {
            return false;
        }
        let moved = state.expiry().0.wrapping_sub(State(*told).expiry().0) & MASK;
        moved < state.expiry().remaining(now) / 4
    }

    /// The digest of a way, 0 if it holds nothing lasting.
    pub fn word(&self, way: usize) -> u64 {
        self.words.get(way).copied().unwrap_or(0)
    }

    /// Notes the state of a way; `described` is what it holds, if that is worth telling.
    pub fn note(
        &mut self,
        way: usize,
        state: State,
        described: Option<&Described>,
        totals: &mut Totals,
    ) {
        let (Some(told), Some(word), Some(service)) = (
            self.told.get_mut(way),
            self.words.get_mut(way),
            self.services.get_mut(way),
        ) else {
            return;
        };
        *told = state.0;
        if *word != 0
            && let Some(sums) = totals.get_mut(&u32::from(*service))
        {
            sums.take(*word);
        }
        let is_lasting = Phase::of(state.kind()).is_some_and(Phase::is_lasting);
        *word = 0;
        if let Some(described) = described.filter(|_| is_lasting)
            && let Ok(index) = u16::try_from(described.service)
        {
            *word = described.word;
            *service = index;
            totals.entry(described.service).or_default().add(*word);
        }
    }
}

#[cfg(test)]
mod tests {
    use xdp_lb_common::conn::Kind;

    use super::*;
    use crate::config::model::{Endpoint, Protocol};
    use crate::sync::record::Subject;

    fn described(service: u32, word: u64) -> Described {
        let vip = "192.0.2.1".parse().unwrap();
        let key = Endpoint {
            vip,
            port: 80,
            protocol: Protocol::Tcp,
        };
        Described {
            name: Name {
                service: key.into(),
                subject: Subject::Flow {
                    client: "198.51.100.1:1".parse().unwrap(),
                    called: key,
                },
            },
            service,
            server: "10.0.0.1:80".parse().unwrap(),
            word,
        }
    }

    #[test]
    fn a_way_is_told_when_it_changes_and_when_a_quarter_of_its_life_has_passed() {
        let mut shadow = Shadow::new(2);
        let mut totals = Totals::new();
        let state = |kind, expiry| State::new(7, kind, 1, 0, Tick(expiry));
        let now = Tick(100);
        assert!(shadow.is_told(0, State(0), now), "never used");
        let established = state(Kind::Established, 1000);
        assert!(!shadow.is_told(0, established, now));
        shadow.note(0, established, Some(&described(3, 77)), &mut totals);
        assert!(shadow.is_told(0, established, now));
        assert_eq!((totals[&3].entries(), totals[&3].total()), (1, 77));
        assert!(shadow.is_told(0, state(Kind::Established, 1001), Tick(101)));
        assert!(shadow.is_told(0, state(Kind::Established, 1200), Tick(300)));
        assert!(!shadow.is_told(0, state(Kind::Established, 1300), Tick(400)));
        assert!(
            !shadow.is_told(0, established, Tick(1001)),
            "it has expired"
        );
        let fin = state(Kind::Fin, 1000);
        assert!(!shadow.is_told(0, fin, now));
        shadow.note(0, fin, Some(&described(3, 77)), &mut totals);
        assert_eq!((totals[&3].entries(), totals[&3].total()), (0, 0));
        shadow.note(0, State(0), None, &mut totals);
        assert!(!shadow.is_told(0, state(Kind::Fin, 5), now));
        assert!(shadow.is_told(9, fin, now), "there is no such way");
    }
}
