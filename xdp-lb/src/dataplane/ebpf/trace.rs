//! What would become of a packet: the program itself says so, in a mode in which it writes nothing,
//! run by the kernel's test run on a packet that is made up for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::Ebpf as Object;
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunOptions};
use etherparse::PacketBuilder;
use nix::time::{ClockId, clock_gettime};
use xdp_lb_common::addr::Address;
use xdp_lb_common::backend::{BACKEND_RELEASES, Backend, Identity};
use xdp_lb_common::conn::table::{Place, PlaceMemory, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FlowInfo, FlowV4, FlowV6};
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, first_place, second_place};
use xdp_lb_common::limits::{MAX_BACKENDS, MAX_SERVICES, WAYS};
use xdp_lb_common::persist::{template_hash_v4, template_hash_v6};
use xdp_lb_common::reason::Verdict as Fate;
use xdp_lb_common::service::{SERVICE_PERSISTENT, Service};
use xdp_lb_common::tick::{self, Tick};
use xdp_lb_common::watch::{Decision, MARK, NOBODY, Via, mode};

use super::again::{self, Names, mapped, take};
use super::image::NO_RING;
use super::load::{Purpose, STAGES, Sizes};
use super::{Options, read};
use crate::config::model::Protocol;
use crate::dataplane::Error;
use crate::dataplane::decision::{Entry, Question, Trace, Verdict};
use crate::dataplane::mmap::MappedArray;

/// Its programs lead on to each other by a table of their own: none may come to one that writes.
const PURPOSE: Purpose = Purpose {
    mode: mode::DRY,
    own: &[STAGES, "DECIDED"],
    ring: NO_RING,
};

/// The program, loaded to look.
pub struct Dry {
    object: Object,
    options: Options,
    /// What it decided, where it ran.
    decisions: PerCpuArray<MapData, Decision>,
    names: Names,
    services: MappedArray<Service>,
    backends: MappedArray<Backend>,
    conns: Table,
    templates: Table,
    coefficients: (Coefficients, CoefficientsV6),
}

impl Dry {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let sizes = Sizes::new(options);
        let (mut object, key) = again::load(options, &PURPOSE)?;
        Ok(Self {
            options: options.clone(),
            decisions: take(&mut object, "NOTE")?
                .try_into()
                .map_err(|_wrong_type| {
                    Error::Load("the map of decisions is of another type".to_owned())
                })?,
            names: Names::open(&mut object)?,
            services: mapped(&mut object, "SERVICES", MAX_SERVICES)?,
            backends: mapped(&mut object, "BACKENDS", MAX_BACKENDS)?,
            conns: Table::open(&mut object, ["CONNS", "CONN_INFO"], sizes.conn_places)?,
            templates: Table::open(
                &mut object,
                ["TEMPLATES", "TEMPLATE_INFO"],
                sizes.template_places,
            )?,
            coefficients: (Coefficients::of(key), CoefficientsV6::of(key)),
            object,
        })
    }

    /// What would become of a frame that came in by an interface.
    pub fn decide(&mut self, frame: &[u8], ifindex: u32) -> Result<Decision, Error> {
        let before = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        let before = before.map_or(0, |moment| moment.as_nanos());
        let context = context(frame.len(), ifindex);
        let program = again::entry(&mut self.object)?;
        let run = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        });
        run.map_err(|error| Error::Load(format!("the kernel does not run the program: {error}")))?;
        let by_cpu = self.decisions.get(&0, 0);
        let by_cpu = by_cpu
            .map_err(|error| Error::Load(format!("cannot read what was decided: {error}")))?;
        let is_of_this_run =
            |told: &&Decision| told.mark == MARK && u128::from(told.time_ns) >= before;
        let decision = by_cpu
            .iter()
            .copied()
            .filter(|told| is_of_this_run(&told))
            .max_by_key(|told| told.time_ns);
        decision.ok_or_else(|| Error::Load("the program does not say what it decides".to_owned()))
    }

    /// The entry of the connection.
    fn connection(&self, question: &Question, now: Tick) -> Option<Entry> {
        let (state, info) = self.conns.find(self.flow_hash(question)?, now)?;
        Some(self.entry(state, &info, now, self.options.timeouts.of(state.kind())))
    }

    /// The client's template on a service.
    fn template(&self, question: &Question, index: u32, now: Tick) -> Option<Entry> {
        let service = self.services.read(index);
        if service.flags & SERVICE_PERSISTENT == 0 {
            return None;
        }
        let (client, _family) = Address::from_ip(question.client.ip());
        let hash = match question.client.ip() {
            IpAddr::V4(_) => {
                let [client_be, ..] = client.words_be;
                template_hash_v4(&self.coefficients.0, index, client_be, service.client_mask)
            }
            IpAddr::V6(_) => {
                template_hash_v6(&self.coefficients.1, index, client, service.client_mask)
            }
        };
        let (state, info) = self.templates.find(hash, now)?;
        Some(self.entry(state, &info, now, service.persistence_ticks))
    }

    fn flow_hash(&self, question: &Question) -> Option<u64> {
        let (client_port_be, vip_port_be) =
            (question.client.port().to_be(), question.vip.port().to_be());
        let protocol = question.protocol.number();
        let (client, _) = Address::from_ip(question.client.ip());
        let (vip, _) = Address::from_ip(question.vip.ip());
        match (question.client.ip(), question.vip.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                let ([client_be, ..], [vip_be, ..]) = (client.words_be, vip.words_be);
                let flow = FlowV4 {
                    client_be,
                    vip_be,
                    client_port_be,
                    vip_port_be,
                    protocol,
                };
                Some(flow.hash(&self.coefficients.0))
            }
            (IpAddr::V6(_), IpAddr::V6(_)) => {
                let flow = FlowV6 {
                    client,
                    vip,
                    client_port_be,
                    vip_port_be,
                    protocol,
                };
                Some(flow.hash(&self.coefficients.1))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    fn entry(&self, state: State, info: &FlowInfo, now: Tick, timeout: u32) -> Entry {
        let clock = self.options.clock;
        let identity = Identity(self.backends.load(state.backend(), 0));
        let releases = identity.flags() & BACKEND_RELEASES != 0;
        let is_template = matches!(state.kind(), Kind::Template | Kind::TemplateNew);
        Entry {
            state: state.kind().name(),
            server: self.names.server(state.backend()),
            age_s: clock.seconds(now.0.wrapping_sub(info.created) & tick::MASK),
            expires_s: clock.seconds(state.expiry().remaining(now)),
            timeout_s: clock.seconds(timeout),
            is_void: identity.generation() != state.generation() || (is_template && releases),
        }
    }
}

impl Trace for Dry {
    fn ask(&mut self, question: &Question) -> Result<Verdict, Error> {
        let decision = self.decide(&frame(question)?, question.ifindex)?;
        let now = read::tick(&mut self.object)?.short();
        let reason = decision.reason().ok_or_else(|| {
            let reason = decision.reason;
            Error::Load(format!(
                "the program gives a reason without a name ({reason})"
            ))
        })?;
        let known = |index: u32| (index != NOBODY).then_some(index);
        let service = known(decision.service);
        let backend = known(decision.backend);
        let out = match reason.verdict() {
            Fate::Tx => Some(question.ifindex),
            Fate::Redirect => backend.map(|index| self.backends.read(index).ifindex),
            Fate::Pass | Fate::Drop => None,
        };
        Ok(Verdict {
            reason,
            via: Via::of(decision.via),
            service: service.and_then(|index| self.names.service(index)),
            server: backend.and_then(|index| self.names.server(index)),
            out,
            connection: self.connection(question, now),
            template: service.and_then(|index| self.template(question, index, now)),
        })
    }
}

/// A table of ways.
struct Table {
    ways: MappedArray<PlaceMemory>,
    info: MappedArray<FlowInfo>,
}

impl Table {
    fn open(object: &mut Object, [ways, info]: [&str; 2], places: u32) -> Result<Self, Error> {
        let of_place = u32::try_from(WAYS).unwrap_or(1);
        Ok(Self {
            ways: mapped(object, ways, places)?,
            info: mapped(object, info, places * of_place)?,
        })
    }

    /// The live way of a hash, and what it is.
    fn find(&self, hash: u64, now: Tick) -> Option<(State, FlowInfo)> {
        let mask = self.ways.len() - 1;
        let (first_at, second_at) = (first_place(hash, mask), second_place(hash, mask));
        let places = Places {
            first: Ways(self.ways.words(first_at)),
            second: Ways(self.ways.words(second_at)),
            first_at,
            second_at,
        };
        let found = places.find(hash, now);
        let index = places.index(found.in_second, found.way);
        found.exists().then(|| (found.state, self.info.read(index)))
    }
}

/// A place in mapped memory, to be read.
struct Ways<'a>(&'a [AtomicU64]);

impl Ways<'_> {
    fn word(&self, at: usize) -> u64 {
        self.0
            .get(at)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }
}

impl Place for Ways<'_> {
    fn key(&self, way: usize) -> u64 {
        self.word(way * 2)
    }

    fn state(&self, way: usize) -> State {
        State(self.word(way * 2 + 1))
    }

    fn swap_key(&self, _way: usize, _old: u64, _new: u64) -> bool {
        false
    }

    fn swap_state(&self, _way: usize, _old: State, _new: State) -> bool {
        false
    }
}

/// The packet that is asked about.
fn frame(question: &Question) -> Result<Vec<u8>, Error> {
    const HOPS: u8 = 64;
    // Nobody's: neither a real server nor a director sent it.
    let link = PacketBuilder::ethernet2([0; 6], question.mac.octets());
    let packet = match (question.client.ip(), question.vip.ip()) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => link.ipv4(client.octets(), vip.octets(), HOPS),
        (IpAddr::V6(client), IpAddr::V6(vip)) => link.ipv6(client.octets(), vip.octets(), HOPS),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            let why = "client and VIP are not of one address family";
            return Err(Error::Unknown(why.to_owned()));
        }
    };
    let (from, to) = (question.client.port(), question.vip.port());
    let mut frame = Vec::new();
    let written = match (question.protocol, question.midstream) {
        (Protocol::Sctp, _) => {
            return Err(Error::Unknown(
                "SCTP is not balanced; no such service".to_owned(),
            ));
        }
        (Protocol::Udp, _) => packet.udp(from, to).write(&mut frame, &[]),
        (Protocol::Tcp, true) => packet.tcp(from, to, 1, 1024).ack(1).write(&mut frame, &[]),
        (Protocol::Tcp, false) => packet.tcp(from, to, 1, 1024).syn().write(&mut frame, &[]),
    };
    written.map_err(|error| Error::Load(format!("no such packet can be made: {error}")))?;
    Ok(frame)
}

/// `struct xdp_md` of a frame of this length that came in by an interface.
fn context(len: usize, ifindex: u32) -> Vec<u8> {
    let (data, data_end, data_meta) = (0, u32::try_from(len).unwrap_or(0), 0);
    let (queue, egress) = (0, 0);
    let words = [data, data_end, data_meta, ifindex, queue, egress];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}
