use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::agent::testing::{FakeDataplane, FakeLinks, Kernel};
use crate::agent::vrrp::{Burst, Claims};
use crate::config::model::{Frontend, SorryServer, XdpMode};
use crate::dataplane::Inherited;
use crate::plan::carriers::Peers;
use crate::plan::diff::Change;
use crate::plan::interfaces::{FarEnd, Sort};
use crate::plan::pool::Overrides;
use crate::plan::pool::order::{Order, Target, What};
use crate::plan::table::{Network, ServerHealth};
use crate::plan::testing::{VIP, endpoint, network, service_key, websocket};
use crate::plan::vlans::Below;

/// A reconciler over a fake kernel, and the strings to pull.
struct Bench {
    kernel: Kernel,
    config: watch::Sender<Arc<Config>>,
    health: watch::Sender<Health>,
    network: watch::Sender<Network>,
    claims: watch::Sender<Claims>,
    peers: watch::Sender<Peers>,
    inspections: mpsc::Sender<Inspection>,
    orders: mpsc::Sender<OrderRequest>,
}

type Under = Reconciler<FakeDataplane, FakeLinks>;

fn bench() -> (Bench, Under) {
    let kernel = Kernel::default();
    let (config, config_seen) = watch::channel(Arc::new(websocket()));
    let (health, health_seen) = watch::channel(judged(true, true));
    let (network, network_seen) = watch::channel(network());
    let (claims, claims_seen) = watch::channel(claims(true, 1));
    let (inspections, asked) = mpsc::channel(4);
    let (orders, ordered) = mpsc::channel(4);
    let (leaving, _) = watch::channel(BTreeSet::new());
    let (peers, peers_seen) = watch::channel(Peers::new());
    let sources = Sources {
        config: config_seen,
        health: health_seen,
        adopted: watch::channel(Overrides::new()).1,
        listeners: Listeners {
            overridden: Arc::new(|_, _| ()),
            health_clock: Clock::start(),
            obeyed: Arc::new(|_| {}),
            quorum: Arc::new(|_, _| {}),
        },
        network: network_seen,
        claims: claims_seen,
        peers: peers_seen,
        inspections: asked,
        orders: ordered,
        leaving,
    };
    let placement = Placement {
        named: BTreeSet::new(),
        mode: XdpMode::Auto,
    };
    let dataplane = FakeDataplane {
        kernel: kernel.clone(),
        inherited: Inherited::default(),
    };
    let links = FakeLinks(kernel.clone());
    let under = Reconciler::new(dataplane, links, Installed::default(), placement, sources);
    let bench = Bench {
        kernel,
        config,
        health,
        network,
        claims,
        peers,
        inspections,
        orders,
    };
    (bench, under)
}

/// `VI_1` owns its VIP or does not, and wants its announcement of that number, three frames.
fn claims(owned: bool, number: u64) -> Claims {
    let burst = Burst {
        number,
        repeat: 3,
        gap: Duration::ZERO,
    };
    Claims {
        ownership: [("VI_1".to_owned(), owned)].into(),
        bursts: owned
            .then(|| ("VI_1".to_owned(), burst))
            .into_iter()
            .collect(),
        is_stopping: false,
    }
}

fn judged(first: bool, second: bool) -> Health {
    let servers = ["192.168.1.102:80", "192.168.1.103:80"];
    let verdict = |(address, up): (&str, bool)| {
        let server = (service_key(0), address.parse().unwrap());
        let health = ServerHealth {
            up,
            ..ServerHealth::default()
        };
        (server, health)
    };
    servers
        .into_iter()
        .zip([first, second])
        .map(verdict)
        .collect()
}

/// Runs the reconciler until everything that waits has been taken in, and for `seconds` more.
async fn run_for(under: &mut Under, seconds: u64) {
    let stop = CancellationToken::new();
    let enough = tokio::time::sleep(Duration::from_millis(seconds * 1000 + 1));
    tokio::select! {
        () = under.run(stop) => {}
        () = enough => {}
    }
}

fn is_of_group(change: &Change) -> bool {
    matches!(
        change,
        Change::Put(Belonging::Group(_)) | Change::Take(Belonging::Group(_))
    )
}

fn without_groups(mut changes: Vec<Change>) -> Vec<Change> {
    changes.retain(|change| !is_of_group(change));
    changes
}

fn scheduled(kernel: &Kernel) -> Vec<String> {
    let state = kernel.state();
    let service = &state.tables.services[&service_key(0)];
    let servers = service.contents.iter().flat_map(|s| &s.servers);
    let eligible = servers.filter(|server| server.is_eligible());
    eligible.map(|server| server.address.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_run_fills_the_tables_and_brings_the_vip() {
    let (bench, mut under) = bench();
    under.attach().await.unwrap();
    under.reconcile().await;
    let state = bench.kernel.state();
    assert_eq!(state.tables, Installed::from(under.desired()));
    let attached = [("eth0".to_owned(), 2), ("eth1".to_owned(), 3)];
    assert_eq!(state.attached, attached);
    assert!(state.tables.services[&service_key(0)].active);
    let last = state.changes.iter().rfind(|change| !is_of_group(change));
    assert!(matches!(last, Some(Change::AddAddress(_))), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_vip_is_announced_when_the_elections_say_so_and_not_otherwise() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let told = (xdp_lb_common::addr::Mac(2), VIP.parse().unwrap());
    assert_eq!(bench.kernel.state().announced, [told; 3]);
    run_for(&mut under, 60).await;
    assert_eq!(bench.kernel.state().announced, [told; 3]);
    bench.claims.send_replace(claims(true, 2));
    run_for(&mut under, 1).await;
    assert_eq!(bench.kernel.state().announced, [told; 6]);
}

#[tokio::test(start_paused = true)]
async fn vips_and_gates_follow_the_elections_in_order() {
    let (bench, mut under) = bench();
    bench.claims.send_replace(Claims::default());
    under.reconcile().await;
    assert_eq!(bench.kernel.vips().len(), 0);
    bench.kernel.changes();
    bench.claims.send_replace(claims(true, 1));
    run_for(&mut under, 0).await;
    let took = bench.kernel.changes();
    assert_eq!(took[0], Change::SetActive(service_key(0), true));
    assert!(matches!(took[1..], [Change::AddAddress(_)]), "{took:#?}");
    bench.claims.send_replace(claims(false, 1));
    run_for(&mut under, 0).await;
    let gave = bench.kernel.changes();
    assert!(matches!(gave[0], Change::RemoveAddress(_)), "{gave:#?}");
    assert_eq!(gave[1..], [Change::SetActive(service_key(0), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_server_leaves_the_schedule_before_it_is_purged() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    bench.kernel.changes();
    bench.health.send_replace(judged(true, false));
    run_for(&mut under, 0).await;
    let changes = bench.kernel.changes();
    let kinds: Vec<_> = changes.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 3, "{changes:#?}");
    assert!(matches!(changes[0], Change::SetService(..)));
    assert!(matches!(changes[2], Change::PurgeServer(_, a) if a.to_string() == "192.168.1.103:80"));
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
}

/// Three services of three servers each, on the addresses that the network knows.
fn several() -> Config {
    let mut config = websocket();
    let service = config.virtual_servers[0].clone();
    config.virtual_servers = (0..3)
        .map(|index| {
            let mut service = service.clone();
            service.frontend = Frontend::Endpoint(endpoint(index));
            let mut third = service.real_servers[0].clone();
            third.address.set_port(8080);
            service.real_servers.push(third);
            if index == 1 {
                service.real_servers[0].slow_start = Some(Duration::from_mins(1));
                service.real_servers[1].inhibit_on_failure = true;
                service.quorum.weight = 2;
                service.sorry_server = Some(SorryServer {
                    address: "192.168.1.103:81".parse().unwrap(),
                    forwarding: service.forwarding,
                    inhibit: false,
                });
            }
            service
        })
        .collect();
    config
}

proptest! {
    /// However verdicts and everything else change, alone or together.
    #[test]
    fn the_short_way_ends_where_the_long_one_does(
        steps in prop::collection::vec((0_usize..9, any::<bool>(), 0_u8..8), 1..40)
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (bench, mut under) = bench();
            bench.config.send_replace(Arc::new(several()));
            let names = several().services().flat_map(|(key, service)| {
                let servers = service.real_servers.iter();
                servers.map(|server| (key, server.address)).collect::<Vec<_>>()
            }).collect::<Vec<_>>();
            let up = ServerHealth { up: true, ..ServerHealth::default() };
            bench.health.send_replace(names.iter().map(|name| (*name, up.clone())).collect());
            under.reconcile().await;
            let mut joined = 0;
            for (nth, up, what) in steps {
                bench.health.send_modify(|health| {
                    joined += 1;
                    let verdict = health.get_mut(&names[nth]).unwrap();
                    *verdict = ServerHealth { up, joined, ..ServerHealth::default() };
                });
                match what {
                    0 => { bench.claims.send_replace(claims(up, joined)); }
                    1 => bench.health.send_modify(|health| { health.pop_first(); health.insert(names[0], ServerHealth::default()); }),
                    2 => bench.network.send_modify(|network| { network.reach.pop_first(); }),
                    3 => bench.kernel.state().refuses =
                        up.then_some(|change| matches!(change, Change::SetService(..))),
                    _ => {}
                }
                under.follow_verdicts().await;
                let short = under.desired().clone();
                if bench.kernel.state().refuses.is_none() {
                    assert_eq!(bench.kernel.state().tables, Installed::from(&short));
                }
                under.reconcile().await;
                assert_eq!(&short, under.desired());
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn how_soon_a_verdict_was_obeyed_is_told_once() {
    let (bench, mut under) = bench();
    let (told, mut delays) = mpsc::unbounded_channel();
    under.sources.listeners.obeyed = Arc::new(move |delay| told.send(delay).unwrap());
    under.reconcile().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut health = judged(true, false);
    let since = under.sources.listeners.health_clock.now();
    health.values_mut().last().unwrap().since = since;
    bench.health.send_replace(health);
    tokio::time::sleep(Duration::from_millis(3)).await;
    under.follow_verdicts().await;
    assert_eq!(delays.try_recv().unwrap(), Duration::from_millis(3));
    under.reconcile().await;
    assert!(delays.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_a_second() {
    let (bench, mut under) = bench();
    bench.kernel.state().refuses = Some(|change| matches!(change, Change::AddAddress(_)));
    under.reconcile().await;
    assert!(bench.kernel.state().tables.services[&service_key(0)].active);
    assert_eq!(bench.kernel.vips().len(), 0);
    bench.kernel.state().refuses = None;
    run_for(&mut under, 1).await;
    assert_eq!(bench.kernel.vips(), [VIP.parse::<IpAddr>().unwrap()]);
    assert_eq!(bench.kernel.state().announced.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_the_tables_refuse_keeps_no_other_one_from_leaving() {
    let (bench, mut under) = bench();
    bench.kernel.state().refuses = Some(
        |change| matches!(change, Change::SetServer(_, s) if s.address.to_string() == "192.168.1.103:80"),
    );
    under.reconcile().await;
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
    bench.health.send_replace(judged(false, true));
    run_for(&mut under, 0).await;
    assert_eq!(scheduled(&bench.kernel), [""; 0]);
    bench.kernel.state().refuses = None;
    run_for(&mut under, 1).await;
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.103:80"]);
}

#[tokio::test(start_paused = true)]
async fn servers_behind_a_port_the_tables_refuse_are_left_out() {
    let (bench, mut under) = bench();
    bench.kernel.state().refuses = Some(|change| matches!(change, Change::SetPort(3, _)));
    under.reconcile().await;
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
    assert_eq!(bench.kernel.vips().len(), 1, "the rest goes on");
}

#[tokio::test(start_paused = true)]
async fn a_vip_that_somebody_removes_comes_back_and_is_announced() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    run_for(&mut under, 6).await;
    for seconds in [6, 0] {
        bench.kernel.state().addresses.clear();
        bench.kernel.state().announced.clear();
        if seconds == 0 {
            // The kernel says so: nobody waits for the next look.
            bench
                .network
                .send_modify(|network| network.addresses.clear());
        }
        run_for(&mut under, seconds).await;
        assert_eq!(bench.kernel.vips().len(), 1);
        assert_eq!(bench.kernel.state().announced.len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_comes_back_under_another_index_is_attached_again() {
    let (bench, mut under) = bench();
    under.attach().await.unwrap();
    under.reconcile().await;
    bench.network.send_modify(|network| {
        network.links.remove("eth0");
        network.reach.clear();
    });
    run_for(&mut under, 0).await;
    assert_eq!(under.attached().keys().collect::<Vec<_>>(), ["eth1"]);
    assert!(
        bench.kernel.state().tables.addresses.len() == 1,
        "the kernel was not asked"
    );
    bench.network.send_modify(|network| {
        let link = crate::plan::testing::link(7);
        network.links.insert("eth0".to_owned(), link);
    });
    run_for(&mut under, 0).await;
    let state = bench.kernel.state();
    assert_eq!(state.attached.last(), Some(&("eth0".to_owned(), 7)));
    assert!(state.addresses.iter().any(|address| address.ifindex == 7));
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_carries_vlans_leaves_their_tags_on_frames() {
    let (bench, mut under) = bench();
    under.attach().await.unwrap();
    under.reconcile().await;
    assert!(bench.kernel.state().tags_kept.is_empty());
    bench.network.send_modify(|network| {
        let mut link = crate::plan::testing::link(20);
        link.sort = Sort::Vlan(Below {
            parent: 2,
            ethertype: 0x8100,
            number: 10,
        });
        network.links.insert("eth0.10".to_owned(), link);
    });
    run_for(&mut under, 5).await;
    assert_eq!(bench.kernel.state().tags_kept, [2], "once");
    let vlan = under.desired().ports[&20].vlan.unwrap();
    assert_eq!(vlan.parent, 2);
    assert_eq!(
        under.attached().keys().collect::<Vec<_>>(),
        ["eth0", "eth1"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_no_use_is_refused_whenever_it_comes() {
    let (bench, mut under) = bench();
    set_sort(&bench, "eth1", Sort::Empty);
    let refused = under.attach().await.unwrap_err().to_string();
    assert!(
        refused.contains("no packet can be balanced on eth1"),
        "{refused}"
    );
    under.reconcile().await;
    assert_eq!(under.attached().keys().collect::<Vec<_>>(), ["eth0"]);
    assert_eq!(under.refused.get("eth1"), Some(&refused));
    set_sort(&bench, "eth1", Sort::Plain);
    run_for(&mut under, 1).await;
    assert!(under.refused.is_empty(), "{:?}", under.refused);
    assert_eq!(under.attached().len(), 2);
}

fn set_sort(bench: &Bench, name: &str, sort: Sort) {
    bench.network.send_modify(|network| {
        network.links.get_mut(name).unwrap().sort = sort;
    });
}

#[tokio::test(start_paused = true)]
async fn the_program_goes_into_the_stack_where_native_xdp_would_lose_packets() {
    let (bench, mut under) = bench();
    set_sort(&bench, "eth1", Sort::Bridge);
    under.attach().await.unwrap();
    assert_eq!(under.attached()["eth0"], AttachedMode::Generic);
    let remark = &under.remarks["eth0"];
    assert!(
        remark.contains("send nothing by eth1: it is a bridge"),
        "{remark}"
    );
    let remark = &under.remarks["eth1"];
    assert!(remark.starts_with("eth1 is a bridge"), "{remark}");
}

#[tokio::test(start_paused = true)]
async fn a_veth_is_looked_at_again_and_again() {
    let (bench, mut under) = bench();
    set_sort(&bench, "eth1", Sort::Veth);
    under.attach().await.unwrap();
    under.reconcile().await;
    assert_eq!(under.attached()["eth0"], AttachedMode::Native);
    assert!(under.remarks.is_empty(), "{:?}", under.remarks);
    bench.kernel.state().far_ends.insert(3, FarEnd::Loses);
    run_for(&mut under, 6).await;
    let remark = &under.remarks["eth0"];
    assert!(remark.contains("leave by eth1 are lost"), "{remark}");
    assert_eq!(under.attached()["eth0"], AttachedMode::Native, "as it is");
    bench.kernel.state().far_ends.clear();
    run_for(&mut under, 6).await;
    assert!(under.remarks.is_empty(), "{:?}", under.remarks);
}

#[tokio::test(start_paused = true)]
async fn an_interface_without_xdp_stops_the_start_but_not_the_running_agent() {
    let (bench, mut under) = bench();
    bench.kernel.state().without_xdp.insert("eth1".to_owned());
    assert!(under.attach().await.is_err());
    under.reconcile().await;
    assert_eq!(under.attached().len(), 1);
    assert_eq!(bench.kernel.vips().len(), 1);
    bench.kernel.state().without_xdp.clear();
    run_for(&mut under, 1).await;
    assert_eq!(under.attached().len(), 2, "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn releasing_drops_the_vip_and_then_closes_the_gate() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    bench.kernel.changes();
    under.release().await;
    let changes = without_groups(bench.kernel.changes());
    assert!(matches!(changes[0], Change::RemoveAddress(_)));
    assert_eq!(changes[1..], [Change::SetActive(service_key(0), false)]);
}

#[tokio::test(start_paused = true)]
async fn at_a_stop_gates_stay_open_until_clients_know_who_follows() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    bench.kernel.changes();
    bench.claims.send_replace(Claims {
        is_stopping: true,
        ..claims(false, 1)
    });
    run_for(&mut under, 1).await;
    let changes = bench.kernel.changes();
    assert!(
        matches!(changes[..], [Change::RemoveAddress(_)]),
        "{changes:#?}"
    );
    let start = tokio::time::Instant::now();
    under.release().await;
    assert!(start.elapsed() >= LINGER);
    let changes = without_groups(bench.kernel.changes());
    assert_eq!(changes, [Change::SetActive(service_key(0), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_is_taken_in() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    bench.claims.send_replace(Claims::default());
    bench.config.send_replace(Arc::new(Config::default()));
    run_for(&mut under, 0).await;
    let state = bench.kernel.state();
    assert_eq!(state.tables.services.len(), 0);
    assert_eq!(state.addresses.len(), 0);
    // The program stays where it is: nothing says that it should go.
    assert_eq!(state.tables, Installed::from(under.desired()));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_removed_keeps_its_vip_until_it_has_handed_over() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let mut without = websocket();
    without.vrrp_instances.clear();
    without.virtual_servers.clear();
    bench.config.send_replace(Arc::new(without));
    run_for(&mut under, 6).await;
    assert_eq!(
        bench.kernel.vips().len(),
        1,
        "its router waits for a successor"
    );
    bench.claims.send_replace(Claims::default());
    run_for(&mut under, 0).await;
    assert_eq!(bench.kernel.vips().len(), 0);
    bench.claims.send_replace(claims(true, 2));
    run_for(&mut under, 0).await;
    assert_eq!(bench.kernel.vips().len(), 0, "nobody knows it any more");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_renamed_keeps_its_vip_all_the_time() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    bench.kernel.changes();
    let mut renamed = websocket();
    renamed.vrrp_instances[0].name = "VI_9".to_owned();
    bench.config.send_replace(Arc::new(renamed));
    run_for(&mut under, 0).await;
    bench.claims.send_replace(Claims {
        ownership: [("VI_9".to_owned(), true)].into(),
        ..Claims::default()
    });
    run_for(&mut under, 0).await;
    assert_eq!(bench.kernel.changes(), []);
    assert_eq!(bench.kernel.vips().len(), 1);
}

/// How long it was from each heartbeat to the next, and to now, at most.
fn longest_silence(kernel: &Kernel) -> Duration {
    let mut beats = kernel.state().heartbeats.clone();
    beats.push(tokio::time::Instant::now());
    let gaps = beats.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_program_hears_of_the_agent_before_a_gate_opens_and_four_times_a_lease() {
    let (bench, mut under) = bench();
    bench.kernel.state().refuses = Some(|change| matches!(change, Change::SetActive(_, true)));
    under.reconcile().await;
    assert_eq!(bench.kernel.state().heartbeats.len(), 1);
    bench.kernel.state().refuses = None;
    run_for(&mut under, 10).await;
    let service = under.desired().services[&service_key(0)].clone();
    let quarter = service.lease.unwrap() / 4;
    let silence = longest_silence(&bench.kernel);
    let slack = Duration::from_millis(2);
    assert!(silence <= quarter + slack, "{silence:?} of {quarter:?}");
    assert!(silence > quarter / 2, "{silence:?}: not more than needed");
}

#[tokio::test(start_paused = true)]
async fn the_program_hears_of_the_agent_while_its_successor_is_made() {
    let (bench, mut under) = bench();
    bench.kernel.state().to_prepare = 5;
    under.attach().await.unwrap();
    assert_eq!(bench.kernel.state().to_prepare, 0);
    assert_eq!(bench.kernel.state().beats_at_attach, 1);
}

#[tokio::test(start_paused = true)]
async fn quick_instances_are_renewed_more_often_and_none_once_a_second() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let mut quick = websocket();
    quick.vrrp_instances[0].down_timer_adverts = 1;
    let mut without = websocket();
    without.xdp_lb.fail_static = true;
    for (config, millis) in [(quick, 403), (without, 1001)] {
        bench.config.send_replace(Arc::new(config));
        run_for(&mut under, 2).await;
        bench.kernel.state().heartbeats.clear();
        run_for(&mut under, 10).await;
        let silence = longest_silence(&bench.kernel);
        let range = Duration::from_millis(millis - 3)..=Duration::from_millis(millis + 3);
        assert!(range.contains(&silence), "{silence:?} of {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn without_vrrp_the_program_hears_nothing_until_it_lives_again() {
    let (bench, mut under) = bench();
    let lives = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = lives.clone();
    under.beat_only_while(move || seen.load(std::sync::atomic::Ordering::Relaxed));
    under.reconcile().await;
    run_for(&mut under, 10).await;
    assert_eq!(bench.kernel.state().heartbeats.len(), 0);
    lives.store(true, std::sync::atomic::Ordering::Relaxed);
    run_for(&mut under, 2).await;
    assert!(bench.kernel.state().heartbeats.len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_heard_and_found_stands_in_the_tables() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let peer = "192.168.1.12".parse().unwrap();
    let known = || {
        let state = bench.kernel.state();
        let contents = state.tables.services[&service_key(0)].contents.clone();
        contents.unwrap().peers
    };
    let heard = Peers::from([("VI_1".to_owned(), [peer].into())]);
    bench.peers.send_replace(heard);
    run_for(&mut under, 0).await;
    assert!(known().is_empty(), "nobody knows its MAC");
    bench.network.send_modify(|network| {
        network.reach.insert(peer, crate::plan::testing::direct(2));
    });
    run_for(&mut under, 0).await;
    assert_eq!(known(), [(peer, xdp_lb_common::addr::Mac(0x66))].into());
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_sees_the_state_and_nothing_if_the_counters_fail() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let ask = || {
        let (reply, answer) = oneshot::channel();
        let inspection: Inspection = Box::new(move |view| {
            reply.send(view.desired.clone()).unwrap();
        });
        assert!(bench.inspections.try_send(inspection).is_ok());
        answer
    };
    let answer = ask();
    run_for(&mut under, 0).await;
    assert_eq!(&answer.await.unwrap(), under.desired());
    bench.kernel.state().counters_fail = true;
    let answer = ask();
    run_for(&mut under, 0).await;
    assert!(answer.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_order_is_in_force_when_it_is_answered_and_survives_a_reload() {
    let (bench, mut under) = bench();
    under.reconcile().await;
    let (reply, answer) = oneshot::channel();
    let target = Target {
        service: "192.168.1.200:80".parse().unwrap(),
        protocol: None,
        server: "192.168.1.102:80".parse().unwrap(),
    };
    let order = Order {
        target,
        what: What::Drain,
    };
    bench
        .orders
        .send(OrderRequest { order, reply })
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let told = tokio::select! {
        () = under.run(stop) => panic!("it ended"),
        told = answer => told.unwrap().unwrap(),
    };
    assert!(told.starts_with("192.168.1.102:80 of tcp/192.168.1.200:80 is drained"));
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.103:80"]);
    let mut next = websocket();
    next.virtual_servers[0].real_servers[0].weight = 9;
    bench.config.send_replace(Arc::new(next));
    run_for(&mut under, 1).await;
    assert_eq!(scheduled(&bench.kernel), ["192.168.1.103:80"]);
    assert!(
        !bench
            .kernel
            .changes()
            .iter()
            .any(|change| { matches!(change, Change::PurgeServer(..) | Change::RemoveServer(..)) })
    );
}
