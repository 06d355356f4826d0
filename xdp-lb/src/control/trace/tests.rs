use super::*;
use crate::control::sample;

fn query(vip: &str, client_port: Option<u16>) -> Query {
    let vip: SocketAddr = vip.parse().unwrap();
    Query {
        client: "10.9.0.5".parse().unwrap(),
        client_port,
        vip: vip.ip(),
        port: vip.port(),
        protocol: "tcp".to_owned(),
        midstream: false,
    }
}

fn key(vip: &str) -> ServiceKey {
    format!("tcp/{vip}").parse().unwrap()
}

fn verdict(reason: Reason, vip: Option<&str>, server: Option<&str>) -> Verdict {
    Verdict {
        reason,
        via: Via::Scheduled,
        service: vip.map(key),
        server: server.map(|server| server.parse().unwrap()),
        out: None,
        connection: None,
        template: None,
    }
}

const WAYS: Ways<'_> = Ways {
    into: "eth0",
    out: Some("eth1"),
};

fn trace(snapshot: &Snapshot, vip: &str, verdict: &Verdict) -> Trace {
    Trace::build(&query(vip, Some(40_000)), WAYS, verdict, snapshot)
}

const WEB: &str = "10.1.0.100:80";

/// The sample with another scheduler and these states and weights of the servers of [`WEB`].
fn web(scheduler: &str, servers: &[(ServerState, u32)]) -> Snapshot {
    let mut snapshot = sample::snapshot();
    let mut services = snapshot.services.iter_mut();
    let is_web = |service: &&mut Service| service.protocol == "tcp" && service.port == 80;
    let web = services
        .by_ref()
        .filter(|service| WEB.starts_with(&service.vip.to_string()))
        .find(is_web)
        .unwrap();
    scheduler.clone_into(&mut web.scheduler);
    web.real_servers.truncate(servers.len());
    for (server, (state, weight)) in web.real_servers.iter_mut().zip(servers) {
        (server.state, server.weight) = (*state, *weight);
    }
    snapshot
}

#[test]
fn a_packet_that_is_placed_shows_its_server_and_whom_the_scheduler_compared() {
    let up = (ServerState::Up, 2);
    let snapshot = web("wlc", &[up, up]);
    let web = snapshot
        .services
        .iter()
        .find(|s| s.scheduler == "wlc")
        .unwrap();
    let server = web.real_servers[0].label();
    let placed = verdict(Reason::RedirectScheduled, Some(WEB), Some(&server));
    let shown = trace(&snapshot, WEB, &placed);
    assert!(shown.balanced);
    assert_eq!(shown.rule.as_deref(), Some("scheduler"));
    assert_eq!(shown.explanation, "wlc chooses it");
    let target = shown.real_server.unwrap();
    assert_eq!(target.address, web.real_servers[0].address);
    assert_eq!(target.interface.as_deref(), Some("eth1"));
    assert_eq!(target.mac, web.real_servers[0].mac);
    assert_eq!(shown.candidates.len(), 2);
    assert_eq!(shown.service.unwrap().scheduler, "wlc");

    let known = Verdict {
        via: Via::Connection,
        ..verdict(Reason::TxConnection, Some(WEB), Some(&server))
    };
    let shown = trace(&snapshot, WEB, &known);
    assert_eq!(shown.explanation, "its connection is known");
    assert_eq!(shown.candidates, [], "nobody was compared");
}

#[test]
fn who_owns_the_vip_is_told_where_it_is_not_this_director() {
    let mut snapshot = sample::snapshot();
    let backup = snapshot.vrrp_instances.iter_mut();
    let backup = backup
        .filter(|i| i.state == VrrpState::Backup)
        .last()
        .unwrap();
    backup.vips = vec!["10.1.0.100/24".to_owned()];
    let (name, vips) = (backup.name.clone(), backup.vips.clone());
    let others = snapshot.vrrp_instances.iter_mut();
    others
        .filter(|i| i.name != name)
        .for_each(|i| i.vips.retain(|vip| !vips.contains(vip)));
    let shown = trace(&snapshot, WEB, &verdict(Reason::NotActive, Some(WEB), None));
    assert!(!shown.balanced && shown.rule.is_none() && shown.real_server.is_none());
    let owner = shown.vrrp.unwrap();
    assert_eq!((owner.name, owner.state), (name.clone(), VrrpState::Backup));
    let begins = format!("the VRRP instance {name} is BACKUP here");
    assert!(
        shown.explanation.starts_with(&begins),
        "{}",
        shown.explanation
    );
    if let Some(master) = owner.master {
        let ends = format!(", {master} is master");
        assert!(shown.explanation.ends_with(&ends), "{}", shown.explanation);
    }
}

/// A scheduler, states and weights of the servers, and what is told.
type Pool = (&'static str, &'static [(ServerState, u32)], &'static str);

#[test]
fn what_is_wrong_with_a_pool_is_told() {
    const UP: (ServerState, u32) = (ServerState::Up, 1);
    const DOWN: (ServerState, u32) = (ServerState::Down, 1);
    const NONE: (ServerState, u32) = (ServerState::Draining, 0);
    let cases: [Pool; 6] = [
        ("rr", &[], "the service has no real servers"),
        ("rr", &[DOWN, DOWN], "no live real server: 2 down"),
        ("rr", &[NONE], "no live real server: 1 of weight 0"),
        (
            "wlc",
            &[DOWN, NONE],
            "no live real server: 1 down, 1 of weight 0",
        ),
        (
            "sh",
            &[UP, NONE],
            "the hash of sh leads to a real server that takes no connections (weight 0, or over its \
             limit), and sh-fallback is off",
        ),
        (
            "rr",
            &[UP, NONE],
            "rr finds no real server that takes connections: over their limits",
        ),
    ];
    for (scheduler, servers, wanted) in cases {
        let snapshot = web(scheduler, servers);
        let shown = trace(
            &snapshot,
            WEB,
            &verdict(Reason::TxUnreachable, Some(WEB), None),
        );
        assert_eq!(shown.explanation, wanted);
        assert_eq!(shown.candidates.len(), servers.len());
    }
}

#[test]
fn a_service_that_is_not_there_names_those_that_are() {
    let snapshot = sample::snapshot();
    let none = verdict(Reason::NoService, None, None);
    let shown = trace(&snapshot, "10.1.0.100:81", &none);
    let told = &shown.explanation;
    assert!(
        told.starts_with("no virtual service there; there is "),
        "{told}"
    );
    assert!(told.contains("10.1.0.100:443/tcp"), "{told}");
    let shown = trace(&snapshot, "10.99.0.1:80", &none);
    assert_eq!(
        shown.explanation,
        "no virtual service has the address 10.99.0.1"
    );
}

#[test]
fn what_chance_or_ports_decide_is_told() {
    let up = (ServerState::Up, 1);
    let placed = verdict(Reason::TxScheduled, Some(WEB), Some("10.1.0.11:80"));
    let shown = trace(&web("twos", &[up]), WEB, &placed);
    assert_eq!(
        shown.explanation,
        "twos chooses it, by chance: the next may be another"
    );
    let mut snapshot = web("mh", &[up]);
    for service in &mut snapshot.services {
        service.scheduler_flags = vec!["mh-port".to_owned()];
    }
    let shown = Trace::build(&query(WEB, None), WAYS, &placed, &snapshot);
    assert!(
        shown.explanation.contains("port 0 of the client"),
        "{}",
        shown.explanation
    );
    let shown = trace(&snapshot, WEB, &placed);
    assert_eq!(shown.explanation, "mh chooses it");
    let stateless = Verdict {
        via: Via::Stateless,
        ..placed
    };
    assert_eq!(
        trace(&snapshot, WEB, &stateless).explanation,
        "the hash of mh leads there"
    );
}

#[test]
fn other_reasons_say_what_their_metric_says() {
    let snapshot = sample::snapshot();
    let shown = trace(
        &snapshot,
        WEB,
        &verdict(Reason::TxTimeExceeded, Some(WEB), None),
    );
    assert_eq!(shown.explanation, "TTL used up: the sender is told");
    assert!(!shown.balanced, "an answer goes to no real server");
}

#[test]
fn it_is_read_back_as_it_was_sent() {
    let snapshot = sample::snapshot();
    let shown = trace(
        &snapshot,
        WEB,
        &verdict(Reason::NoConnection, Some(WEB), None),
    );
    let line = crate::control::protocol::encode_trace(&shown);
    assert_eq!(
        crate::control::protocol::decode_trace(&line).unwrap(),
        shown
    );
}
