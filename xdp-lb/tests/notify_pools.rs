//! What real scripts, FIFOs and a real SMTP server are told of real servers and services.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "support/scripts.rs"]
mod scripts;
#[path = "support/smtp.rs"]
mod smtp;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scripts::{Folder, SOON, resolver};
use smtp::Server;
use tokio::time::{Instant, sleep};
use xdp_lb::agent::notify::{Notifier, Teller};
use xdp_lb::config::model::{
    Config, Endpoint, Fifo, Forwarding, Frontend, Protocol, RealServer, Scheduler, ServiceKey,
    VirtualServer,
};
use xdp_lb::health::report::{News, Report};
use xdp_lb::plan::table::{Health, ServerHealth};

const ENDPOINT: Endpoint = Endpoint {
    vip: IpAddr::V4(Ipv4Addr::new(192, 168, 1, 200)),
    port: 80,
    protocol: Protocol::Tcp,
};

fn service() -> ServiceKey {
    ENDPOINT.into()
}

fn server(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, 102], number))
}

/// A folder and a service of real servers 1, 2, …
struct Bench {
    folder: Folder,
    config: Config,
}

impl Bench {
    fn new(servers: u16) -> Self {
        let mut config = Config::default();
        config.global.router_id = Some("LVS_1".to_owned());
        let dr = Forwarding::DirectRouting;
        let frontend = Frontend::Endpoint(ENDPOINT);
        let mut service = VirtualServer::new(frontend, Scheduler::RoundRobin, dr);
        let all = (1..=servers).map(|number| RealServer::new(server(number), dr));
        service.real_servers = all.collect();
        config.virtual_servers.push(service);
        let folder = Folder::new();
        Self { folder, config }
    }

    fn service(&mut self) -> &mut VirtualServer {
        &mut self.config.virtual_servers[0]
    }

    async fn start(&self) -> Notifier {
        let config = Arc::new(self.config.clone());
        Notifier::start(config, &resolver(), "lb1".to_owned()).await
    }
}

impl Deref for Bench {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

fn went(teller: &Teller, number: u16, up: bool) {
    let news = if up {
        News::Up
    } else {
        News::Down {
            reason: "connection refused".into(),
            failures: 3,
        }
    };
    let server = (service(), server(number));
    teller.report(&Report { server, news });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_of_a_server_run_in_order_and_those_of_others_do_not_wait_for_them() {
    let mut bench = Bench::new(2);
    // Whatever keepalived does not give is not there: neither arguments nor its environment.
    let up = bench.shell("sleep 0.3; echo \"up $# ${NOTIFY_SOCKET-unset}\" >> %/first");
    let down = bench.shell("echo \"down $#\" >> %/first");
    let other = bench.shell("sleep 600");
    let servers = &mut bench.service().real_servers;
    (servers[0].notify_up, servers[0].notify_down) = (Some(up), Some(down));
    servers[1].notify_down = Some(other);
    let (gained, lost) = (
        bench.shell("echo gained >> %/quorum"),
        bench.shell("echo lost >> %/quorum"),
    );
    let quorum = &mut bench.service().quorum;
    (quorum.up, quorum.down) = (Some(gained), Some(lost));
    let notifier = bench.start().await;
    let teller = notifier.teller();
    went(&teller, 2, false);
    for up in [true, false, true] {
        went(&teller, 1, up);
    }
    teller.quorum_changed(service(), false);
    teller.quorum_changed(service(), true);
    bench.until("quorum", |said| said == "lost\ngained\n").await;
    let all = "up 0 unset\ndown 0\nup 0 unset\n";
    bench.until("first", |said| said == all).await;
    notifier.finish(Duration::from_millis(100)).await;
}

/// Where a script runs and ends, one file each.
fn count(folder: &Path, suffix: &str) -> usize {
    let files = fs::read_dir(folder).unwrap().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(suffix)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_fails_does_not_start_a_script_for_each_server_at_once() {
    const SERVERS: u16 = 200;
    let mut bench = Bench::new(SERVERS);
    let down =
        bench.shell("touch %/$$.began; while [ ! -e %/go ]; do sleep 0.05; done; touch %/$$.ended");
    for server in &mut bench.service().real_servers {
        server.notify_down = Some(down.clone());
    }
    let notifier = bench.start().await;
    let teller = notifier.teller();
    for number in 1..=SERVERS {
        went(&teller, number, false);
    }
    let start = Instant::now();
    while count(&bench.path(""), ".began") < 32 {
        assert!(start.elapsed() < SOON);
        sleep(Duration::from_millis(5)).await;
    }
    // More would have begun by now.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(count(&bench.path(""), ".began"), 32);
    fs::write(bench.path("go"), "").unwrap();
    notifier.finish(SOON).await;
    assert_eq!(count(&bench.path(""), ".ended"), usize::from(SERVERS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_flaps_leaves_only_its_last_changes_to_a_slow_script() {
    let mut bench = Bench::new(1);
    let slow = bench.shell("while [ ! -e %/go ]; do sleep 0.05; done; echo up >> %/said");
    let down = bench.shell("echo down >> %/said");
    let server = &mut bench.service().real_servers[0];
    (server.notify_up, server.notify_down) = (Some(slow), Some(down));
    let notifier = bench.start().await;
    let teller = notifier.teller();
    for nth in 0..100 {
        went(&teller, 1, nth % 2 == 0);
    }
    fs::write(bench.path("go"), "").unwrap();
    notifier.finish(SOON).await;
    let said = bench.read("said");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() <= 6, "{lines:?}");
    assert_eq!(lines.last(), Some(&"down"), "the last one counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fifo_gets_what_it_is_for() {
    let mut bench = Bench::new(1);
    let reader = |name: &str| Fifo {
        path: bench.path(&format!("{name}.fifo")),
        script: Some(bench.shell(&format!(
            "exec < \"$1\"; echo > %/{name}.on; cat > %/{name}"
        ))),
    };
    let (all, vrrp, pools) = (reader("all"), reader("vrrp"), reader("pools"));
    let global = &mut bench.config.global;
    global.notify_fifo = Some(all);
    global.vrrp_notify_fifo = Some(vrrp);
    global.lvs_notify_fifo = Some(pools);
    let notifier = bench.start().await;
    for name in ["all.on", "vrrp.on", "pools.on"] {
        bench.until(name, |on| !on.is_empty()).await;
    }
    let teller = notifier.teller();
    went(&teller, 80, false);
    went(&teller, 1, false);
    teller.quorum_changed(service(), false);
    notifier.finish(SOON).await;
    let lines = "RS [192.168.1.102]:tcp:1 [192.168.1.200]:tcp:80 DOWN\n\
                 VS [192.168.1.200]:tcp:80 DOWN\n";
    assert_eq!(bench.read("all"), lines);
    assert_eq!(bench.read("pools"), lines);
    assert_eq!(bench.read("vrrp"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn omega_tells_of_the_end() {
    let mut bench = Bench::new(2);
    let down = bench.shell("echo down >> %/said");
    let lost = bench.shell("echo lost >> %/quorum");
    for server in &mut bench.service().real_servers {
        server.notify_down = Some(down.clone());
    }
    bench.service().quorum.down = Some(lost);
    let up = |up| ServerHealth {
        up,
        ..ServerHealth::default()
    };
    let health: Health = [
        ((service(), server(1)), up(true)),
        ((service(), server(2)), up(false)),
    ]
    .into();
    for (omega, said, quorum) in [(false, "", ""), (true, "down\n", "lost\n")] {
        bench.service().omega = omega;
        let notifier = bench.start().await;
        notifier.teller().stopping(&health);
        notifier.finish(SOON).await;
        assert_eq!(
            (&*bench.read("said"), &*bench.read("quorum")),
            (said, quorum)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_out_for_servers_and_services_that_ask_for_it() {
    let Some(mut mails) = Server::start(&[]) else {
        return;
    };
    let mut bench = Bench::new(2);
    bench.service().smtp_alert = true;
    bench.service().real_servers[1].smtp_alert = false;
    let mail = &mut bench.config.global.mail;
    mail.to = vec!["ops@example.org".to_owned()];
    mail.server = Some(("127.0.0.1".to_owned(), mails.port));
    let notifier = bench.start().await;
    let teller = notifier.teller();
    went(&teller, 2, false);
    went(&teller, 1, false);
    teller.quorum_changed(service(), false);
    went(&teller, 1, true);
    notifier.finish(SOON).await;
    let rs = "Realserver [192.168.1.102]:tcp:1 of virtual server [192.168.1.200]:tcp:80";
    let expected = [
        (format!("{rs} - DOWN"), "connection refused (3 of 3)"),
        (
            "Virtualserver [192.168.1.200]:tcp:80 - DOWN".to_owned(),
            "Less than weight 1 is up.",
        ),
        (format!("{rs} - UP"), "its checks pass"),
    ];
    for (subject, body) in expected {
        let lines = mails.mail();
        // A long header goes on on the next line.
        let text = lines.join("\n").replace("\n ", " ");
        assert!(
            text.contains(&format!("Subject: [LVS_1] {subject}")),
            "{text}"
        );
        assert!(lines.iter().any(|line| line == body), "{text}");
    }
}
