//! The life of an agent while connections go on: restart, crash, reload, stop; and of real servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use nix::sys::signal::Signal;
use xdp_lb_tests::director::{CONFIG, Cluster, Heart, LIMIT};
use xdp_lb_tests::{link, wait};

/// Connections from the client, with the server each is on.
fn hearts(cluster: &Cluster, count: usize) -> Vec<(Heart, usize)> {
    let heart = || {
        let mut heart = Heart::connect(&cluster.client).unwrap();
        let server = heart.beat().unwrap();
        (heart, server)
    };
    (0..count).map(|_| heart()).collect()
}

fn all_beat(hearts: &mut [(Heart, usize)]) {
    for (heart, server) in hearts {
        assert_eq!(heart.beat().unwrap(), *server);
    }
}

fn vip_is_here(cluster: &Cluster) -> bool {
    let addresses = link::addresses(&cluster.director.netns, "eth0")
        .unwrap()
        .addr_info;
    addresses
        .iter()
        .any(|address| address.local.as_deref() == Some("192.168.1.200"))
}

/// Connections counted for the service.
fn connections(cluster: &Cluster) -> u64 {
    let list = cluster.json("list").unwrap();
    let servers = list["services"][0]["real_servers"]
        .as_array()
        .unwrap()
        .clone();
    servers
        .iter()
        .map(|server| server["conns"].as_u64().unwrap())
        .sum()
}

fn end(cluster: &mut Cluster, signal: Signal) {
    let mut agent = cluster.agent.take().unwrap();
    agent.signal(signal).unwrap();
    let status = agent.wait(LIMIT).unwrap();
    assert_eq!(status.success(), signal != Signal::SIGKILL, "{status}");
}

#[test]
fn connections_outlive_restart_crash_and_reload_and_a_stop_leaves_nothing() {
    let mut cluster = Cluster::create("xe").unwrap();
    let _servers = (cluster.serve(1).unwrap(), cluster.serve(2).unwrap());
    let clean = cluster.traces().unwrap();
    cluster.up(CONFIG).unwrap();
    assert!(vip_is_here(&cluster));
    let mut hearts = hearts(&cluster, 8);
    let on_first = hearts.iter().filter(|(_, server)| *server == 1).count();
    assert_eq!(on_first, 4, "wrr 1:1");

    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        let counted = connections(&cluster);
        end(&mut cluster, signal);
        assert!(vip_is_here(&cluster), "after {signal}");
        all_beat(&mut hearts);
        // Without an agent new connections are placed too.
        let mut newcomer = Heart::connect(&cluster.client).unwrap();
        newcomer.beat().unwrap();
        cluster.up(CONFIG).unwrap();
        all_beat(&mut hearts);
        assert_eq!(
            connections(&cluster),
            counted + 1,
            "the counters were taken over"
        );
    }

    // A file that is not valid changes nothing; a valid one does.
    let agent = cluster.agent.as_ref().unwrap();
    cluster
        .write("virtual_server 192.168.1.200 80 {\n    lb_kind NAT\n")
        .unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    wait::until("the refusal", LIMIT, || {
        Ok(agent.log_tail(40).contains("not valid").then_some(()))
    })
    .unwrap();
    cluster
        .write(&CONFIG.replacen("weight 1", "weight 3", 1))
        .unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    wait::until("the new weight", LIMIT, || {
        let list = cluster.json("list")?;
        let weights = list["services"][0]["real_servers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(weights
            .iter()
            .any(|server| server["weight"] == 3)
            .then_some(()))
    })
    .unwrap();
    all_beat(&mut hearts);

    end(&mut cluster, Signal::SIGTERM);
    assert!(!vip_is_here(&cluster));
    assert_eq!(
        cluster.traces().unwrap(),
        clean,
        "no address, link, pin or folder is left"
    );
}

/// Where new connections go now; none are refused.
fn newcomers(cluster: &Cluster) -> Vec<usize> {
    (0..4)
        .map(|_| Heart::connect(&cluster.client).unwrap().beat().unwrap())
        .collect()
}

#[test]
fn a_server_that_fails_loses_its_connections_and_comes_back() {
    let mut cluster = Cluster::create("xh").unwrap();
    let _first = cluster.serve(1).unwrap();
    let second = cluster.serve(2).unwrap();
    cluster.up(CONFIG).unwrap();
    let mut hearts = hearts(&cluster, 4);
    assert!(hearts.iter().any(|(_, server)| *server == 2));

    drop(second);
    wait::until("the second server to leave the tables", LIMIT, || {
        let list = cluster.json("list")?;
        let servers = list["services"][0]["real_servers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let down = |server: &serde_json::Value| {
            server["address"] == "192.168.1.103" && server["state"] == "down"
        };
        Ok(servers.iter().any(down).then_some(()))
    })
    .unwrap();
    for (heart, server) in &mut hearts {
        assert_eq!(heart.beat().is_ok(), *server == 1, "a reset, not silence");
    }
    assert_eq!(newcomers(&cluster), [1, 1, 1, 1]);

    let _second = cluster.serve(2).unwrap();
    wait::until("the second server to come back", LIMIT, || {
        Ok(newcomers(&cluster).contains(&2).then_some(()))
    })
    .unwrap();
}
