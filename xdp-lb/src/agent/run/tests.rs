use super::*;
use crate::agent::health::{Beginning, Observers, Places};
use crate::agent::testing::{FakeDataplane, FakeLinks, Kernel};
use crate::dataplane::Inherited;
use crate::health::Outcome;
use crate::plan::table::Network;
use crate::plan::testing::{network, service_key, websocket};

/// What an agent is tested with.
struct Bench {
    kernel: Kernel,
    network: watch::Sender<Network>,
    peers: watch::Sender<Peers>,
    _inspections: mpsc::Sender<Inspection>,
}

async fn bench(inherited: Inherited) -> (Bench, Parts<FakeDataplane, FakeLinks>) {
    let kernel = Kernel::default();
    let (publish, network) = watch::channel(network());
    let (sender, inspections) = mpsc::channel(1);
    let (elections, heard) = Elections::fake(&["VI_1"]);
    let probe = |_| std::future::ready(Outcome::Passed);
    let config = Arc::new(websocket());
    let beginning = Beginning {
        inherited: &inherited.servers,
        seed: 1,
        network: network.clone(),
        observers: Observers::none(),
    };
    let checks = Checks::start_with(&config, beginning, Places::new(8), probe);
    // Nobody tells anything.
    let (_, notifications) = mpsc::unbounded_channel();
    let outside = Outside::start(
        config.clone(),
        Arc::new(|_| {}),
        notifications,
        "lb1".to_owned(),
    );
    let outside = outside.await;
    let parts = Parts {
        synced: Synced::none(),
        config,
        packet_path: FakeDataplane {
            kernel: kernel.clone(),
            inherited,
        },
        links: FakeLinks(kernel.clone()),
        leftovers: Leftovers::default(),
        network,
        checks,
        elections,
        outside,
        inspections,
        orders: mpsc::channel(1).1,
        reloads: mpsc::channel(1).1,
        overrides: Store::default(),
        memory: MemoryFile::default(),
    };
    let bench = Bench {
        kernel,
        network: publish,
        peers: heard,
        _inspections: sender,
    };
    (bench, parts)
}

struct File {
    next: Option<Config>,
    resolving: BTreeSet<IpAddr>,
    phases: Vec<Phase>,
}

impl Surroundings for File {
    fn enter(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn reload(&mut self) -> Result<Config, Vec<String>> {
        let next = self.next.take();
        next.ok_or_else(|| vec!["it is not valid".to_owned()])
    }

    fn resolve(&mut self, addresses: BTreeSet<IpAddr>) {
        self.resolving = addresses;
    }
}

async fn run(
    agent: Agent<FakeDataplane, FakeLinks>,
    signals: &[Signal],
    next: Option<Config>,
) -> (Ending, File) {
    let (sender, receiver) = mpsc::channel(signals.len());
    for signal in signals {
        sender.send(*signal).await.unwrap();
    }
    let mut file = File {
        next,
        resolving: BTreeSet::new(),
        phases: Vec::new(),
    };
    let ending = agent.run(receiver, &mut file).await.unwrap();
    (ending, file)
}

fn leftover() -> OwnedAddress {
    OwnedAddress::new(2, "192.168.1.250/24".parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_full_stop_leaves_nothing() {
    let (bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    assert_eq!(bench.kernel.vips().len(), 1);
    let (ending, _) = run(agent, &[Signal::Stop], None).await;
    assert_eq!(ending, Ending::Stopped);
    assert_eq!(bench.kernel.vips().len(), 0);
    let state = bench.kernel.state();
    assert!(state.removed && state.attached.is_empty());
}

#[tokio::test(start_paused = true)]
async fn leaving_touches_nothing() {
    let (bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    bench.kernel.changes();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (ending, _) = run(agent, &[Signal::Leave], None).await;
    assert_eq!(ending, Ending::Left);
    let last = bench.kernel.state().heartbeats.last().copied();
    let now = tokio::time::Instant::now();
    assert_eq!(last, Some(now), "the successor has the whole lease");
    assert_eq!(bench.kernel.changes(), []);
    assert_eq!(bench.kernel.vips().len(), 1);
    assert!(!bench.kernel.state().removed);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_removes_what_it_made_but_not_what_it_found() {
    let found = Inherited {
        services: [(service_key(0), true)].into(),
        ..Inherited::default()
    };
    for (inherited, removed) in [(Inherited::default(), true), (found, false)] {
        let (bench, parts) = bench(inherited).await;
        bench.kernel.state().without_xdp.insert("eth1".to_owned());
        let error = start(parts).await.unwrap_err();
        assert_eq!(error.to_string(), "eth1 has no XDP");
        let state = bench.kernel.state();
        assert_eq!(state.removed, removed);
        assert!(state.addresses.is_empty() && state.changes.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_program_leaves_interfaces_that_only_a_predecessor_wanted() {
    let (bench, parts) = bench(Inherited::default()).await;
    bench.kernel.state().attached.push(("eth7".to_owned(), 7));
    let _agent = start(parts).await.unwrap();
    let state = bench.kernel.state();
    let attached: Vec<_> = state
        .attached
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(attached, ["eth0", "eth1"]);
}

#[tokio::test(start_paused = true)]
async fn vips_of_a_predecessor_go_unless_they_are_wanted() {
    let (bench, mut parts) = bench(Inherited::default()).await;
    let wanted = owned_addresses(
        &parts.config,
        &[("VI_1".to_owned(), true)].into(),
        &network(),
    );
    parts.leftovers.addresses = wanted.clone();
    parts.leftovers.addresses.insert(leftover());
    bench.kernel.state().addresses = parts.leftovers.addresses.clone();
    let _agent = start(parts).await.unwrap();
    assert_eq!(bench.kernel.state().addresses, wanted);
    assert_eq!(bench.kernel.state().announced.len(), 5, "it is here, again");
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_macs_but_not_for_ever() {
    let (bench, parts) = bench(Inherited::default()).await;
    bench.network.send_modify(|network| network.reach.clear());
    let began = tokio::time::Instant::now();
    let _agent = start(parts).await.unwrap();
    assert!(began.elapsed() >= RESOLUTION);
    let beats = bench.kernel.state().heartbeats.len();
    assert!(beats >= 4, "the predecessor's gates stay open: {beats}");
    assert!(bench.kernel.state().tables.services[&service_key(0)].active);
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_in_a_valid_file() {
    let (bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    let mut next = websocket();
    next.virtual_servers[0].real_servers.pop();
    next.xdp_lb.connections = 7;
    next.xdp_lb.fail_static = true;
    next.xdp_lb.drain_timeout = Duration::ZERO;
    let config = agent.config.subscribe();
    let (_, file) = run(agent, &[Signal::Reload, Signal::Leave], Some(next)).await;
    assert_eq!(file.resolving.len(), 1);
    let (running, reloading, ending) = (Phase::Running, Phase::Reloading, Phase::Ending);
    assert_eq!(file.phases, [running, reloading, running, ending]);
    let config = config.borrow();
    assert_eq!(config.virtual_servers[0].real_servers.len(), 1);
    assert_ne!(config.xdp_lb.connections, 7, "only a restart changes that");
    assert!(config.xdp_lb.fail_static, "in force at once");
    drop(bench);
}

#[tokio::test(start_paused = true)]
async fn the_program_hears_of_the_agent_as_long_as_its_elections_live() {
    let (bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    let heartbeats = || bench.kernel.state().heartbeats.len();
    let before = heartbeats();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(heartbeats() >= before + 10);
    // From here on it is as if the thread hung.
    agent.elections.stop();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = heartbeats();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(heartbeats(), before);
    drop(agent);
}

#[tokio::test(start_paused = true)]
async fn directors_that_are_heard_are_resolved() {
    let (bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    let (signals, receiver) = mpsc::channel(1);
    let mut file = File {
        next: None,
        resolving: BTreeSet::new(),
        phases: Vec::new(),
    };
    let peer: IpAddr = "192.168.1.12".parse().unwrap();
    bench
        .peers
        .send_replace([("VI_1".to_owned(), [peer].into())].into());
    let leave = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        signals.send(Signal::Leave).await.unwrap();
    };
    let (ending, ()) = tokio::join!(agent.run(receiver, &mut file), leave);
    assert_eq!(ending.unwrap(), Ending::Left);
    assert!(file.resolving.contains(&peer));
    assert_eq!(file.resolving.len(), 3, "and the real servers");
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_an_invalid_file_changes_nothing() {
    let (_bench, parts) = bench(Inherited::default()).await;
    let agent = start(parts).await.unwrap();
    let config = agent.config.subscribe();
    let (ending, file) = run(agent, &[Signal::Reload, Signal::Leave], None).await;
    assert_eq!(ending, Ending::Left);
    assert_eq!(file.resolving.len(), 0);
    assert_eq!(**config.borrow(), websocket());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_is_resolved_until_it_is_gone_and_a_reload_says_what_it_changed() {
    let (bench, mut parts) = bench(Inherited::default()).await;
    let (wish, reloads) = mpsc::channel(1);
    parts.reloads = reloads;
    let agent = start(parts).await.unwrap();
    let mut next = websocket();
    next.virtual_servers[0].real_servers.pop();
    let (signals, receiver) = mpsc::channel(1);
    let mut file = File {
        next: Some(next),
        resolving: BTreeSet::new(),
        phases: Vec::new(),
    };
    let talk = async {
        let (reply, answer) = tokio::sync::oneshot::channel();
        wish.send(reply).await.unwrap();
        let line = "tcp/192.168.1.200:80: real server 192.168.1.103:80 removed";
        assert_eq!(answer.await.unwrap().unwrap(), [line]);
        let (reply, answer) = tokio::sync::oneshot::channel();
        wish.send(reply).await.unwrap();
        assert_eq!(answer.await.unwrap().unwrap_err(), ["it is not valid"]);
        let servers = || {
            let contents = bench.kernel.state().tables.services[&service_key(0)]
                .contents
                .clone();
            let servers = contents.unwrap().servers.into_iter();
            servers
                .map(|s| (s.weight, s.releases_clients))
                .collect::<Vec<_>>()
        };
        assert_eq!(servers(), [(1, false), (0, true)]);
        // It has no connections in this kernel, and the tables are looked after every few seconds.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(servers(), [(1, false)]);
        signals.send(Signal::Leave).await.unwrap();
    };
    let (ending, ()) = tokio::join!(agent.run(receiver, &mut file), talk);
    assert_eq!(ending.unwrap(), Ending::Left);
    assert_eq!(file.resolving.len(), 1, "{:?}", file.resolving);
}
