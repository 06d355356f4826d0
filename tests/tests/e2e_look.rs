//! What operators ask about single packets, of a real agent and with real clients: `xdp-lb trace` is
//! held against what then happens, `xdp-lb capture` against what happened.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose tools break has failed, and says so"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use xdp_lb_tests::cluster::{CLIENT, Cluster, VIP, server_address, vrrp_instance};
use xdp_lb_tests::director::{Director, program};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::netns::Netns;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{link, needs, wait};

/// Where the web service and its servers listen.
const WEB: u16 = 8080;

/// Where a service of datagrams is; nobody listens.
const DATAGRAMS: u16 = 9999;

/// What anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

fn configuration(state: &str, web: &str, weights: &[u32]) -> String {
    let servers = |port: u16, weights: &[u32]| -> String {
        let servers = (1..).zip(weights).map(|(number, weight)| {
            let address = server_address(number);
            format!("real_server {address} {port} {{\nweight {weight}\n}}\n")
        });
        servers.collect()
    };
    let service = |port, protocol, lines: &str, weights: &[u32]| {
        let servers = servers(port, weights);
        format!(
            "virtual_server {VIP} {port} {{\nlb_kind DR\nprotocol {protocol}\n{lines}\n{servers}}}\n"
        )
    };
    vrrp_instance(state)
        + &service(WEB, "TCP", web, weights)
        + &service(DATAGRAMS, "UDP", "lb_algo rr", &[1, 1])
}

/// nginx that says whose it is.
fn nginx(netns: &Netns, name: &str, folder: &Path) -> Process {
    let file = folder.join(format!("{name}.nginx"));
    let path = |what: &str| folder.join(format!("{name}-{what}")).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {};\n", path(what)))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log stderr;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{ listen {WEB}; return 200 {name}; }}\n}}\n",
        path("pid")
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(folder);
    let server = Process::start(name, netns, &mut command, folder).unwrap();
    let listens = || {
        let found = netns.output(Command::new("ss").args(["-Hltn", &format!("sport = {WEB}")]));
        Ok(found?.contains(&WEB.to_string()).then_some(()))
    };
    wait::until("nginx listens", LIMIT, listens).unwrap();
    server
}

/// A cluster whose servers run nginx.
fn cluster(tag: &str, web: &str, weights: &[u32]) -> (Cluster, Vec<Process>) {
    let count = u8::try_from(weights.len()).unwrap();
    let mut cluster = Cluster::create(tag, count, &[]).unwrap();
    let nginxes = (1..).zip(&cluster.servers).map(|(number, server)| {
        nginx(&server.host.netns, &format!("rs{number}"), cluster.folder())
    });
    let nginxes = nginxes.collect();
    let director = &mut cluster.director;
    director
        .configure(&configuration("MASTER", web, weights))
        .unwrap();
    director.start_whole().unwrap();
    (cluster, nginxes)
}

/// Has the director use another configuration.
fn reload(director: &Director, configuration: &str) {
    director.configure(configuration).unwrap();
    director.ask(&["reload"]).unwrap();
}

/// Who answers `curl` from this port.
fn curl(client: &Netns, port: u16) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--local-port", &port.to_string()]);
    client
        .output(curl.arg(format!("http://{VIP}:{WEB}/")))
        .unwrap()
}

/// `xdp-lb trace --json`, and whether it succeeds.
fn trace(cluster: &Cluster, client: &str, service: &str, more: &[&str]) -> (Value, bool) {
    let mut command = Command::new(program().unwrap());
    command.args(["--instance", &cluster.director.instance]);
    command
        .args(["trace", client, service, "--json"])
        .args(more);
    let done = cluster
        .host
        .netns
        .run(|| command.output())
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let trace = serde_json::from_slice(&done.stdout);
    (
        trace.unwrap_or_else(|error| panic!("{error}: {said}")),
        done.status.success(),
    )
}

/// The name of the real server in a trace or a decision.
fn server_of(address: &Value) -> Option<String> {
    let address = match address {
        Value::Object(server) => server.get("address")?.as_str()?.to_owned(),
        Value::String(address) => address.split(':').next()?.to_owned(),
        _ => return None,
    };
    (1..=9).find_map(|number| {
        (server_address(number).to_string() == address).then(|| format!("rs{number}"))
    })
}

/// All that counts and remembers packets of services.
#[derive(Debug, PartialEq)]
struct Counted {
    /// Connections that are active, that are not, and ever; packets.
    servers: Vec<[Value; 4]>,
    sent: BTreeMap<String, u64>,
}

fn counted(director: &Director) -> Counted {
    let list = director.ask(&["list", "--json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let services = list["services"].as_array().unwrap().iter();
    let servers = services.flat_map(|service| service["real_servers"].as_array().unwrap());
    let counts = ["active_conns", "inactive_conns", "conns", "in_packets"];
    let exits = director.status().unwrap().packets.into_iter();
    let sent = exits.filter(|exit| exit.reason.starts_with("tx_"));
    Counted {
        servers: servers
            .map(|server| counts.map(|name| server[name].clone()))
            .collect(),
        sent: sent.map(|exit| (exit.reason, exit.packets)).collect(),
    }
}

#[test]
fn a_trace_tells_what_then_happens_and_changes_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let (cluster, _nginxes) = cluster("lt", "lb_algo rr", &[1, 1, 1]);
    let client = &cluster.client.netns;
    let web = format!("{VIP}:{WEB}");
    let mut port = 41_000;
    for (lines, weights, rule) in [
        ("lb_algo rr", [1, 1, 1], "scheduler"),
        ("lb_algo wrr", [3, 1, 2], "scheduler"),
        ("lb_algo wlc", [1, 2, 3], "scheduler"),
        ("lb_algo sh\nsh-port", [1, 1, 1], "scheduler"),
        ("lb_algo mh", [1, 2, 1], "scheduler"),
        (
            "lb_algo rr\npersistence_timeout 50",
            [1, 1, 1],
            "persistence",
        ),
    ] {
        reload(&cluster.director, &configuration("MASTER", lines, &weights));
        for number in 0..7 {
            port += 1;
            let from = format!("{CLIENT}:{port}");
            // What a connection before left behind must have settled.
            let before = counted(&cluster.director);
            let (foreseen, is_balanced) = trace(&cluster, &from, &web, &[]);
            let (again, _) = trace(&cluster, &from, &web, &[]);
            assert_eq!(foreseen["real_server"], again["real_server"], "{lines}");
            assert_eq!(counted(&cluster.director), before, "{lines}: {foreseen:#}");
            assert!(is_balanced);
            let name = server_of(&foreseen["real_server"]).unwrap();
            assert_eq!(
                curl(client, port),
                name,
                "{lines}, client {number}: {foreseen:#}"
            );
            // The first client of a persistent service has no template yet.
            if rule != "persistence" || number > 0 {
                assert_eq!(foreseen["rule"], rule, "{lines}: {foreseen:#}");
            }
            let (known, _) = trace(&cluster, &from, &web, &["--midstream"]);
            assert_eq!(known["rule"], "connection", "{known:#}");
            assert_eq!(server_of(&known["real_server"]).unwrap(), name);
            assert_eq!(known["connection"]["state"], "FIN_WAIT", "{known:#}");
        }
    }
    let (sticky, _) = trace(&cluster, &CLIENT.to_string(), &web, &[]);
    assert_eq!(sticky["template"]["timeout_s"], 50, "{sticky:#}");
    assert_eq!(sticky["vrrp"]["state"], "MASTER");
    assert_eq!(sticky["real_server"]["interface"], INTERFACE);
    let line = cluster
        .director
        .ask(&["trace", &CLIENT.to_string(), &web])
        .unwrap();
    assert!(line.contains("rule persistence"), "{line}");
}

#[test]
fn a_trace_says_why_nothing_balances_a_packet() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, _nginxes) = cluster("lw", "lb_algo rr", &[1, 1]);
    let client = format!("{CLIENT}:40000");
    let why = |cluster: &Cluster, service: &str, more: &[&str]| {
        let (trace, is_balanced) = trace(cluster, &client, service, more);
        assert!(!is_balanced, "{trace:#}");
        let text = trace["explanation"].as_str().unwrap().to_owned();
        (trace["reason"].as_str().unwrap().to_owned(), text)
    };
    let web = format!("{VIP}:{WEB}");
    let (reason, text) = why(&cluster, &format!("{VIP}:81"), &[]);
    assert_eq!(reason, "no_service");
    assert!(text.contains(&format!("{web}/tcp")), "{text}");
    assert_eq!(why(&cluster, &format!("{web}/udp"), &[]).0, "no_service");
    assert_eq!(why(&cluster, &web, &["--midstream"]).0, "no_connection");
    for number in 1..=2 {
        let server = format!("{}:{WEB}", server_address(number));
        cluster.director.ask(&["drain", &web, &server]).unwrap();
    }
    let (reason, text) = why(&cluster, &web, &[]);
    assert_eq!(reason, "tx_unreachable");
    assert_eq!(text, "no live real server: 2 of weight 0");
    let datagrams = format!("{VIP}:{DATAGRAMS}/udp");
    let (other, is_balanced) = trace(&cluster, &client, &datagrams, &[]);
    assert!(is_balanced && other["protocol"] == "udp", "{other:#}");

    // It waits for more than a minute before it takes nobody for the master.
    assert!(cluster.director.end_by(Signal::SIGTERM).unwrap().success());
    let patient = configuration("BACKUP", "lb_algo rr", &[1, 1]);
    let patient = patient.replace("advert_int 1", "advert_int 20");
    cluster.director.configure(&patient).unwrap();
    cluster.director.start().unwrap();
    let (reason, text) = why(&cluster, &web, &[]);
    assert_eq!(reason, "not_active");
    assert!(
        text.starts_with("the VRRP instance VI_1 is BACKUP here"),
        "{text}"
    );
}

/// A capture that runs.
struct Capturing(Process);

impl Capturing {
    fn start(cluster: &mut Cluster, name: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program().unwrap());
        command.args([
            "--instance",
            &cluster.director.instance,
            "capture",
            "--json",
        ]);
        command.args(words);
        let (netns, folder) = (&cluster.host.netns, cluster.folder().to_owned());
        let begun = cluster.director.log().matches("begins").count();
        let process = Process::start(name, netns, &mut command, &folder).unwrap();
        let begins =
            || Ok((cluster.director.log().matches("begins").count() > begun).then_some(()));
        wait::until("the capture begins", LIMIT, begins).unwrap();
        Self(process)
    }

    /// All lines so far.
    fn lines(&self) -> Vec<Value> {
        let text = self.0.stdout().unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// All lines once they are as they should be.
    fn wait(&self, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        let waited = wait::until(what, LIMIT, || {
            lines = self.lines();
            Ok(is(&lines).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}: {lines:#?}"));
        lines
    }
}

fn of_reason<'a>(lines: &'a [Value], reason: &'a str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["reason"] == reason)
        .collect()
}

/// The client's port of a decision about the web service, and the real server.
fn placement(line: &Value) -> (u16, String) {
    let web = format!("{VIP}:{WEB}");
    assert_eq!(line["vip"], web);
    assert_eq!(line["service"], format!("tcp/{web}"));
    assert_eq!(line["interface"], INTERFACE);
    let port = line["client"].as_str().unwrap().rsplit(':').next().unwrap();
    (
        port.parse().unwrap(),
        server_of(&line["real_server"]).unwrap(),
    )
}

/// The program on the director's interface.
fn program_id(cluster: &Cluster) -> Option<u32> {
    link::show(&cluster.host.netns, INTERFACE)
        .unwrap()
        .xdp
        .map(|xdp| xdp.prog.id)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn a_capture_shows_each_connection_with_its_server_and_leaves_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, _nginxes) = cluster("lc", "lb_algo rr", &[1, 1, 1]);
    let agent = cluster.director.pid().unwrap();
    let (plain, open) = (program_id(&cluster), descriptors(agent));
    let all = Capturing::start(&mut cluster, "all", &[]);
    assert_ne!(program_id(&cluster), plain, "another program tells");
    let address = server_address(2).to_string();
    let words = [
        "reason",
        "new",
        "server",
        &address,
        "client",
        "10.80.0.0/24",
    ];
    let second = Capturing::start(&mut cluster, "second", &words);
    let other = Capturing::start(&mut cluster, "other", &["client", "10.81.0.0/24"]);
    let web = format!("{VIP}:{WEB}");
    let counted_one = ["vip", &web, "reason", "tx_scheduled", "--count", "2"];
    let mut two = Capturing::start(&mut cluster, "two", &counted_one);

    let ports = 42_000_u16..42_012;
    let client = &cluster.client.netns;
    let answers: BTreeMap<_, _> = ports.map(|port| (port, curl(client, port))).collect();
    let placed = |lines: &[Value]| of_reason(lines, "tx_scheduled").len() >= answers.len();
    let lines = all.wait("every connection is shown", placed);
    let told = of_reason(&lines, "tx_scheduled").into_iter().map(placement);
    assert_eq!(told.collect::<BTreeMap<_, _>>(), answers);
    let of_second = answers.values().filter(|name| *name == "rs2").count();
    let lines = second.wait("its connections", |lines| lines.len() >= of_second);
    assert_eq!(lines.len(), of_second);
    let servers: BTreeSet<_> = lines
        .iter()
        .map(|line| server_of(&line["real_server"]))
        .collect();
    assert_eq!(servers, [Some("rs2".to_owned())].into());
    assert_eq!(other.lines(), [Value::Null; 0]);
    assert!(two.0.wait(LIMIT).unwrap().success());
    assert_eq!(two.lines().len(), 2);

    for mut capture in [all, second, other] {
        capture.0.kill().unwrap();
    }
    let as_before = || Ok((program_id(&cluster) == plain).then_some(()));
    wait::until("the program only forwards again", LIMIT, as_before).unwrap();
    let closed = || Ok((descriptors(agent) <= open).then_some(()));
    wait::until("the agent let go of all of it", LIMIT, closed)
        .unwrap_or_else(|error| panic!("{error}: {} > {open}", descriptors(agent)));
    assert_eq!(curl(client, 42_100).len(), 3, "it forwards");
    let status = cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(status.success());
}

/// The agent is restarted and is killed in the middle of a capture: the next one is asked as the first.
#[test]
fn the_next_agent_answers_too() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, _nginxes) = cluster("la", "lb_algo rr", &[1, 1]);
    let web = format!("{VIP}:{WEB}");
    for (round, signal) in [
        (0, Signal::SIGQUIT),
        (1, Signal::SIGKILL),
        (2, Signal::SIGTERM),
    ] {
        let from = format!("{CLIENT}:{}", 44_000 + round);
        let (foreseen, is_balanced) = trace(&cluster, &from, &web, &[]);
        assert!(is_balanced, "{foreseen:#}");
        let name = format!("round-{round}");
        let mut capture = Capturing::start(&mut cluster, &name, &["reason", "new"]);
        let name = server_of(&foreseen["real_server"]).unwrap();
        assert_eq!(curl(&cluster.client.netns, 44_000 + round), name);
        capture.wait("the connection", |lines| lines.len() == 1);
        let telling = program_id(&cluster);
        cluster.director.end_by(signal).unwrap();
        let ended = capture.0.wait(LIMIT).unwrap();
        assert_eq!(ended.code(), Some(1), "its agent has ended");
        match signal {
            Signal::SIGTERM => assert_eq!(program_id(&cluster), None),
            // It forwards all the same.
            Signal::SIGKILL => assert_eq!(program_id(&cluster), telling),
            _ => assert!(program_id(&cluster).is_some_and(|id| Some(id) != telling)),
        }
        cluster.director.start_whole().unwrap();
        assert_ne!(program_id(&cluster), telling, "only forwards again");
    }
}

/// Sends datagrams to the VIP.
fn flood(client: &Netns, packets: u64) {
    let send = || {
        let socket = UdpSocket::bind((CLIENT, 43_000)).unwrap();
        for number in 0..packets {
            // A full queue of the link is not what this is about.
            while socket
                .send_to(&number.to_be_bytes(), (VIP, DATAGRAMS))
                .is_err()
            {
                std::thread::yield_now();
            }
        }
    };
    client.run(send).unwrap();
}

/// Datagrams that went to real servers.
fn balanced(director: &Director) -> u64 {
    let list = director.list().unwrap();
    let services = list
        .services
        .iter()
        .filter(|service| service.port == DATAGRAMS);
    let servers = services.flat_map(|service| &service.real_servers);
    servers.map(|server| server.in_packets).sum()
}

/// Decisions that were shown, and that were told to be not.
fn shown(lines: &[Value]) -> (u64, u64) {
    let (decisions, left_out): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["not_shown"].is_null());
    let left_out = left_out
        .iter()
        .map(|line| line["not_shown"].as_u64().unwrap());
    (decisions.len() as u64, left_out.sum())
}

/// Whether the client does not read or the agent does not: each decision is shown or counted.
#[test]
fn what_a_capture_cannot_show_is_counted() {
    const PACKETS: u64 = 30_000;
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, _nginxes) = cluster("ln", "lb_algo rr", &[1, 1]);
    let datagrams = format!("{VIP}:{DATAGRAMS}/udp");
    // The gate stays open while the agent stands still.
    let patient = "xdp_lb {\nfail_static on\n}\n".to_owned()
        + &configuration("MASTER", "lb_algo rr", &[1, 1]);
    reload(&cluster.director, &patient);
    let capture = Capturing::start(&mut cluster, "all", &["vip", &datagrams]);
    let sampled = ["vip", &datagrams, "--sample", "1/50"];
    let sampled = Capturing::start(&mut cluster, "sampled", &sampled);

    capture.0.signal(Signal::SIGSTOP).unwrap();
    flood(&cluster.client.netns, PACKETS);
    let first = balanced(&cluster.director);
    assert!(first > PACKETS / 2, "{first}");
    capture.0.signal(Signal::SIGCONT).unwrap();
    let is_told = |all: u64| move |lines: &[Value]| shown(lines).0 + shown(lines).1 >= all;
    let (told, left_out) = shown(&capture.wait("all of it", is_told(first)));
    assert_eq!(told + left_out, first);
    assert!(left_out > 0, "{told} were shown");
    let few = sampled.lines().len() as u64;
    assert!(few > 0 && few < first / 10, "{few} of {first}");

    cluster.director.signal(Signal::SIGSTOP).unwrap();
    flood(&cluster.client.netns, PACKETS);
    cluster.director.signal(Signal::SIGCONT).unwrap();
    let both = balanced(&cluster.director);
    assert!(both > first + PACKETS / 2, "{both} after {first}");
    let (told_then, left_out_then) = shown(&capture.wait("all of both", is_told(both)));
    assert_eq!(told_then + left_out_then, both);
    assert!(left_out_then > left_out, "{told_then} were shown");
}
