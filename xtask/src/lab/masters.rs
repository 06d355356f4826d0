//! Who was master when, as the adverts on the wire tell it.

use std::net::Ipv4Addr;
use std::time::Instant;

use serde::Serialize;
use xdp_lb_tests::adverts::Advert;

/// A time during which one host said to be master.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Reign {
    /// The host.
    pub(crate) host: String,
    /// Seconds from the begin of the run to its first advert.
    pub(crate) from: f64,
    /// Seconds to its last.
    pub(crate) to: f64,
    /// Its priorities, one after the other.
    pub(crate) priorities: Vec<u8>,
    /// Whether it gave up by an advert of priority 0.
    pub(crate) resigned: bool,
}

/// The reigns in these adverts, by their begin. A host that is silent for longer than `silence` seconds
/// is no master any more.
pub(crate) fn reigns(
    adverts: &[Advert],
    origin: Instant,
    hosts: &[(Ipv4Addr, String)],
    silence: f64,
) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    for advert in adverts {
        let Some((_, host)) = hosts.iter().find(|(address, _)| *address == advert.source) else {
            continue;
        };
        let at = advert.at.saturating_duration_since(origin).as_secs_f64();
        let lasts =
            |reign: &&mut Reign| reign.host == *host && !reign.resigned && at - reign.to <= silence;
        match reigns.iter_mut().rev().find(lasts) {
            Some(reign) => {
                reign.to = at;
                if advert.priority == 0 {
                    reign.resigned = true;
                } else if reign.priorities.last() != Some(&advert.priority) {
                    reign.priorities.push(advert.priority);
                }
            }
            None if advert.priority == 0 => {}
            None => reigns.push(Reign {
                host: host.clone(),
                from: at,
                to: at,
                priorities: vec![advert.priority],
                resigned: false,
            }),
        }
    }
    reigns
}

/// The longest time, in seconds, during which two said to be master.
pub(crate) fn longest_overlap(reigns: &[Reign]) -> f64 {
    let pairs = reigns.iter().enumerate().flat_map(|(number, first)| {
        let others = reigns.iter().skip(number + 1);
        others
            .filter(|other| other.host != first.host)
            .map(move |second| first.to.min(second.to) - first.from.max(second.from))
    });
    pairs.fold(0.0, f64::max)
}

/// A line for each reign.
pub(crate) fn rows(reigns: &[Reign]) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["master", "from s", "to s", "priority", "end"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(reigns.iter().map(|reign| {
        let priorities: Vec<_> = reign.priorities.iter().map(u8::to_string).collect();
        let end = if reign.resigned {
            "gave up"
        } else {
            "fell silent"
        };
        vec![
            reign.host.clone(),
            format!("{:.1}", reign.from),
            format!("{:.1}", reign.to),
            priorities.join(" → "),
            end.to_owned(),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(adverts: &[(u64, u8, u8)]) -> Vec<Reign> {
        let origin = Instant::now();
        let hosts = [1, 2].map(|octet| (Ipv4Addr::new(10, 0, 0, octet), format!("d{octet}")));
        let adverts: Vec<_> = adverts
            .iter()
            .map(|&(ms, host, priority)| Advert {
                at: origin + Duration::from_millis(ms),
                source: Ipv4Addr::new(10, 0, 0, host),
                vrid: 51,
                priority,
            })
            .collect();
        reigns(&adverts, origin, &hosts, 3.0)
    }

    #[test]
    fn a_reign_lasts_from_the_first_advert_to_the_last() {
        let found = of(&[
            (0, 1, 101),
            (1000, 1, 101),
            (2000, 1, 99),
            (2100, 2, 100),
            (9000, 1, 101),
        ]);
        let ends: Vec<_> = found
            .iter()
            .map(|reign| (&*reign.host, reign.from, reign.to))
            .collect();
        assert_eq!(ends, [("d1", 0.0, 2.0), ("d2", 2.1, 2.1), ("d1", 9.0, 9.0)]);
        assert_eq!(found[0].priorities, [101, 99]);
        assert!(longest_overlap(&found) <= 0.0);
    }

    #[test]
    fn a_master_that_gives_up_begins_anew() {
        let found = of(&[(0, 1, 101), (500, 1, 0), (600, 1, 0), (1000, 1, 101)]);
        assert_eq!(found.len(), 2);
        assert!(found[0].resigned && !found[1].resigned);
    }

    #[test]
    fn two_masters_overlap() {
        let found = of(&[
            (0, 1, 101),
            (1000, 2, 100),
            (2000, 1, 101),
            (2500, 2, 100),
            (3000, 1, 101),
        ]);
        assert!((longest_overlap(&found) - 1.5).abs() < 1e-9);
    }
}
