//! Carries a case out before a director, and writes down whom it chose.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};

use super::case::{Case, Edit, Sort, Step};
use super::frame::{Kind, frame};

/// What stands in front of the real servers.
pub trait Director {
    /// Begins with the servers of the case, all of them up.
    ///
    /// # Errors
    /// When the service cannot be set up.
    fn begin(&mut self, case: &Case) -> Result<()>;

    /// Follows a change, after which the servers are as `now` has it.
    ///
    /// # Errors
    /// When it cannot.
    fn edit(&mut self, case: &Case, edit: Edit, now: &Servers) -> Result<()>;

    /// Sends a frame; which real server it goes to.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn send(&mut self, frame: &[u8]) -> Result<Option<u8>>;
}

/// Real servers at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Those of the file, in its order, with their weights.
    pub listed: Vec<(u8, u32)>,
    /// Those whose checks fail.
    pub down: BTreeSet<u8>,
}

impl Servers {
    fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Weight(number, weight) => {
                let mut listed = self.listed.iter_mut();
                if let Some(server) = listed.find(|(other, _)| *other == number) {
                    server.1 = weight;
                }
            }
            Edit::Add(number, weight) => self.listed.push((number, weight)),
            Edit::Remove(number) => self.listed.retain(|(other, _)| *other != number),
            Edit::Down(number) => {
                self.down.insert(number);
            }
            Edit::Up(number) => {
                self.down.remove(&number);
            }
        }
    }

    /// The weight of a server, 0 if there is none.
    pub fn weight(&self, number: u8) -> u32 {
        let mut listed = self.listed.iter();
        listed
            .find(|(other, _)| *other == number)
            .map_or(0, |(_, weight)| *weight)
    }
}

/// Plays a case. One line for each step with packets: the step and the servers they went to, `-` for none.
///
/// # Errors
/// Whatever the director says, and a packet of a connection that was never opened.
pub fn play(case: &Case, director: &mut impl Director) -> Result<Vec<String>> {
    let mut play = Play {
        case,
        opened: Vec::new(),
        dice: 1,
    };
    let listed = case.servers.clone();
    let mut servers = Servers {
        listed,
        down: BTreeSet::new(),
    };
    director.begin(case)?;
    let mut lines = Vec::new();
    for step in &case.steps {
        if let Step::Edit(edit) = step {
            servers.edit(*edit);
            director.edit(case, *edit, &servers)?;
        } else {
            lines.push(play.step(step, director)?);
        }
    }
    Ok(lines)
}

/// A client and the virtual IP it talks to.
type Flow = (SocketAddr, IpAddr);

struct Play<'a> {
    case: &'a Case,
    opened: Vec<Flow>,
    /// For clients by chance, the same each time.
    dice: u64,
}

impl Play<'_> {
    fn step(&mut self, step: &Step, director: &mut impl Director) -> Result<String> {
        let mut line = String::new();
        match step {
            Step::Open {
                count,
                from,
                established,
            } => {
                line.push_str("open ");
                for _ in 0..*count {
                    let flow = (self.client(*from), self.case.vip(0));
                    line.push_str(&self.open(flow, *established, director)?);
                }
            }
            Step::Visit => {
                line.push_str("visit ");
                for vip in 0..self.case.vips {
                    let flow = (self.client(None), self.case.vip(vip));
                    line.push_str(&self.open(flow, true, director)?);
                }
            }
            Step::Sweep(count) => {
                line.push_str("sweep ");
                for _ in 0..*count {
                    let flow = (self.anybody(), self.case.vip(0));
                    line.push(digit(self.packet(flow, Kind::Syn, director)?));
                }
            }
            Step::Again(sort, which) => {
                line.push_str("again ");
                for number in which.clone() {
                    let flow = *self.opened.get(number - 1).with_context(|| {
                        format!(
                            "connection {number} of `{}` was never opened",
                            self.case.name
                        )
                    })?;
                    let kind = match sort {
                        Sort::Data => Kind::Ack,
                        Sort::Fin => Kind::Fin,
                        Sort::Rst => Kind::Rst,
                    };
                    line.push(digit(self.packet(flow, kind, director)?));
                }
            }
            Step::Edit(_) => {}
        }
        Ok(line)
    }

    /// Opens a connection; the server, and the one that the client's answer goes to if that is another.
    fn open(
        &mut self,
        flow: Flow,
        established: bool,
        director: &mut impl Director,
    ) -> Result<String> {
        self.opened.push(flow);
        let chosen = self.packet(flow, Kind::Syn, director)?;
        let mut text = digit(chosen).to_string();
        if established && !self.case.udp && chosen.is_some() {
            let answered = self.packet(flow, Kind::Ack, director)?;
            if answered != chosen {
                text.push('>');
                text.push(digit(answered));
            }
        }
        Ok(text)
    }

    fn packet(
        &self,
        (client, vip): Flow,
        kind: Kind,
        director: &mut impl Director,
    ) -> Result<Option<u8>> {
        let kind = if self.case.udp { Kind::Datagram } else { kind };
        director.send(&frame(client, vip, kind)?)
    }

    /// A client that has not come yet; at a port that has not come yet, of a client that has.
    fn client(&self, address: Option<IpAddr>) -> SocketAddr {
        let number = u16::try_from(self.opened.len()).unwrap_or(u16::MAX);
        let low = u8::try_from(number % 250).unwrap_or(0) + 1;
        let high = u8::try_from(number / 250).unwrap_or(0);
        let address = address.unwrap_or_else(|| {
            if self.case.v6 {
                IpAddr::from([0xfd00, 2, 0, 0, 0, 0, u16::from(high), u16::from(low)])
            } else {
                IpAddr::from([10, 2, high, low])
            }
        });
        SocketAddr::new(address, 1024 + number)
    }

    /// A client from all over, in networks that are nobody else's.
    fn anybody(&mut self) -> SocketAddr {
        let (one, two) = (self.roll(), self.roll());
        let port = u16::try_from(two % 60_000).unwrap_or(0) + 1024;
        let word = |shift| u16::try_from(one.rotate_right(shift) & 0xffff).unwrap_or(0);
        let address = if self.case.v6 {
            let words = [48, 32, 16, 0, 56, 24].map(word);
            let [third, fourth, fifth, sixth, seventh, eighth] = words;
            IpAddr::from([0xfd00, 3, third, fourth, fifth, sixth, seventh, eighth])
        } else {
            let host = u32::try_from(one >> 40).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from_bits(0x0a80_0000 | host))
        };
        SocketAddr::new(address, port)
    }

    /// splitmix64.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

fn digit(server: Option<u8>) -> char {
    server.map_or('-', |number| char::from(b'0' + number % 10))
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    /// Chooses the first server that is listed and up.
    #[derive(Default)]
    struct First {
        now: Servers,
        frames: Vec<Vec<u8>>,
    }

    impl Director for First {
        fn begin(&mut self, case: &Case) -> Result<()> {
            self.now.listed = case.servers.clone();
            Ok(())
        }

        fn edit(&mut self, _: &Case, _: Edit, now: &Servers) -> Result<()> {
            self.now = now.clone();
            Ok(())
        }

        fn send(&mut self, frame: &[u8]) -> Result<Option<u8>> {
            self.frames.push(frame.to_vec());
            let up = |(number, _): &&(u8, u32)| !self.now.down.contains(number);
            Ok(self.now.listed.iter().find(up).map(|(number, _)| *number))
        }
    }

    fn played(text: &str) -> (Result<Vec<String>>, Vec<Vec<u8>>) {
        let cases = case::parse(&format!("== case\nrr\n{text}")).unwrap();
        let mut director = First::default();
        (play(&cases[0], &mut director), director.frames)
    }

    #[test]
    fn every_step_with_packets_leaves_a_line() {
        let (lines, frames) =
            played("servers 1 1\nopen 2\ndown 1\nopen 1\nremove 2\nsyn 2\nup 1\nfin 1-3\n");
        assert_eq!(
            lines.unwrap(),
            ["open 11", "open 2", "open --", "again 111"]
        );
        assert_eq!(
            frames.len(),
            4 + 2 + 2 + 3,
            "two packets each where one is answered"
        );
    }

    #[test]
    fn clients_by_chance_are_the_same_each_time_and_differ() {
        let (_, mut frames) = played("servers 1\nsweep 200\n");
        assert_eq!(frames, played("servers 1\nsweep 200\n").1);
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), 200);
        assert!(
            frames
                .iter()
                .all(|frame| frame[26] == 10 && frame[27] >= 128)
        );
    }

    #[test]
    fn a_packet_of_no_connection_is_an_error() {
        assert!(played("servers 1\nopen 1\nrst 1-2\n").0.is_err());
    }
}
