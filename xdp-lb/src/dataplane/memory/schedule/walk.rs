//! `rr` and `wrr`: whose turn it is.

use std::net::SocketAddr;

use super::{Listed, Seen};

/// `rr`: the server after the one of the last time.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct RoundRobin {
    /// The server of the last time; `None` stands for the head of the list.
    last: Option<SocketAddr>,
}

impl RoundRobin {
    /// The list changed. A pointer at a server that went is moved back to the one before it.
    pub(super) fn follow(&mut self, known: &[SocketAddr], list: &[Listed]) {
        let stays = |server: &&SocketAddr| list.iter().any(|listed| listed.address == **server);
        let up_to_last = known.iter().position(|server| Some(*server) == self.last);
        let before = up_to_last
            .and_then(|at| known.get(..=at))
            .unwrap_or_default();
        self.last = before.iter().rev().find(stays).copied();
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self, seen: &[Seen]) -> Option<SocketAddr> {
        let last = seen
            .iter()
            .position(|server| Some(server.address) == self.last);
        let start = last.map_or(0, |at| at + 1);
        let all = seen.iter().cycle().skip(start).take(seen.len());
        let next = all.copied().find(Seen::takes)?;
        self.last = Some(next.address);
        self.last
    }
}

/// `wrr`: the list is walked over and over. In each walk the servers of at least the current weight
/// are picked; after it the current weight falls by the greatest common divisor of all weights, and
/// begins from the top when it is used up.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Weighted {
    /// Servers of the list that the present walk has passed.
    passed: usize,
    /// Current weight; 0 before the first list with weight.
    current: u32,
    step: u32,
    top: u32,
}

impl Weighted {
    /// The list changed: as if the servers that went and the edits had come first, and then each new
    /// server at the head.
    pub(super) fn follow(&mut self, known: &[SocketAddr], list: &[Listed]) {
        let is_new = |listed: &Listed| !known.contains(&listed.address);
        let newcomers = list.iter().take_while(|listed| is_new(listed)).count();
        for skipped in (0..=newcomers).rev() {
            self.change(list.get(skipped..).unwrap_or_default());
        }
    }

    /// A walk begins anew after each change. The current weight stays, rounded so that walks end at
    /// the lowest weight again; one that is too high by now falls to the top.
    fn change(&mut self, list: &[Listed]) {
        let weights = list.iter().map(|listed| listed.weight);
        self.step = weights.clone().fold(0, greatest_divisor);
        self.passed = 0;
        let heaviest = weights.max().unwrap_or(0);
        if self.step == 0 {
            (self.current, self.top) = (0, 0);
            return;
        }
        self.top = heaviest - self.step + 1;
        if self.current == 0 || self.current > self.top {
            self.current = self.top;
        } else if self.step > 1 {
            self.current = self.current - self.current % self.step + 1;
        }
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self, seen: &[Seen]) -> Option<SocketAddr> {
        if !seen.iter().any(Seen::takes) || self.step == 0 {
            return None;
        }
        loop {
            let (before, at) = (self.passed, self.current);
            let rest = seen.iter().enumerate().skip(before);
            let mut turns = rest.filter(|(_, server)| server.takes() && server.weight >= at);
            if let Some((position, server)) = turns.next() {
                self.passed = position + 1;
                return Some(server.address);
            }
            self.passed = 0;
            self.current = match self.current.checked_sub(self.step) {
                None | Some(0) => self.top,
                Some(lower) => lower,
            };
        }
    }
}

/// Euclid's.
pub(super) const fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_divisor(b, a % b)
    }
}
