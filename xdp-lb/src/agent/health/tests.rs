use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::model::Connection;
use crate::health::Failure;
use crate::plan::testing::{VIP, network, service_key, websocket};

fn beginning(observers: Observers) -> Beginning<'static> {
    static NOTHING: BTreeMap<ServerKey, bool> = BTreeMap::new();
    Beginning {
        inherited: &NOTHING,
        seed: 1,
        network: watch::channel(network()).1,
        observers,
    }
}

fn up(health: &Health) -> Vec<bool> {
    health.values().map(|health| health.up).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_published_told_and_so_is_one_that_returns() {
    let dead = Arc::new(AtomicUsize::new(102));
    let probe = {
        let dead = dead.clone();
        move |probe: Arc<Probe>| {
            let dead = format!("192.168.1.{}:80", dead.load(Ordering::SeqCst));
            async move {
                let target = probe.target();
                if target.is_some_and(|target| target.to_string() == dead) {
                    Outcome::Failed(Failure::Refused)
                } else {
                    Outcome::Passed
                }
            }
        }
    };
    let (said, mut heard) = mpsc::unbounded_channel();
    let observers = Observers {
        reported: Arc::new(move |report| said.send(report.to_string()).unwrap()),
        ..Observers::none()
    };
    let checks = Checks::start_with(&websocket(), beginning(observers), Places::new(8), probe);
    let mut verdicts = checks.verdicts();
    assert_eq!(up(&verdicts.borrow_and_update()), [true, true]);
    verdicts.changed().await.unwrap();
    assert_eq!(up(&verdicts.borrow_and_update()), [false, true]);
    let line = "192.168.1.102:80 down: connection refused (1 of 1)";
    assert_eq!(heard.recv().await.unwrap(), line);
    dead.store(0, Ordering::SeqCst);
    verdicts.changed().await.unwrap();
    assert_eq!(up(&verdicts.borrow_and_update()), [true, true]);
    drop(checks);
    while heard.recv().await.is_some() {}
    assert!(verdicts.changed().await.is_err(), "the checks have ended");
}

/// A service of so many servers, all on other ports.
fn many(servers: usize) -> Config {
    let mut config = websocket();
    let server = config.virtual_servers[0].real_servers[0].clone();
    let on_port = |port| {
        let mut server = server.clone();
        server.address.set_port(port);
        let target = server.address;
        server.checks[0].probe = Probe::Tcp(Connection::to(target, Duration::from_secs(30)));
        server
    };
    let ports = (1..=servers).map(|port| u16::try_from(port).unwrap());
    config.virtual_servers[0].real_servers = ports.map(on_port).collect();
    config
}

#[tokio::test(start_paused = true)]
async fn silent_servers_do_not_keep_the_others_waiting() {
    const ROOM: usize = 16;
    const SERVERS: usize = 10 * ROOM;
    let config = many(SERVERS);
    let (told, mut silent) = mpsc::unbounded_channel();
    // Every second one is silent for longer than a period lasts.
    let probe = move |probe: Arc<Probe>| {
        let told = told.clone();
        async move {
            let port = probe.target().unwrap().port();
            if port % 2 == 1 {
                return Outcome::Passed;
            }
            let timeout = Duration::from_secs(30);
            tokio::time::sleep(timeout).await;
            told.send(port).unwrap();
            Outcome::Failed(Failure::TimedOut(timeout))
        }
    };
    let (seen, mut observed) = mpsc::unbounded_channel();
    let observers = Observers {
        probed: Arc::new(move |probed: &Probed<'_>| {
            let passed = *probed.outcome == Outcome::Passed;
            let longest = Duration::from_secs(31);
            assert!(probed.took < longest, "waiting is not counted");
            seen.send((passed, probed.late)).unwrap();
        }),
        ..Observers::none()
    };
    let _checks = Checks::start_with(&config, beginning(observers), Places::new(ROOM), probe);
    // Until it is known who is silent, all wait for each other.
    let mut known = BTreeSet::new();
    while known.len() < SERVERS / 2 {
        known.insert(silent.recv().await.unwrap());
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    while observed.try_recv().is_ok() {}
    let (mut quick, mut slow) = (0, 0);
    for _ in 0..20 * SERVERS {
        let (passed, late) = observed.recv().await.unwrap();
        let in_time = late < Duration::from_secs(1);
        assert!(!passed || in_time, "{late:?}");
        quick += usize::from(passed);
        slow += usize::from(!passed && !in_time);
    }
    assert!(quick > 10 * SERVERS, "{quick}");
    assert!(
        slow > 0,
        "they wait for each other, or there is room for all"
    );
}

#[tokio::test(start_paused = true)]
async fn checks_rest_while_the_vip_is_elsewhere() {
    let mut config = websocket();
    config.virtual_servers[0].ha_suspend = true;
    let (probed, mut starts) = mpsc::unbounded_channel();
    let probe = move |_| {
        probed.send(()).unwrap();
        std::future::ready(Outcome::Passed)
    };
    let (links, network_seen) = watch::channel(network());
    let beginning = Beginning {
        network: network_seen,
        ..beginning(Observers::none())
    };
    let checks = Checks::start_with(&config, beginning, Places::new(8), probe);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(starts.try_recv().is_err(), "they rest from the start");
    let vip = |network: &mut Network| {
        let address = format!("{VIP}/32").parse().unwrap();
        network.addresses.entry(2).or_default().push(address);
    };
    links.send_modify(vip);
    starts.recv().await.unwrap();
    links.send_modify(|network| network.addresses.clear());
    tokio::time::sleep(Duration::from_secs(1)).await;
    while starts.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(starts.try_recv().is_err(), "they rest again");
    config.virtual_servers[0].ha_suspend = false;
    checks.reload(&config).await;
    starts.recv().await.unwrap();
    assert!(
        checks
            .verdicts()
            .borrow()
            .keys()
            .all(|(key, _)| *key == service_key(0))
    );
}

#[tokio::test(start_paused = true)]
async fn the_verdicts_at_the_start_are_news_where_that_is_asked_for() {
    let mut config = websocket();
    config.virtual_servers[0].real_servers[1].checks[0].alpha = true;
    for (asked, expected) in [(false, 0), (true, 1)] {
        config.global.notify_at_start = asked;
        let said = Arc::new(AtomicUsize::new(0));
        let count = said.clone();
        let observers = Observers {
            reported: Arc::new(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            }),
            ..Observers::none()
        };
        let probe = |_| std::future::pending();
        let _checks = Checks::start_with(&config, beginning(observers), Places::new(8), probe);
        assert_eq!(said.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_reload_reads_the_certificates_anew() {
    let mut config = websocket();
    let checks = Checks::start(&config, beginning(Observers::none()));
    let context = checks.context.as_ref().unwrap().subscribe();
    assert!(context.borrow().tls.is_ok());
    config.ssl.ca = Some("/nonexistent/ca.pem".into());
    checks.reload(&config).await;
    let why = context.borrow().tls.clone().unwrap_err();
    assert!(why.contains("cannot read /nonexistent/ca.pem"), "{why}");
}
