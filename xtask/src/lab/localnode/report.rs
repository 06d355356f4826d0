//! The report.

use serde_json::Value;

use super::findings::{Findings, Phase};
use crate::lab::check::{Check, seconds};
use crate::lab::clients::HttpRun;
use crate::lab::masters;
use crate::lab::page::{self, Page, table};
use crate::lab::pair::NAMES;

/// For machines.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("localnode", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let intro = format!(
        "Seed 001: its file on director2 unchanged, on director1 with state MASTER and priority 100; \
         directors run {}.",
        found.program
    );
    let page = Page {
        scenario: "localnode",
        intro: &intro,
        steps: &found.steps,
        log: &found.log,
    };
    let sections = [
        (
            "Who was master",
            table("lrrll", masters::rows(&found.reigns)),
        ),
        ("Who got what", who_got_what(found)),
        ("What was seen", seen(found)),
    ];
    page.text(sections, checks)
}

fn who_got_what(found: &Findings) -> String {
    let header = [
        "when",
        "clients",
        NAMES[0],
        NAMES[1],
        "failed",
        "frames",
        "sent on by 1",
        "by 2",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let phases = [
        ("one master", &found.one),
        ("both are, director1 is asked", &found.both[0]),
        ("both are, director2 is asked", &found.both[1]),
        ("director1 is back", &found.power.again),
    ];
    for (
        name,
        Phase {
            http,
            from_client,
            from_directors: [first, second],
        },
    ) in phases
    {
        let frames = [from_client, first, second].map(u64::to_string);
        rows.push(of_run(name, http).into_iter().chain(frames).collect());
    }
    rows.insert(4, of_run("director1 is without power", &found.power.alone));
    table("lrrrrrrr", rows)
}

fn of_run(name: &str, run: &HttpRun) -> Vec<String> {
    let [first, second] = NAMES.map(|name| run.answered_by(name));
    let counts = [run.sources.len() as u64, first, second, run.failed()];
    let counts = counts.map(|count| count.to_string());
    std::iter::once(name.to_owned()).chain(counts).collect()
}

fn seen(found: &Findings) -> String {
    let rows = [
        (
            "VIP dark after both were master",
            format!("{:.0} ms", found.healed_dark * 1000.0),
        ),
        (
            "nginx started again by the script",
            seconds(found.monitor.restarted),
        ),
        (
            "VIP moved where it could not",
            seconds(found.monitor.gave_up),
        ),
        (
            "director2 master after power loss",
            seconds(found.power.taken_over),
        ),
        ("VIP dark meanwhile", format!("{:.2} s", found.power.dark)),
        (
            "director1's nginx out of the table",
            seconds(found.power.removed),
        ),
        (
            "director1 master after power",
            seconds(found.power.returned),
        ),
    ];
    table("lr", rows.map(|(what, value)| vec![what.to_owned(), value]))
}
