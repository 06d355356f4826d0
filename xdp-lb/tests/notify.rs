//! Notifications to real scripts, FIFOs and a real SMTP server.

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
use std::num::NonZeroU8;
use std::ops::Deref;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::time::Duration;

use scripts::{Folder, SOON, resolver};
use smtp::Server;
use tokio::time::Instant;
use xdp_lb::agent::notify::{Notification, Notifier, run_once};
use xdp_lb::config::model::{
    Config, Deleted, Fifo, Notify, SyncGroup, TimedCommand, Trackers, VrrpInstance,
};
use xdp_lb::sys::command::notify::Subject;
use xdp_lb::vrrp::router::Notice;

/// A folder and a configuration of one instance and one group.
struct Bench {
    folder: Folder,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        config.global.router_id = Some("LVS_1".to_owned());
        let instance = VrrpInstance::new("VI", "eth0", NonZeroU8::MIN);
        config.vrrp_instances.push(instance);
        config.sync_groups.push(SyncGroup {
            name: "G".to_owned(),
            members: vec!["VI".to_owned()],
            trackers: Trackers::default(),
            tracking_weight: false,
            notify: Notify::default(),
        });
        let folder = Folder::new();
        Self { folder, config }
    }

    fn notify(&mut self) -> &mut Notify {
        &mut self.config.vrrp_instances[0].notify
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

fn vi(notice: Notice) -> Notification {
    Notification {
        subject: Subject::Instance,
        name: "VI".to_owned(),
        notice,
        priority: 101,
    }
}

fn group(notice: Notice) -> Notification {
    Notification {
        subject: Subject::Group,
        name: "G".to_owned(),
        notice,
        priority: 101,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_in_order_however_long_they_take_and_the_last_one_too() {
    let mut bench = Bench::new();
    let any = bench.shell("echo \"$@\" >> %/said");
    let slow = bench.shell("sleep 0.3; echo \"master $*\" >> %/said");
    let notify = bench.notify();
    (notify.any, notify.master) = (Some(any), Some(slow));
    notify.stop = notify.any.clone();
    let notifier = bench.start().await;
    let teller = notifier.teller();
    let driver = std::thread::spawn(move || {
        for notice in [Notice::Backup, Notice::Master, Notice::Fault, Notice::Stop] {
            teller.tell(vi(notice));
        }
    });
    driver.join().unwrap();
    notifier.finish(SOON).await;
    let said = "INSTANCE VI BACKUP 101\nmaster \nINSTANCE VI MASTER 101\n\
                INSTANCE VI FAULT 101\n\nINSTANCE VI STOP 101\n";
    assert_eq!(bench.read("said"), said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_hangs_holds_up_neither_others_nor_the_end() {
    let mut bench = Bench::new();
    bench.notify().any = Some(bench.shell("sleep 600"));
    bench.config.sync_groups[0].notify.any = Some(bench.shell("echo \"$@\" >> %/said"));
    let notifier = bench.start().await;
    notifier.teller().tell(vi(Notice::Master));
    notifier.teller().tell(group(Notice::Master));
    bench
        .until("said", |said| said == "GROUP G MASTER 0\n")
        .await;
    let start = Instant::now();
    notifier.finish(Duration::from_millis(100)).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_gets_every_line_in_order_and_its_reader_all_of_them() {
    let mut bench = Bench::new();
    bench.notify().priority_changes = true;
    // Slow, so that lines still wait at the end.
    let script = bench.shell("exec < \"$1\"; echo \"$@\" > %/path; sleep 0.3; cat > %/lines");
    let path = bench.path("fifo");
    bench.config.global.vrrp_notify_fifo = Some(Fifo {
        path: path.clone(),
        script: Some(script),
    });
    let notifier = bench.start().await;
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    let teller = notifier.teller();
    for notice in [
        Notice::Backup,
        Notice::Master,
        Notice::MasterPriority,
        Notice::MasterRxLowerPriority,
    ] {
        teller.tell(vi(notice));
    }
    bench.until("path", |path| !path.is_empty()).await;
    assert_eq!(bench.read("path").trim(), path.to_str().unwrap());
    teller.tell(group(Notice::Master));
    teller.tell(vi(Notice::Stop));
    notifier.finish(SOON).await;
    assert!(!path.exists());
    assert_eq!(
        bench.read("lines"),
        "INSTANCE \"VI\" BACKUP 101\nINSTANCE \"VI\" MASTER 101\n\
         INSTANCE \"VI\" MASTER_PRIORITY 101\nINSTANCE \"VI\" MASTER_RX_LOWER_PRI 101\n\
         GROUP \"G\" MASTER 0\nINSTANCE \"VI\" STOP 101\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_tells_of_what_it_removes_and_keeps_a_fifo_that_stays() {
    let mut bench = Bench::new();
    bench.notify().any = Some(bench.shell("echo \"$@\" >> %/said"));
    bench.notify().deleted = Deleted::Runs(bench.shell("echo deleted >> %/said"));
    let script = bench.shell("exec < \"$1\"; echo started >> %/starts; cat > %/lines");
    bench.config.global.notify_fifo = Some(Fifo {
        path: bench.path("fifo"),
        script: Some(script),
    });
    let notifier = bench.start().await;
    let teller = notifier.teller();
    teller.tell(vi(Notice::Master));
    bench.config.vrrp_instances.clear();
    let config = Arc::new(bench.config.clone());
    bench.until("starts", |starts| !starts.is_empty()).await;
    notifier.reload(config, &resolver()).await;
    teller.tell(vi(Notice::Stop));
    notifier.finish(SOON).await;
    let said = "INSTANCE VI MASTER 101\ndeleted\nINSTANCE VI DELETED 101\n";
    assert_eq!(bench.read("said"), said);
    assert_eq!(bench.read("starts"), "started\n");
    let lines = "INSTANCE \"VI\" MASTER 101\nINSTANCE \"VI\" DELETED 101\n";
    assert_eq!(bench.read("lines"), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_out_for_those_that_ask_for_it() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let mut bench = Bench::new();
    bench.config.sync_groups[0].notify.mail = true;
    let mail = &mut bench.config.global.mail;
    mail.to = vec!["root".to_owned(), "ops@example.org".to_owned()];
    mail.server = Some(("127.0.0.1".to_owned(), server.port));
    let notifier = bench.start().await;
    let teller = notifier.teller();
    teller.tell(vi(Notice::Master));
    teller.tell(group(Notice::Fault));
    teller.tell(group(Notice::Stop));
    teller.tell(group(Notice::Master));
    notifier.finish(SOON).await;
    let mails = [server.mail(), server.mail()];
    for (mail, state) in mails.iter().zip(["FAULT", "MASTER"]) {
        let envelope = "envelope lb1 keepalived@lb1 root@lb1,ops@example.org";
        assert_eq!(mail[0], envelope);
        let subject = format!("Subject: [LVS_1] VRRP Group G - Entering {state} state");
        assert!(mail.contains(&subject), "{mail:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_around_the_life_of_an_agent_has_its_time_and_no_more() {
    let bench = Bench::new();
    let resolver = resolver();
    let timed = |line: &str, timeout| TimedCommand {
        command: bench.shell(line),
        timeout,
    };
    run_once(
        "startup_script",
        &timed("echo up > %/said", SOON),
        &resolver,
    )
    .await;
    assert_eq!(bench.read("said"), "up\n");
    let start = Instant::now();
    let hangs = timed("sleep 600", Duration::from_millis(100));
    run_once("shutdown_script", &hangs, &resolver).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
