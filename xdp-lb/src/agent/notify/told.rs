//! Who is told what of a change. Pure.

use std::collections::BTreeMap;

use crate::config::model::{Command, Config, Deleted, Notify};
use crate::sys::command::notify::{Change, Subject};
use crate::telemetry::mail::{group_subject, instance_subject};
use crate::vrrp::router::Notice;

/// Something happened to an instance or a sync group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Which of them.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// What happened.
    pub notice: Notice,
    /// Its effective priority; of no meaning for a group.
    pub priority: u8,
}

/// Something to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Run a command, with these behind its own arguments.
    Run(Command, Vec<String>),
    /// Write a line to the FIFOs.
    Line(String),
    /// Send a mail.
    Mail {
        /// Its subject.
        subject: String,
        /// Its text.
        body: String,
    },
}

/// What the configuration says about telling.
#[derive(Clone, Debug, Default)]
pub struct Told {
    router_id: String,
    faults: bool,
    instances: BTreeMap<String, Notify>,
    groups: BTreeMap<String, Notify>,
    /// Instances that a reload removed and that have not stopped yet.
    deleted: BTreeMap<String, Notify>,
}

impl Told {
    /// Takes a configuration; `host` is the name of a director that has none of its own.
    pub fn configure(&mut self, config: &Config, host: &str) {
        let router_id = config.global.router_id.as_deref().unwrap_or(host);
        router_id.clone_into(&mut self.router_id);
        self.faults = config.global.mail.faults;
        let instances = config.vrrp_instances.iter();
        let instances = instances.map(|instance| (instance.name.clone(), instance.notify.clone()));
        let old = std::mem::replace(&mut self.instances, instances.collect());
        let is_gone = |name: &String| !self.instances.contains_key(name);
        // One that goes on under another name never stops: it is forgotten by the next reload.
        self.deleted = old.into_iter().filter(|(name, _)| is_gone(name)).collect();
        let groups = config.sync_groups.iter();
        let groups = groups.map(|group| (group.name.clone(), group.notify.clone()));
        self.groups = groups.collect();
    }

    /// Whether anything can still be told of it.
    pub fn knows(&self, subject: Subject, name: &str) -> bool {
        match subject {
            Subject::Instance => {
                self.instances.contains_key(name) || self.deleted.contains_key(name)
            }
            Subject::Group => self.groups.contains_key(name),
        }
    }

    /// What is to be done, in this order.
    pub fn deeds(&mut self, notification: &Notification) -> Vec<Deed> {
        let Notification {
            subject,
            name,
            notice,
            priority,
        } = notification;
        let mut change = Change {
            subject: *subject,
            name: name.clone(),
            state: notice.label(),
            priority: *priority,
        };
        let (notify, is_deleted) = match subject {
            Subject::Group => {
                change.priority = 0;
                (self.groups.get(name).cloned(), false)
            }
            Subject::Instance => match self.instances.get(name) {
                Some(notify) => (Some(notify.clone()), false),
                None if *notice == Notice::Stop => (self.deleted.remove(name), true),
                None => (self.deleted.get(name).cloned(), false),
            },
        };
        let notify = notify.unwrap_or_default();
        if is_deleted {
            return of_deleted(&notify, change);
        }
        let mut deeds = of_scripts(&notify, *notice, &change);
        deeds.extend(line(&notify, *notice, &change));
        if notify.mail {
            deeds.extend(self.mail(*notice, &change));
        }
        deeds
    }

    fn mail(&self, notice: Notice, change: &Change) -> Option<Deed> {
        let what = match change.subject {
            Subject::Instance => "instance",
            Subject::Group => "group",
        };
        let body = match notice {
            Notice::Master => format!("This {what} holds its virtual addresses now."),
            Notice::Backup => format!("This {what} stands by; another director is master."),
            Notice::Fault if self.faults => {
                format!("This {what} has a fault and takes no part until it is cleared.")
            }
            Notice::Fault
            | Notice::Stop
            | Notice::MasterRxLowerPriority
            | Notice::MasterPriority
            | Notice::BackupPriority => return None,
        };
        let subject = match change.subject {
            Subject::Instance => instance_subject,
            Subject::Group => group_subject,
        };
        Some(Deed::Mail {
            subject: subject(&self.router_id, &change.name, change.state),
            body: format!("{body}\n"),
        })
    }
}

fn of_scripts(notify: &Notify, notice: Notice, change: &Change) -> Vec<Deed> {
    let (own, any) = match notice {
        Notice::Master => (&notify.master, &notify.any),
        Notice::Backup => (&notify.backup, &notify.any),
        Notice::Fault => (&notify.fault, &notify.any),
        Notice::Stop => (&notify.stop, &notify.any),
        // No new state: `notify` is not told.
        Notice::MasterRxLowerPriority => (&notify.lower_priority, &None),
        Notice::MasterPriority | Notice::BackupPriority => (&None, &None),
    };
    let own = own.iter().cloned().map(|own| Deed::Run(own, Vec::new()));
    own.chain(run_any(any.as_ref(), change)).collect()
}

fn run_any(any: Option<&Command>, change: &Change) -> Option<Deed> {
    any.map(|any| Deed::Run(any.clone(), change.arguments().to_vec()))
}

fn line(notify: &Notify, notice: Notice, change: &Change) -> Option<Deed> {
    let is_written = match notice {
        Notice::MasterPriority | Notice::BackupPriority => notify.priority_changes,
        Notice::Master
        | Notice::Backup
        | Notice::Fault
        | Notice::Stop
        | Notice::MasterRxLowerPriority => true,
    };
    is_written.then(|| Deed::Line(change.to_string()))
}

/// An instance that a reload removed. `notify_fault` and `notify_stop` are not run, as under
/// keepalived 2.2.7.
fn of_deleted(notify: &Notify, mut change: Change) -> Vec<Deed> {
    let mut deeds = Vec::new();
    change.state = match &notify.deleted {
        Deleted::Fault => Notice::Fault.label(),
        Deleted::Named => "DELETED",
        Deleted::Runs(command) => {
            deeds.push(Deed::Run(command.clone(), Vec::new()));
            "DELETED"
        }
    };
    deeds.extend(run_any(notify.any.as_ref(), &change));
    deeds.push(Deed::Line(change.to_string()));
    deeds
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;
    use crate::config::model::{SyncGroup, Trackers, VrrpInstance};

    fn command(line: &str) -> Command {
        Command {
            line: line.to_owned(),
            program: line.to_owned(),
            arguments: Vec::new(),
            user: None,
        }
    }

    fn notify() -> Notify {
        let some = |line| Some(command(line));
        Notify {
            master: some("/master"),
            backup: some("/backup"),
            fault: some("/fault"),
            stop: some("/stop"),
            deleted: Deleted::Fault,
            any: some("/any"),
            lower_priority: some("/lower"),
            priority_changes: false,
            mail: true,
        }
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.global.router_id = Some("LVS_1".to_owned());
        let mut instance = VrrpInstance::new("VI", "eth0", NonZeroU8::MIN);
        instance.notify = notify();
        config.vrrp_instances.push(instance);
        config.sync_groups.push(SyncGroup {
            name: "G".to_owned(),
            members: vec!["VI".to_owned()],
            trackers: Trackers::default(),
            tracking_weight: false,
            notify: notify(),
        });
        config
    }

    fn told(config: &Config) -> Told {
        let mut told = Told::default();
        told.configure(config, "host");
        told
    }

    fn deeds(told: &mut Told, subject: Subject, notice: Notice) -> Vec<String> {
        let name = match subject {
            Subject::Instance => "VI",
            Subject::Group => "G",
        };
        let notification = Notification {
            subject,
            name: name.to_owned(),
            notice,
            priority: 150,
        };
        let deeds = told.deeds(&notification).into_iter();
        let deeds = deeds.map(|deed| match deed {
            Deed::Run(command, more) => [vec![command.line], more].concat().join(" "),
            Deed::Line(line) => line,
            Deed::Mail { subject, .. } => subject,
        });
        deeds.collect()
    }

    #[test]
    fn an_instance_is_told_of_by_script_line_and_mail() {
        let mut told = told(&config());
        let mut of = |notice| deeds(&mut told, Subject::Instance, notice);
        for (notice, script, state) in [
            (Notice::Master, "/master", "MASTER"),
            (Notice::Backup, "/backup", "BACKUP"),
            (Notice::Fault, "/fault", "FAULT"),
        ] {
            let any = format!("/any INSTANCE VI {state} 150");
            let line = format!("INSTANCE \"VI\" {state} 150");
            let mail = format!("[LVS_1] VRRP Instance VI - Entering {state} state");
            assert_eq!(of(notice), [script, &any, &line, &mail]);
        }
        assert_eq!(
            of(Notice::Stop),
            [
                "/stop",
                "/any INSTANCE VI STOP 150",
                "INSTANCE \"VI\" STOP 150"
            ]
        );
        assert_eq!(
            of(Notice::MasterRxLowerPriority),
            ["/lower", "INSTANCE \"VI\" MASTER_RX_LOWER_PRI 150"]
        );
    }

    #[test]
    fn a_group_has_priority_0() {
        assert_eq!(
            deeds(&mut told(&config()), Subject::Group, Notice::Master),
            [
                "/master",
                "/any GROUP G MASTER 0",
                "GROUP \"G\" MASTER 0",
                "[LVS_1] VRRP Group G - Entering MASTER state"
            ]
        );
    }

    #[test]
    fn changes_of_priority_and_mail_about_faults_are_matters_of_taste() {
        let mut config = config();
        let of = |config: &Config, notice| deeds(&mut told(config), Subject::Instance, notice);
        assert!(of(&config, Notice::MasterPriority).is_empty());
        config.vrrp_instances[0].notify.priority_changes = true;
        assert_eq!(
            of(&config, Notice::BackupPriority),
            ["INSTANCE \"VI\" BACKUP_PRIORITY 150"]
        );
        config.global.mail.faults = false;
        assert_eq!(of(&config, Notice::Fault).len(), 3, "no mail");
        assert_eq!(of(&config, Notice::Backup).len(), 4);
        config.global.router_id = None;
        assert_eq!(
            of(&config, Notice::Backup)[3],
            "[host] VRRP Instance VI - Entering BACKUP state"
        );
    }

    #[test]
    fn one_that_a_reload_removes_has_a_fault_or_is_deleted() {
        let fault = ["/any INSTANCE VI FAULT 150", "INSTANCE \"VI\" FAULT 150"];
        let deleted = [
            "/any INSTANCE VI DELETED 150",
            "INSTANCE \"VI\" DELETED 150",
        ];
        let run = [&["/deleted"][..], &deleted].concat();
        for (how, expected) in [
            (Deleted::Fault, &fault[..]),
            (Deleted::Named, &deleted[..]),
            (Deleted::Runs(command("/deleted")), &run),
        ] {
            let mut config = config();
            config.vrrp_instances[0].notify.deleted = how;
            let mut told = told(&config);
            told.configure(&Config::default(), "host");
            assert!(told.knows(Subject::Instance, "VI"));
            // It may still be master for a moment, until somebody took over.
            assert_eq!(
                deeds(&mut told, Subject::Instance, Notice::MasterRxLowerPriority)[0],
                "/lower"
            );
            assert_eq!(deeds(&mut told, Subject::Instance, Notice::Stop), expected);
            assert!(!told.knows(Subject::Instance, "VI"));
        }
    }

    #[test]
    fn whoever_is_not_known_is_told_of_in_the_fifos_only() {
        let mut told = Told::default();
        assert_eq!(
            deeds(&mut told, Subject::Group, Notice::Fault),
            ["GROUP \"G\" FAULT 0"]
        );
    }
}
