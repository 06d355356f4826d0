//! Runs the scenarios in `tests/fixtures/vrrp`.
//!
//! A scenario is a text file: comments (`#`), settings (`router key=value …`), what happens
//! (`< seconds event`), and below each of these what the router then wanted done, with the time it
//! wanted it. The test makes the file anew from its settings and events and compares. With
//! `XDP_LB_BLESS=1` it writes what it made; read the difference before committing it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::packet::message::encode;
use xdp_lb::vrrp::packet::{Advert, Datagram};
use xdp_lb::vrrp::priority::{Condition, Kind, Tracker};
use xdp_lb::vrrp::router::{Action, Input, Predecessor, Router};
use xdp_lb::vrrp::settings::{Auth, Garp, Peer, Settings, Transport};
use xdp_lb::vrrp::{Interval, Priority, Version, Vrid, Wall};

#[test]
fn every_scenario_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vrrp");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 20,
        "only {} scenarios in {}",
        files.len(),
        folder.display()
    );
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(
            written
                .lines()
                .take_while(|l| l.starts_with('#'))
                .any(|l| l.contains("RFC") || l.contains("ours")),
            "{name}: its head names neither a section of an RFC nor says that the rule is ours"
        );
        let made = Scenario::run(&name, &written);
        if made != written && std::env::var_os("XDP_LB_BLESS").is_some() {
            std::fs::write(&file, &made).unwrap();
        } else if made != written {
            wrong.push(format!("{name}:\n{}", difference(&written, &made)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(written: &str, made: &str) -> String {
    let pairs = written.lines().zip(made.lines());
    let same = pairs.take_while(|(a, b)| a == b).count();
    let tail = |text: &str| {
        let lines = text
            .lines()
            .skip(same)
            .take(8)
            .map(|line| format!("    {line}\n"));
        lines.collect::<String>()
    };
    format!(
        "  line {}, written:\n{}  made:\n{}",
        same + 1,
        tail(written),
        tail(made)
    )
}

struct Scenario {
    name: String,
    router: Option<Router>,
    settings: Settings,
    now: Now,
    made: String,
}

impl Scenario {
    fn run(name: &str, text: &str) -> String {
        let vrid = Vrid::new(51).unwrap();
        let vips = vec![IpAddr::from([10, 9, 0, 50])];
        let mut scenario = Self {
            name: name.to_owned(),
            router: None,
            settings: Settings::new("VI_1", vrid, IpAddr::from([10, 9, 0, 12]), vips),
            now: Now::ZERO,
            made: String::new(),
        };
        for line in text.lines() {
            if let Some(keys) = line.strip_prefix("router ") {
                writeln!(scenario.made, "{line}").unwrap();
                scenario.configure(keys);
            } else if let Some(event) = line.strip_prefix("< ") {
                scenario.event(line, event);
            } else if line.is_empty() || line.starts_with('#') {
                writeln!(scenario.made, "{line}").unwrap();
            }
        }
        scenario.made
    }

    fn configure(&mut self, keys: &str) {
        for word in keys.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            set(&mut self.settings, key, value).unwrap_or_else(|| panic!("{}: {word}", self.name));
        }
    }

    fn router(&mut self) -> &mut Router {
        let settings = &self.settings;
        self.router
            .get_or_insert_with(|| Router::new(Now::ZERO, settings.clone()))
    }

    /// Lets time pass, unless the host is halted meanwhile, and then the event happen.
    fn event(&mut self, line: &str, event: &str) {
        let (at, what) = event.split_once(' ').expect("a time and an event");
        let at = Now(seconds(at));
        let (halted, what) = match what.strip_prefix("halted, ") {
            Some(what) => (true, what),
            None => (false, what),
        };
        while let Some(deadline) = self.router().deadline()
            && deadline <= at
            && !halted
        {
            assert!(
                deadline > self.now || self.now == Now::ZERO,
                "{}: {line}",
                self.name
            );
            self.step(deadline, Router::expire);
            let next = self.router().deadline();
            assert!(
                next.is_none_or(|next| next > deadline),
                "{}: {line}: in the past",
                self.name
            );
        }
        writeln!(self.made, "{line}").unwrap();
        let words: Vec<_> = what.split_whitespace().collect();
        match words.as_slice() {
            ["wake"] => self.step(at, Router::expire),
            ["end"] => {}
            ["reload", ..] => {
                self.configure(what.strip_prefix("reload").unwrap());
                let settings = Box::new(self.settings.clone());
                self.input(at, Input::Reload(settings));
            }
            words => {
                let input = self
                    .parse(words)
                    .unwrap_or_else(|| panic!("{}: {line}", self.name));
                self.input(at, input);
            }
        }
        self.now = at;
    }

    fn input(&mut self, at: Now, input: Input) {
        self.step(at, |router, now, actions| {
            router.handle(now, input, actions);
        });
    }

    fn step(&mut self, at: Now, with: impl FnOnce(&mut Router, Now, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        with(self.router(), at, &mut actions);
        for action in actions {
            let action = words(&action);
            writeln!(self.made, "    {:.6} {action}", at.0.as_secs_f64()).unwrap();
        }
        self.now = at;
    }

    fn parse(&self, words: &[&str]) -> Option<Input> {
        Some(match *words {
            ["start"] => Input::Start { predecessor: None },
            ["start", "after", silent] => {
                let silent_for = seconds(silent);
                Input::Start {
                    predecessor: Some(Predecessor { silent_for }),
                }
            }
            ["stop"] => Input::Stop,
            ["interface", state] => Input::Interface { up: state == "up" },
            ["source", address] => Input::Source(address.parse().ok()),
            ["advert", priority, "from", from, ref rest @ ..] => Input::Received {
                datagram: self.datagram(priority, from, rest)?,
                wall: Wall::default(),
            },
            [kind, name, ref state @ ..] => {
                let kind = kind_of(kind)?;
                let condition = match *state {
                    ["up"] => Condition::Up,
                    ["down"] => Condition::Down { failures: 1 },
                    ["failed", failures] => Condition::Down {
                        failures: failures.parse().ok()?,
                    },
                    ["says", value] => Condition::Value(value.parse().ok()?),
                    _ => return None,
                };
                Input::Tracked {
                    kind,
                    name: name.to_owned(),
                    condition,
                }
            }
            _ => return None,
        })
    }

    fn datagram(&self, priority: &str, from: &str, rest: &[&str]) -> Option<Datagram> {
        let mut theirs = self.settings.clone();
        let (mut hops, mut plain) = (255, false);
        let mut destination = self.settings.destinations().first().copied()?;
        if let Transport::Unicast { .. } = theirs.transport {
            destination = theirs.source;
        }
        for word in rest {
            match word.split_once('=') {
                Some(("ttl", value)) => hops = value.parse().ok()?,
                Some(("to", value)) => destination = value.parse().ok()?,
                Some((key, value)) => set(&mut theirs, key, value)?,
                None if *word == "plain" => plain = true,
                None => set(&mut theirs, word, "")?,
            }
        }
        let source = from.parse().ok()?;
        let advert = Advert {
            version: theirs.version,
            vrid: theirs.vrid,
            priority: Priority::from_wire(priority.parse().ok()?),
            interval: theirs.interval,
            auth: theirs.auth,
            addresses: theirs.addresses,
        };
        let message = encode(&advert, source, destination, plain);
        Some(Datagram {
            source,
            destination,
            hops,
            message,
        })
    }
}

fn set(settings: &mut Settings, key: &str, value: &str) -> Option<()> {
    match key {
        "priority" => settings.priority = Priority::new(value.parse().ok()?)?,
        "version" => {
            settings.version = if value == "3" {
                Version::V3
            } else {
                Version::V2
            }
        }
        "vrid" => settings.vrid = Vrid::new(value.parse().ok()?)?,
        "source" => settings.source = value.parse().ok()?,
        "interval" => {
            let centis = seconds(value).as_millis() / 10;
            settings.interval = Interval::from_centis(centis.try_into().ok()?)?;
        }
        "pass" => settings.auth = Auth::password(value.as_bytes()),
        "noauth" => settings.auth = Auth::None,
        "vips" => settings.addresses = value.split(',').map_while(|a| a.parse().ok()).collect(),
        "peers" => {
            let peers = value
                .split(',')
                .map_while(|a| a.parse().ok())
                .map(Peer::new)
                .collect();
            settings.transport = Transport::Unicast {
                peers,
                check_source: true,
            };
        }
        "group" => {
            settings.transport = Transport::Multicast {
                group: value.parse().ok()?,
            }
        }
        "nopreempt" => settings.preempt = false,
        "preempt_delay" => settings.preempt_delay = seconds(value),
        "startup_delay" => settings.startup_delay = seconds(value),
        "down_timer_adverts" => settings.down_timer_adverts = value.parse().ok()?,
        "higher_prio_send_advert" => settings.higher_prio_send_advert = value == "yes",
        "lower_prio_no_advert" => settings.lower_prio_no_advert = true,
        "owner_ignore_adverts" => settings.owner_ignore_adverts = true,
        "skip_check_adv_addr" => settings.skip_check_adv_addr = true,
        "dont_track_primary" => settings.dont_track_primary = true,
        key if key.contains("garp") => set_garp(&mut settings.garp, key, value)?,
        kind => {
            // script=chk_nginx:-2, interface=eth1:0:reverse
            let mut parts = value.split(':');
            let tracker = Tracker {
                kind: kind_of(kind)?,
                name: parts.next()?.to_owned(),
                weight: parts.next()?.parse().ok()?,
                reverse: parts.next() == Some("reverse"),
            };
            settings
                .trackers
                .retain(|old| (old.kind, &old.name) != (tracker.kind, &tracker.name));
            settings.trackers.push(tracker);
        }
    }
    Some(())
}

fn set_garp(garp: &mut Garp, key: &str, value: &str) -> Option<()> {
    match key {
        "min_garp" => *garp = Garp::MINIMAL,
        "garp_repeat" => garp.repeat = value.parse().ok()?,
        "garp_delay" => garp.delay = seconds(value),
        "garp_refresh" => garp.refresh = seconds(value),
        "garp_refresh_repeat" => garp.refresh_repeat = value.parse().ok()?,
        "garp_lower_prio_repeat" => garp.lower_prio_repeat = value.parse().ok()?,
        "garp_lower_prio_delay" => garp.lower_prio_delay = seconds(value),
        _ => return None,
    }
    Some(())
}

fn kind_of(text: &str) -> Option<Kind> {
    [Kind::Interface, Kind::Script, Kind::File, Kind::Process]
        .into_iter()
        .find(|kind| kind.to_string() == text)
}

fn seconds(text: &str) -> Duration {
    // By way of nanoseconds, so that 0.36 is exact.
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let nanos: u32 = format!("{part:0<9}")
        .parse()
        .expect("at most nine decimals");
    Duration::new(whole.parse().expect("seconds"), nanos)
}

fn words(action: &Action) -> String {
    match action {
        Action::OpenGate => "gate open".to_owned(),
        Action::CloseGate => "gate closed".to_owned(),
        Action::Advert {
            priority,
            destination,
        } => format!("advert {priority} to {destination}"),
        Action::TakeAddresses => "addresses taken".to_owned(),
        Action::DropAddresses => "addresses dropped".to_owned(),
        Action::Announce { repeat, .. } => format!("announced {repeat} times"),
        Action::AnnounceSource => "own address announced".to_owned(),
        Action::Notify { notice, priority } => format!("notify {} {priority}", notice.label()),
        Action::Log(event) => format!("\"{event}\""),
        Action::Stopped => "stopped".to_owned(),
    }
}
