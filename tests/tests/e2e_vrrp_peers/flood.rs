//! Ten thousand forged adverts a second: the agent's own stay on time, and it believes none.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use xdp_lb_tests::lan::Host;
use xdp_lb_tests::stream::be_prompt;

use crate::site::{Kind, Site, VIP, address, instance};

/// Adverts a second, and for how long.
const RATE: u32 = 10_000;
const LASTS: Duration = Duration::from_secs(12);

/// So many are sent at once.
const BATCH: u32 = 10;

/// How late an advert may be here. A machine that does nothing else has them within a few milliseconds,
/// and the design allows 50; an agent that works through a queue first is seconds late.
const LATE: Duration = Duration::from_millis(400);

/// What the agent may grow by meanwhile, KiB: less than a tenth of what is sent.
const GROWTH: u64 = 4096;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const FORGER: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 66);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 201);
const THIRD: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 202);

/// The priority in forgeries from the agent's own address, by which they are told from its own.
const FORGED: u8 = 251;

const XDP_LB: usize = 0;
const KEEPALIVED: usize = 1;

/// Version 2 with a password.
fn first() -> String {
    let lines = "advert_int 1\nauthentication {\nauth_type PASS\nauth_pass s3cr3t\n}";
    instance("VI_1", 51, 150, VIP, lines)
}

/// Version 3, ten times a second.
fn second() -> String {
    instance("VI_2", 52, 150, SECOND, "version 3\nadvert_int 0.1")
}

/// The one that keepalived is the master of.
fn third(priority: u8) -> String {
    instance("VI_3", 53, priority, THIRD, "version 3\nadvert_int 0.5")
}

#[test]
fn a_flood_of_forged_adverts_delays_none_and_changes_nothing() {
    let Some(mut site) = Site::create("fl", &[Kind::XdpLb, Kind::Keepalived]) else {
        return;
    };
    let forger = site.lan.add_host("forger", [&*format!("{FORGER}/24")]);
    let forger = forger.unwrap();
    site.start_with(XDP_LB, &[first(), second(), third(100)].concat());
    // keepalived writes a line for each forgery and has no time left for its adverts.
    site.lan.set_multicast("dir1", false).unwrap();
    site.start_with(KEEPALIVED, &third(150));
    for (owner, vip) in [(XDP_LB, VIP), (XDP_LB, SECOND), (KEEPALIVED, THIRD)] {
        wait_owner(&site, owner, vip);
    }
    let pid = site.peers[XDP_LB].pid().unwrap();
    let before = (Look::at(&site), resident(pid), site.peers[XDP_LB].log());

    let start = Instant::now();
    let sent = flood(&forger);
    let end = Instant::now();

    let rate = f64::from(sent) / (end - start).as_secs_f64();
    assert!(rate > f64::from(RATE) * 0.9, "only {rate:.0} a second");
    for (vrid, interval) in [(51, 1_000), (52, 100)] {
        let interval = Duration::from_millis(interval);
        let gap = longest_gap(&site, vrid, (start, end));
        say(&format!(
            "VRID {vrid}, {rate:.0} forgeries a second: at most {:.1} ms from one advert to the next",
            gap.as_secs_f64() * 1_000.0
        ));
        assert!(
            gap < interval + LATE,
            "VRID {vrid}: {gap:?} without an advert"
        );
    }
    let after = Look::at(&site);
    assert_eq!(after.states, before.0.states, "{}", site.logs());
    assert_eq!(after.transitions, before.0.transitions, "{}", site.logs());
    for reason in [
        "checksum",
        "auth_data",
        "auth_type",
        "ttl",
        "length",
        "version",
        "vip_list",
    ] {
        let count = after.refused.get(reason).copied().unwrap_or(0);
        assert!(count > 1_000, "{reason}: {count} in {:?}", after.refused);
    }
    let grown = resident(pid).saturating_sub(before.1);
    say(&format!(
        "{sent} forgeries: {grown} KiB more, refused {:?}",
        after.refused
    ));
    assert!(grown < GROWTH, "the agent grew by {grown} KiB");
    let log = site.peers[XDP_LB].log();
    let more = log.strip_prefix(&*before.2).unwrap();
    // Three instances, each reason once a minute.
    assert!(more.lines().count() < 60, "{more}");
    let screen = ask(&site, &["vrrp"]);
    assert!(
        screen.contains("auth_data, the last from 10.82.0."),
        "{screen}"
    );
}

fn wait_owner(site: &Site, owner: usize, vip: Ipv4Addr) {
    let what = format!("dir{owner} alone has {vip}");
    let alone = || {
        let owners: Vec<_> = (0..2).filter(|n| site.has(*n, vip)).collect();
        Ok((owners == [owner]).then_some(()))
    };
    let waited = xdp_lb_tests::wait::until(&what, crate::site::LIMIT, alone);
    waited.map_err(|late| late.context(site.logs())).unwrap();
}

/// The longest time without one of the agent's own adverts, as the switch saw them.
fn longest_gap(site: &Site, vrid: u8, (start, end): (Instant, Instant)) -> Duration {
    let own = site.heard(address(XDP_LB), start);
    let own = own
        .iter()
        .filter(|advert| advert.vrid == vrid && advert.priority != FORGED && advert.at < end);
    let times = std::iter::once(start).chain(own.map(|advert| advert.at));
    let times: Vec<_> = times.chain([end]).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap()
}

/// What `xdp-lb vrrp --json` says.
struct Look {
    states: BTreeMap<String, String>,
    transitions: Vec<u64>,
    /// Of all instances.
    refused: BTreeMap<String, u64>,
}

impl Look {
    fn at(site: &Site) -> Self {
        let json: Value = serde_json::from_str(&ask(site, &["vrrp", "--json"])).unwrap();
        let instances = json["instances"].as_array().unwrap();
        let mut refused = BTreeMap::<String, u64>::new();
        for each in instances
            .iter()
            .flat_map(|i| i["refused"].as_array().unwrap())
        {
            let reason = each["reason"].as_str().unwrap().to_owned();
            *refused.entry(reason).or_default() += each["count"].as_u64().unwrap();
        }
        let word = |i: &Value, name: &str| i[name].as_str().unwrap().to_owned();
        let states = instances
            .iter()
            .map(|i| (word(i, "name"), word(i, "state")));
        let transitions = instances.iter();
        Self {
            states: states.collect(),
            transitions: transitions
                .map(|i| i["transitions"].as_u64().unwrap())
                .collect(),
            refused,
        }
    }
}

fn ask(site: &Site, words: &[&str]) -> String {
    let program = xdp_lb_tests::director::program().unwrap();
    let mut command = std::process::Command::new(program);
    command.args(words);
    command.args(["--instance", &site.peers[XDP_LB].instance]);
    site.hosts[XDP_LB].netns.output(&mut command).unwrap()
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.unwrap().split_whitespace().nth(1);
    size.unwrap().parse().unwrap()
}

/// Sends forgeries from a host, evenly; returns how many.
fn flood(host: &Host) -> u32 {
    let packets = forgeries();
    let body = move || {
        be_prompt();
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        socket.set_header_included_v4(true).unwrap();
        socket.set_multicast_if_v4(&FORGER).unwrap();
        let to = SocketAddrV4::new(GROUP, 0).into();
        let (start, mut sent) = (Instant::now(), 0_u32);
        let mut all = packets.iter().cycle();
        while start.elapsed() < LASTS {
            for packet in all.by_ref().take(BATCH as usize) {
                // A full queue of the device is no reason to stop.
                sent += u32::from(socket.send_to(packet, &to).is_ok());
            }
            let due = start + Duration::from_secs(1) * sent / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        sent
    };
    host.netns.run(body).unwrap()
}

/// One of each kind for each virtual router, all with the highest priority, so that whoever believes one
/// steps down.
fn forgeries() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let vips = [VIP, SECOND, THIRD];
    for (vrid, vip) in (51_u8..).zip(vips) {
        let good = Forgery {
            version: if vrid == 51 { 2 } else { 3 },
            source: FORGER,
            ttl: 255,
            vrid,
            vips: vec![vip],
            auth: *b"s3cr3t\0\0",
            auth_type: 1,
        };
        let other = |change: &dyn Fn(&mut Forgery)| {
            let mut other = good.clone();
            change(&mut other);
            other.packet()
        };
        let mut damaged = good.packet();
        // The checksum of the message.
        damaged[26] ^= 0x55;
        let mut short = good.packet();
        short.truncate(26);
        finish_ip(&mut short);
        all.extend([damaged, short]);
        all.extend([
            other(&|forgery| forgery.ttl = 254),
            other(&|forgery| forgery.vrid = 99),
            other(&|forgery| forgery.source = address(XDP_LB)),
            other(&|forgery| forgery.version = 5 - forgery.version),
            other(&|forgery| forgery.version = 4),
            other(&|forgery| forgery.vips.clear()),
        ]);
        if good.version == 2 {
            all.push(other(&|forgery| forgery.auth = *b"letmein\0"));
            all.push(other(&|forgery| forgery.auth_type = 0));
        }
    }
    all
}

/// An advert, and how it is sent.
#[derive(Clone)]
struct Forgery {
    version: u8,
    source: Ipv4Addr,
    ttl: u8,
    vrid: u8,
    vips: Vec<Ipv4Addr>,
    auth: [u8; 8],
    auth_type: u8,
}

impl Forgery {
    fn packet(&self) -> Vec<u8> {
        let count = u8::try_from(self.vips.len()).unwrap();
        let mut message = vec![self.version << 4 | 1, self.vrid, FORGED, count];
        let is_2 = self.version == 2;
        // Version 2: type of authentication, seconds; version 3: hundredths.
        message.extend(if is_2 { [self.auth_type, 1] } else { [0, 10] });
        message.extend([0, 0]);
        message.extend(self.vips.iter().flat_map(Ipv4Addr::octets));
        let mut pseudo = Vec::new();
        if is_2 {
            // Not part of the checksum in RFC 2338, but keepalived's is over them, too.
            message.extend(self.auth);
        } else {
            pseudo.extend(self.source.octets());
            pseudo.extend(GROUP.octets());
            pseudo.extend([0, 112, 0, u8::try_from(message.len()).unwrap()]);
        }
        pseudo.extend(&message);
        let sum = checksum(&pseudo);
        message[6..8].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, self.ttl, 112, 0, 0];
        packet.extend(self.source.octets());
        packet.extend(GROUP.octets());
        packet.extend(message);
        finish_ip(&mut packet);
        packet
    }
}

/// Sets length and checksum of the IP header.
fn finish_ip(packet: &mut [u8]) {
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071, of whole words.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[expect(clippy::print_stderr, reason = "a figure that people want to see")]
fn say(line: &str) {
    eprintln!("{line}");
}
