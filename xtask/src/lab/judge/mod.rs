//! PASS or FAIL: a pure function of what a run saw.

use crate::lab::check::{Check, check, seconds};
use crate::lab::clients::WebSocket;
use crate::lab::findings::{Findings, Move};

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(set_up(found));
    checks.extend(http(found));
    checks.extend(websockets(found));
    checks.extend(kill(found));
    checks.extend(comeback(found));
    checks.push(direct_reply(found));
    checks.extend(metrics(found));
    checks.extend(found.moves.iter().flat_map(of_move));
    checks.extend(stop(found));
    checks
}

fn set_up(found: &Findings) -> Vec<Check> {
    let mode = found.xdp_mode.as_deref().unwrap_or("no program");
    let faults: Vec<_> = found.setup_errors.values().map(String::as_str).collect();
    let answers = found.vip_mac.as_ref() == Some(&found.director_mac);
    vec![
        check(
            "XDP runs in native mode on the director",
            mode == "native",
            mode,
        ),
        check(
            "real servers are set up (`xdp-lb realserver status`)",
            faults.is_empty(),
            if faults.is_empty() {
                "nothing wrong".to_owned()
            } else {
                faults.join("; ")
            },
        ),
        check(
            "only the director answers ARP for the VIP",
            answers,
            found.vip_mac.as_deref().unwrap_or("nobody answered"),
        ),
    ]
}

fn http(found: &Findings) -> Vec<Check> {
    let run = &found.http;
    let (asked, answered) = (run.connections(), run.answered());
    let servers = [&found.kill.killed, &found.kill.survivor];
    let [first, second] = servers.map(|server| run.sources_of(server).len());
    let [of_first, of_second] = servers.map(|server| run.answered_by(server));
    let sources = run.sources.len();
    vec![
        check(
            "all HTTP requests are answered",
            asked == 1000 && answered == asked,
            format!("{answered} of {asked}"),
        ),
        check(
            "clients are split as wrr 1:1 says",
            first == second && of_first == of_second && first + second == sources,
            format!("{first} + {second} clients, {of_first} + {of_second} requests"),
        ),
        check(
            "every client stays on one server",
            first + second == sources,
            format!("{} of {sources}", first + second),
        ),
    ]
}

fn websockets(found: &Findings) -> Vec<Check> {
    let (killed, survivor) = (&found.kill.killed, &found.kill.survivor);
    let began_on = |server: &str| -> Vec<&WebSocket> {
        let first = |socket: &&WebSocket| socket.servers.first().is_some_and(|name| name == server);
        found.websockets.iter().filter(first).collect()
    };
    let (on_killed, on_survivor) = (began_on(killed), began_on(survivor));
    let all = found.websockets.len();
    let unbroken = on_survivor
        .iter()
        .filter(|socket| socket.broken == 0)
        .count();
    let moved = [killed.clone(), survivor.clone()];
    let landed = on_killed
        .iter()
        .filter(|socket| socket.servers == moved)
        .count();
    let sum = |of: fn(&WebSocket) -> u64| found.websockets.iter().map(of).sum::<u64>();
    let (sent, echoed) = (sum(|socket| socket.sent), sum(|socket| socket.echoed));
    let (wrong, broken) = (sum(|socket| socket.wrong), sum(|socket| socket.broken));
    let slowest = found
        .websockets
        .iter()
        .map(|socket| socket.slowest)
        .fold(0.0, f64::max);
    vec![
        check(
            "WebSockets are split as wrr 1:1 says",
            all == 20 && on_killed.len() == 10 && on_survivor.len() == 10,
            format!("{} + {} of {all}", on_killed.len(), on_survivor.len()),
        ),
        check(
            format!("WebSockets on {survivor} never break"),
            unbroken == on_survivor.len() && unbroken > 0,
            format!("{unbroken} of {} unbroken", on_survivor.len()),
        ),
        check(
            format!("WebSockets on {killed} reconnect and land on {survivor}"),
            landed == on_killed.len() && landed > 0,
            format!("{landed} of {}", on_killed.len()),
        ),
        check(
            "every message comes back from its connection's server",
            // Each break may take the message that is on its way.
            wrong == 0 && sent > 0 && echoed + broken >= sent,
            format!(
                "{echoed} of {sent}, {wrong} wrong, {broken} connections broke, slowest {:.0} ms",
                slowest * 1000.0
            ),
        ),
    ]
}

fn kill(found: &Findings) -> Vec<Check> {
    let kill = &found.kill;
    let (killed, survivor, bound) = (&kill.killed, &kill.survivor, kill.bound);
    let moved = kill.moved.longest_outage();
    let others = &kill.bystanders;
    let outages = || {
        found
            .websockets
            .iter()
            .flat_map(|socket| &socket.outages)
            .copied()
    };
    let sockets = outages().reduce(f64::max);
    let undisturbed = others.answered_by(survivor);
    vec![
        check(
            format!("{killed} leaves the tables within {bound:.0} s"),
            kill.listed_down.is_some_and(|took| took <= bound),
            format!("{}; {}", seconds(kill.listed_down), kill.bound_explained),
        ),
        check(
            format!("requests of {killed}'s clients reach {survivor} within {bound:.0} s"),
            moved.is_some_and(|took| took <= bound),
            format!(
                "{} clients, longest outage {}",
                kill.moved.sources.len(),
                seconds(moved)
            ),
        ),
        check(
            format!("WebSockets of {killed} are open again within {bound:.0} s"),
            sockets.is_some_and(|took| took <= bound),
            format!(
                "{} connections, longest outage {}",
                outages().count(),
                seconds(sockets)
            ),
        ),
        check(
            format!("clients of {survivor} notice nothing"),
            undisturbed == others.connections() && undisturbed > 0,
            format!(
                "{undisturbed} of {} requests answered",
                others.connections()
            ),
        ),
    ]
}

fn comeback(found: &Findings) -> Vec<Check> {
    let (killed, survivor) = (&found.kill.killed, &found.kill.survivor);
    let comeback = &found.comeback;
    let again = &comeback.moved_again;
    let stayed = again.sources_of(survivor).len();
    let new = &comeback.newcomers;
    let split = [killed, survivor].map(|server| new.sources_of(server).len());
    let [to_killed, to_survivor] = split;
    vec![
        check(
            format!(
                "{killed} is back in the tables within {:.0} s of its start",
                comeback.bound
            ),
            comeback
                .listed_up
                .is_some_and(|took| took <= comeback.bound),
            seconds(comeback.listed_up),
        ),
        check(
            format!("clients that moved to {survivor} stay there"),
            stayed == again.sources.len() && stayed > 0,
            format!("{stayed} of {}", again.sources.len()),
        ),
        check(
            "newcomers are split over both again",
            to_killed == to_survivor
                && to_killed + to_survivor == new.sources.len()
                && to_killed > 0,
            format!("{to_killed} + {to_survivor} clients"),
        ),
    ]
}

fn direct_reply(found: &Findings) -> Check {
    let frames = &found.frames;
    check(
        "replies go to the client directly: none passes the director",
        // The counter at the client's port shows that the same count sees replies at all.
        frames.replies_to_director == 0 && frames.replies_to_client > 0,
        format!(
            "{} frames from servers to the client, {} of them to the director",
            frames.replies_to_client, frames.replies_to_director
        ),
    )
}

fn metrics(found: &Findings) -> Vec<Check> {
    let scrape = &found.scrape;
    let mut checks = vec![agreement(
        "/metrics agrees with the clients: connections of the service",
        scrape.connections,
        found.connections(),
    )];
    for server in [&found.kill.killed, &found.kill.survivor] {
        checks.push(agreement(
            format!("/metrics agrees with the clients: connections of {server}"),
            scrape.server_connections.get(server).copied(),
            found.connections_to(server),
        ));
    }
    checks.push(agreement(
        "/metrics agrees with the switch: packets sent on to servers",
        scrape.packets,
        found.frames.from_director,
    ));
    checks
}

/// Exact: every connection has a port of its own, so none is counted twice, and none is lost.
fn agreement(what: impl Into<String>, counted: Option<f64>, seen: u64) -> Check {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a lab has fewer than 2^52 packets"
    )]
    let equal = counted.is_some_and(|counted| (counted - seen as f64).abs() < 0.5);
    let counted = counted.map_or_else(|| "no such metric".to_owned(), |value| value.to_string());
    check(
        what,
        equal && seen > 0,
        format!("{counted} counted, {seen} seen"),
    )
}

fn of_move(seen: &Move) -> [Check; 2] {
    let (cause, bound) = (&seen.cause, seen.bound * 1000.0);
    [
        check(
            format!("{cause}: one is master"),
            seen.settled,
            format!("after {}", seconds(seen.moved)),
        ),
        check(
            format!("{cause}: the VIP is dark for {bound:.0} ms at most"),
            seen.dark <= seen.bound,
            format!("{:.0} ms", seen.dark * 1000.0),
        ),
    ]
}

fn stop(found: &Findings) -> Option<Check> {
    let stop = found.stop.as_ref()?;
    let left = if stop.left.is_empty() {
        "nothing".to_owned()
    } else {
        stop.left.join(", ")
    };
    Some(check(
        "SIGTERM ends the agent and leaves no address, program or pin",
        stop.success && stop.left.is_empty(),
        format!("{}, left: {left}", stop.status),
    ))
}

#[cfg(test)]
mod tests;
