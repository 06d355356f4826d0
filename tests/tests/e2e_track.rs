//! What `xdp-lb up` tracks and whom it tells: scripts, a FIFO, the commands at both ends of its life.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use xdp_lb_tests::cluster::{Cluster, VIP};
use xdp_lb_tests::keepalived::Keepalived;
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::{needs, wait};

/// The other director's address.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);

/// What a change of masters may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A director, and a folder for what its scripts read and write.
struct Site {
    cluster: Cluster,
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
impl Site {
    fn create(tag: &str) -> Option<Self> {
        if !needs::root().unwrap() {
            return None;
        }
        let cluster = Cluster::create(tag, 0, &[]).unwrap();
        let site = Self { cluster };
        // Its first argument is the file for the others.
        fs::write(
            site.path("say.sh"),
            "file=$1\nshift\necho \"$*\" >> \"$file\"\n",
        )
        .unwrap();
        fs::write(site.path("read.sh"), "cat \"$2\" >> \"$1\"\n").unwrap();
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.folder().join(name)
    }

    /// A command that adds a line to a file.
    fn say(&self, file: &str, words: &str) -> String {
        let (script, file) = (self.path("say.sh"), self.path(file));
        format!(
            "\"/bin/sh {} {} {words}\"",
            script.display(),
            file.display()
        )
    }

    /// A `vrrp_script` that fails while there is a file `broken`.
    fn script(&self, weight: i16) -> String {
        let broken = self.path("broken");
        format!(
            "vrrp_script check {{\nscript \"/usr/bin/test ! -e {}\"\ninterval 1\nweight {weight}\n}}\n",
            broken.display()
        )
    }

    fn is_broken(&self, broken: bool) {
        if broken {
            fs::write(self.path("broken"), "").unwrap();
        } else {
            fs::remove_file(self.path("broken")).unwrap();
        }
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn has_vip(&self) -> bool {
        has_vip(&self.cluster.host)
    }
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn has_vip(host: &Host) -> bool {
    host.has_address(&format!("{VIP}/24")).unwrap()
}

fn instance(priority: u8, lines: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int 1
            virtual_ipaddress {{
                {VIP}/24
            }}
            {lines}
        }}\n"
    )
}

const TRACK: &str = "track_script {\ncheck\n}\n";

#[test]
fn a_script_that_fails_moves_the_vip_and_everybody_is_told_in_order() {
    let Some(mut site) = Site::create("tm") else {
        return;
    };
    let other = site
        .cluster
        .lan
        .add_host("other", [&*format!("{OTHER}/24")]);
    let other = other.unwrap();
    let mut keepalived = Keepalived::new("keepalived", &other.netns, site.cluster.folder());
    let settles = |site: &Site, here: bool| {
        let waited = wait::until("one has the VIP", LIMIT, || {
            Ok(((site.has_vip(), has_vip(&other)) == (here, !here)).then_some(()))
        });
        waited
            .map_err(|late| late.context(site.cluster.director.log()))
            .unwrap();
    };
    let notify = ["master", "backup", "fault", "stop"];
    let notify = notify.map(|word| format!("notify_{word} {}\n", site.say("told", word)));
    let notify = format!("{}notify {}\n", notify.concat(), site.say("told", ""));
    let fifo = format!(
        "global_defs {{\nscript_user root\nvrrp_notify_fifo {}\nvrrp_notify_fifo_script \"/bin/sh {} {}\"\n}}\n",
        site.path("fifo").display(),
        site.path("read.sh").display(),
        site.path("piped").display()
    );
    let text = format!(
        "{fifo}{}{}",
        site.script(-80),
        instance(150, &format!("{TRACK}{notify}"))
    );
    keepalived.start(&instance(100, "")).unwrap();
    keepalived.wait_log("Entering MASTER STATE", 1).unwrap();
    site.cluster.director.configure(&text).unwrap();
    site.cluster.director.start().unwrap();
    settles(&site, true);
    site.is_broken(true);
    site.cluster.director.wait_log("priority 150 → 70").unwrap();
    settles(&site, false);
    site.is_broken(false);
    settles(&site, true);
    let ended = site.cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(ended.success(), "{ended}");

    let changes = [
        ("BACKUP", 150),
        ("MASTER", 150),
        ("BACKUP", 70),
        ("MASTER", 150),
        ("STOP", 150),
    ];
    let told = changes.map(|(state, priority)| {
        let any = format!("INSTANCE VI_1 {state} {priority}");
        [state.to_lowercase(), any]
    });
    assert_eq!(site.lines("told"), told.concat());
    let mut piped = site.lines("piped");
    // Whether keepalived spoke once more depends on when it heard of the better one.
    piped.retain(|line| !line.contains("MASTER_RX_LOWER_PRI"));
    let lines = changes.map(|(state, priority)| format!("INSTANCE \"VI_1\" {state} {priority}"));
    assert_eq!(piped, lines);
    assert!(!site.path("fifo").exists(), "it went with the agent");
}

#[test]
fn a_fault_lasts_as_long_as_its_script_fails_between_the_scripts_of_start_and_end() {
    let Some(mut site) = Site::create("tf") else {
        return;
    };
    let ends = |site: &Site| {
        let (startup, shutdown) = (site.say("ends", "startup"), site.say("ends", "shutdown"));
        format!(
            "global_defs {{\nscript_user root\nstartup_script {startup}\nshutdown_script {shutdown}\n}}\n"
        )
    };
    let text = format!("{}{}{}", ends(&site), site.script(0), instance(150, TRACK));
    site.cluster.director.configure(&text).unwrap();
    site.is_broken(true);
    site.cluster.director.start().unwrap();
    assert_eq!(site.lines("ends"), ["startup"]);
    site.cluster.director.wait_log("→ FAULT").unwrap();
    site.is_broken(false);
    let director = &mut site.cluster.director;
    director.wait_log("FAULT → BACKUP").unwrap();
    director.wait_log("BACKUP → MASTER").unwrap();

    // Nobody tracks what cannot be run.
    let missing = text.replace("/usr/bin/test !", "/usr/bin/no-such-test !");
    director.configure(&missing).unwrap();
    site.is_broken(true);
    let director = &mut site.cluster.director;
    director.signal(Signal::SIGHUP).unwrap();
    director
        .wait_log("vrrp_script check is as if nobody tracked it")
        .unwrap();
    director.configure(&text).unwrap();
    let before = director.log().matches("→ FAULT").count();
    director.signal(Signal::SIGHUP).unwrap();
    wait::until("it is tracked again", LIMIT, || {
        let faults = site.cluster.director.log().matches("→ FAULT").count();
        Ok((faults > before).then_some(()))
    })
    .unwrap();

    // A successor is no end.
    site.cluster.director.end_by(Signal::SIGQUIT).unwrap();
    assert_eq!(site.lines("ends"), ["startup"]);
    site.cluster.director.start().unwrap();
    site.cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert_eq!(site.lines("ends"), ["startup", "startup", "shutdown"]);
}
