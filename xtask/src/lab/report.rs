//! The report: the same findings for people and for machines.

use serde_json::Value;

use super::check::{Check, seconds};
use super::clients::HttpRun;
use super::findings::Findings;
use super::masters;
use super::page::{self, Page, indented, table};

/// For machines: the findings, the verdicts and the verdict.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("websocket", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let sections = [
        ("Cluster", hosts(found)),
        ("Who got what", who_got_what(found)),
        ("WebSockets", websockets(found)),
        ("Packets", packets(found)),
        (
            "Who was master",
            table("lrrll", masters::rows(&found.reigns)),
        ),
        ("How the VIP moved", moves(found)),
        ("xdp-lb list", indented(&found.list)),
    ];
    let intro = format!("Seed 004, {}, used unchanged.", found.configuration);
    let page = Page {
        scenario: "websocket",
        intro: &intro,
        steps: &found.steps,
        log: &found.log,
    };
    page.text(sections, checks)
}

fn hosts(found: &Findings) -> String {
    let mode = found.xdp_mode.as_deref().unwrap_or("not attached");
    let rows = found.hosts.iter().map(|host| {
        let mut role = host.role.clone();
        if host.name.starts_with("director") {
            role = format!("{role}, XDP {mode} on eth0");
        }
        vec![host.name.clone(), host.address.clone(), role]
    });
    table("lll", rows)
}

fn who_got_what(found: &Findings) -> String {
    let servers = [&found.kill.killed, &found.kill.survivor];
    let mut rows = vec![vec![
        "requests".to_owned(),
        "clients".to_owned(),
        servers[0].clone(),
        servers[1].clone(),
        "failed".to_owned(),
        "s".to_owned(),
    ]];
    let named: [(String, &HttpRun); 5] = [
        ("the first 1,000".to_owned(), &found.http),
        (
            format!("clients of {}, as it dies", servers[0]),
            &found.kill.moved,
        ),
        (
            format!("clients of {}, meanwhile", servers[1]),
            &found.kill.bystanders,
        ),
        (
            format!("those that moved, after {} is back", servers[0]),
            &found.comeback.moved_again,
        ),
        ("newcomers".to_owned(), &found.comeback.newcomers),
    ];
    rows.extend(named.into_iter().map(|(name, run)| {
        let mut row = vec![name, run.sources.len().to_string()];
        row.extend(servers.map(|server| run.answered_by(server).to_string()));
        row.extend([run.failed().to_string(), format!("{:.1}", run.seconds)]);
        row
    }));
    let note = "A dying server's clients ask ten times a second; until its check has failed often \
                enough, they are refused.";
    format!("{}  {note}\n{}", table("lrrrrr", rows), errors(found))
}

/// What failed requests failed of, one line per group of clients.
fn errors(found: &Findings) -> String {
    let runs = found.http_runs().into_iter().map(HttpRun::errors);
    let lines: Vec<_> = runs.filter(|errors| !errors.is_empty()).collect();
    indented(&lines.join("\n"))
}

fn websockets(found: &Findings) -> String {
    let header = [
        "client",
        "servers",
        "broken",
        "outage s",
        "attempts",
        "sent",
        "echoed",
        "slowest ms",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.websockets.iter().map(|socket| {
        let outages: Vec<_> = socket
            .outages
            .iter()
            .map(|took| format!("{took:.1}"))
            .collect();
        vec![
            socket.source.clone(),
            socket.servers.join(" → "),
            socket.broken.to_string(),
            outages.join(" "),
            socket.connections.to_string(),
            socket.sent.to_string(),
            socket.echoed.to_string(),
            format!("{:.0}", socket.slowest * 1000.0),
        ]
    }));
    table("llrrrrrr", rows)
}

fn moves(found: &Findings) -> String {
    let header = ["cause", "after", "VIP dark"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.moves.iter().map(|seen| {
        let dark = format!("{:.0} ms", seen.dark * 1000.0);
        vec![seen.cause.clone(), seconds(seen.moved), dark]
    }));
    table("lrr", rows)
}

fn packets(found: &Findings) -> String {
    let frames = &found.frames;
    let rows = [
        ("frames from the client to the director", frames.to_director),
        ("frames from the director to servers", frames.from_director),
        (
            "frames from servers to the client",
            frames.replies_to_client,
        ),
        (
            "frames from servers to the director",
            frames.replies_to_director,
        ),
    ];
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(what, count)| vec![what.to_owned(), count.to_string()])
        .collect();
    rows.extend(found.scrape.reasons.iter().map(|(reason, count)| {
        vec![
            format!("xdp_lb_packets_total{{reason=\"{reason}\"}}"),
            count.to_string(),
        ]
    }));
    table("lr", rows)
}
