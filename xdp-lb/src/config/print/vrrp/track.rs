//! What is tracked, and by whom; groups.

use super::notify;
use crate::config::model::{
    Config, MatchArguments, Script, TrackFile, TrackProcess, Tracked, Trackers, Weight,
};
use crate::config::print::{Writer, seconds, word};

/// Scripts, files and processes.
pub(super) fn objects(writer: &mut Writer, config: &Config) {
    for object in &config.scripts {
        let head = format!("vrrp_script {}", word(&object.name));
        writer.block(&head, |writer| script(writer, object));
    }
    for object in &config.track_files {
        let head = format!("track_file {}", word(&object.name));
        writer.block(&head, |writer| file(writer, object));
    }
    for object in &config.track_processes {
        let head = format!("vrrp_track_process {}", word(&object.name));
        writer.block(&head, |writer| process(writer, object));
    }
}

fn script(writer: &mut Writer, script: &Script) {
    let Script {
        name: _,
        command,
        interval,
        timeout,
        weight,
        fall,
        rise,
        starts_failed,
    } = script;
    writer.command("script", Some(command));
    writer.line(format_args!("interval {}", seconds(*interval)));
    writer.line(format_args!("timeout {}", seconds(*timeout)));
    writer.line(format_args!("weight {}", number(*weight)));
    writer.line(format_args!("fall {fall}"));
    writer.line(format_args!("rise {rise}"));
    writer.flag("init_fail", *starts_failed);
}

fn file(writer: &mut Writer, file: &TrackFile) {
    let TrackFile {
        name: _,
        path,
        weight,
        initial,
    } = file;
    writer.line(format_args!("file {}", word(&path.to_string_lossy())));
    writer.line(format_args!("weight {}", number(*weight)));
    if let Some(initial) = initial {
        let overwrite = if initial.overwrite { " overwrite" } else { "" };
        writer.line(format_args!("init_file {}{overwrite}", initial.value));
    }
}

fn process(writer: &mut Writer, process: &TrackProcess) {
    let TrackProcess {
        name: _,
        process: words,
        arguments,
        full_command,
        weight,
        quorum,
        quorum_max,
        fork_delay,
        terminate_delay,
    } = process;
    let words: Vec<String> = words.iter().map(|text| word(text)).collect();
    writer.line(format_args!("process {}", words.join(" ")));
    match arguments {
        MatchArguments::Exact => {}
        MatchArguments::Initial => writer.line("param_match initial"),
        MatchArguments::Partial => writer.line("param_match partial"),
    }
    writer.flag("full_command", *full_command);
    writer.line(format_args!("weight {}", number(*weight)));
    writer.optional("quorum", (*quorum != 0).then_some(quorum));
    writer.optional("quorum_max", *quorum_max);
    for (keyword, delay) in [
        ("fork_delay", fork_delay),
        ("terminate_delay", terminate_delay),
    ] {
        if !delay.is_zero() {
            writer.line(format_args!("{keyword} {}", seconds(*delay)));
        }
    }
}

fn number(weight: Weight) -> String {
    let reverse = if weight.reverse { " reverse" } else { "" };
    format!("{}{reverse}", weight.value)
}

/// `track_…` blocks. A use says its weight where it is not that of the object.
pub(super) fn trackers(writer: &mut Writer, trackers: &Trackers, config: &Config) {
    let Trackers {
        interfaces,
        scripts,
        files,
        processes,
    } = trackers;
    uses(writer, "track_interface", interfaces, |_| Weight::default());
    uses(writer, "track_script", scripts, |name| {
        let found = config.scripts.iter().find(|object| object.name == name);
        found.map_or_else(Weight::default, |object| object.weight)
    });
    uses(writer, "track_file", files, |name| {
        let found = config.track_files.iter().find(|object| object.name == name);
        found.map_or_else(Weight::default, |object| object.weight)
    });
    uses(writer, "track_process", processes, |name| {
        let mut found = config.track_processes.iter();
        let found = found.find(|object| object.name == name);
        found.map_or_else(Weight::default, |object| object.weight)
    });
}

fn uses(writer: &mut Writer, block: &str, uses: &[Tracked], own: impl Fn(&str) -> Weight) {
    writer.block_if_any(block, |writer| {
        for Tracked { name, weight } in uses {
            let own = own(name);
            let options = if *weight == own {
                String::new()
            } else if own.reverse && !weight.reverse {
                format!(" weight {} noreverse", weight.value)
            } else {
                format!(" weight {}", number(*weight))
            };
            writer.line(format_args!("{}{options}", word(name)));
        }
    });
}

/// Groups, which stand below their members.
pub(super) fn groups(writer: &mut Writer, config: &Config) {
    for group in &config.sync_groups {
        let head = format!("vrrp_sync_group {}", word(&group.name));
        writer.block(&head, |writer| {
            members(writer, &group.members);
            trackers(writer, &group.trackers, config);
            writer.flag("sync_group_tracking_weight", group.tracking_weight);
            notify(writer, &group.notify);
        });
    }
    for group in &config.track_groups {
        let head = format!("track_group {}", word(&group.name));
        writer.block(&head, |writer| members(writer, &group.members));
    }
}

fn members(writer: &mut Writer, members: &[String]) {
    writer.block("group", |writer| {
        for member in members {
            writer.line(word(member));
        }
    });
}
