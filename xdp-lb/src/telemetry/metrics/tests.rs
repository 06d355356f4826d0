use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use xdp_lb_common::reason::{Event, Reason};

use super::*;
use crate::control::sample;
use crate::vrrp::packet::refusal::Kind;

/// A scrape, read by rules of the text format that are strict where ours could go wrong.
#[derive(Debug, Default)]
struct Scrape {
    /// Type by family.
    types: BTreeMap<String, String>,
    /// Value by family, suffix and labels as written.
    samples: BTreeMap<String, f64>,
    /// Label names by family.
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut scrape = Self::default();
        let mut helped = None;
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(helped.take().as_deref(), Some(name), "help before type");
                name.clone_into(&mut family);
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} is there twice");
            } else {
                scrape.sample(&family, line);
            }
        }
        scrape
    }

    fn sample(&mut self, family: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line} in {family}"));
        match self.types[family].as_str() {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix)),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        let known = self.labels.entry(family.to_owned()).or_default();
        known.extend(labels.split("\",").filter_map(|label| {
            let name = label.split_once("=\"")?.0;
            (name != "le").then(|| name.to_owned())
        }));
        let before = self
            .samples
            .insert(series.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{series} is there twice");
    }

    #[track_caller]
    fn is(&self, series: &str, value: f64) {
        let found = self.samples.get(series);
        assert!(
            found.is_some_and(|found| (found - value).abs() < 1e-9),
            "{series} is {found:?} and not {value}"
        );
    }
}

fn scrape() -> Scrape {
    let health = HealthMetrics::new();
    health.observe(CheckResult::Success, Duration::from_millis(2));
    health
        .clone()
        .observe(CheckResult::Success, Duration::from_millis(20));
    health.observe(CheckResult::Timeout, Duration::from_secs(3));
    let snapshot = Arc::new(sample::snapshot());
    Scrape::parse(&encode(&snapshot, &health, Format::Text).unwrap())
}

#[test]
fn a_scrape_holds_exactly_the_documented_metrics_with_their_labels() {
    let scrape = scrape();
    let documented: BTreeMap<String, String> = table::ALL
        .iter()
        .map(|metric| (metric.sample_name(), metric.kind.name().to_owned()))
        .collect();
    assert_eq!(scrape.types, documented);
    for metric in table::ALL {
        let labels: BTreeSet<String> = metric.labels.iter().map(|&l| l.to_owned()).collect();
        assert_eq!(
            scrape.labels[&metric.sample_name()],
            labels,
            "{}",
            metric.name
        );
    }
}

#[test]
fn values_come_from_the_snapshot() {
    let scrape = scrape();
    let web = "service=\"tcp/10.1.0.100:80\"";
    scrape.is("xdp_lb_build_info{version=\"0.1.0\"}", 1.0);
    scrape.is("xdp_lb_uptime_seconds", 11520.5);
    scrape.is(
        "xdp_lb_xdp_attached{interface=\"eth1\",mode=\"generic\"}",
        1.0,
    );
    scrape.is(&format!("xdp_lb_service_connections_total{{{web}}}"), 4.0);
    scrape.is(&format!("xdp_lb_service_packets_total{{{web}}}"), 18.0);
    scrape.is(&format!("xdp_lb_service_bytes_total{{{web}}}"), 968.0);
    scrape.is(&format!("xdp_lb_service_active{{{web}}}"), 1.0);
    scrape.is(
        "xdp_lb_service_active{service=\"tcp/192.168.1.200:80\"}",
        0.0,
    );
    let server = |name: &str, last: &str, value| {
        let series = format!("xdp_lb_real_server_{name}{{{web},real_server=\"10.1.0.{last}:80\"}}");
        scrape.is(&series, value);
    };
    server("connections_total", "11", 2.0);
    server("bytes_total", "12", 432.0);
    server("weight", "11", 2.0);
    server("active_connections", "12", 1.0);
    server("inactive_connections", "11", 2.0);
    server("up", "11", 1.0);
    server("up", "12", 1.0);
    server("up", "13", 0.0);
    server("up", "14", 0.0);
    scrape.is("xdp_lb_map_capacity{map=\"connections\"}", 4096.0);
    scrape.is("xdp_lb_map_entries{map=\"connections\"}", 4.0);
}

#[test]
fn every_reason_event_and_vrrp_state_has_a_series_also_at_zero() {
    let scrape = scrape();
    let count = |prefix: &str| {
        scrape
            .samples
            .keys()
            .filter(|k| k.starts_with(prefix))
            .count()
    };
    assert_eq!(count("xdp_lb_packets_total{"), Reason::ALL.len());
    assert_eq!(count("xdp_lb_events_total{"), Event::ALL.len());
    scrape.is("xdp_lb_packets_total{reason=\"no_service\"}", 30.0);
    scrape.is("xdp_lb_packets_total{reason=\"malformed\"}", 0.0);
    scrape.is("xdp_lb_events_total{event=\"evicted\"}", 3.0);
    for (name, is) in [("VI_1", "MASTER"), ("VI_2", "BACKUP"), ("VI_3", "FAULT")] {
        for state in ["INIT", "BACKUP", "MASTER", "FAULT"] {
            let labels = format!("instance_name=\"{name}\",state=\"{state}\"");
            let value = if state == is { 1.0 } else { 0.0 };
            scrape.is(&format!("xdp_lb_vrrp_state{{{labels}}}"), value);
        }
    }
}

#[test]
fn vrrp_is_counted_by_instance_and_every_reason_is_there_also_at_zero() {
    let scrape = scrape();
    let of = |name: &str, more: &str, value| {
        let series = format!("xdp_lb_vrrp_{name}{{instance_name=\"VI_1\"{more}}}");
        scrape.is(&series, value);
    };
    of("priority", "", 99.0);
    of("base_priority", "", 101.0);
    of("state_age_seconds", "", 11_516.89);
    of("transitions_total", "", 2.0);
    of("became_master_total", "", 1.0);
    of("adverts_sent_total", "", 11_520.0);
    of("adverts_received_total", "", 12.0);
    of("priority_zero_sent_total", "", 1.0);
    of("priority_zero_received_total", "", 0.0);
    of("other_masters_total", "", 4.0);
    of("late_total", "", 1.0);
    let differences = "advert_differences_total";
    of(differences, ",difference=\"address_list\"", 2.0);
    of(differences, ",difference=\"interval\"", 1.0);
    of("advert_errors_total", ",reason=\"auth_data\"", 12.0);
    of("advert_errors_total", ",reason=\"ttl\"", 2.0);
    of("advert_errors_total", ",reason=\"checksum\"", 0.0);
    let errors = "xdp_lb_vrrp_advert_errors_total{";
    let errors = scrape.samples.keys().filter(|k| k.starts_with(errors));
    assert_eq!(errors.count(), 3 * Kind::ALL.len());
}

#[test]
fn without_an_election_there_is_the_state_and_nothing_that_is_not_known() {
    let mut parts = sample::parts();
    parts.vrrp.clear();
    let snapshot = Arc::new(Snapshot::build(&parts.inputs()));
    let text = encode(&snapshot, &HealthMetrics::new(), Format::Text).unwrap();
    let scrape = Scrape::parse(&text);
    scrape.is(
        "xdp_lb_vrrp_state{instance_name=\"VI_1\",state=\"MASTER\"}",
        1.0,
    );
    scrape.is("xdp_lb_vrrp_base_priority{instance_name=\"VI_1\"}", 100.0);
    let unknown = |series: &&String| series.starts_with("xdp_lb_vrrp_priority");
    assert_eq!(scrape.samples.keys().find(unknown), None);
}

#[test]
fn an_instance_that_is_about_to_leave_is_no_second_series() {
    let mut parts = sample::parts();
    parts.config.vrrp_instances[0].virtual_router_id = 61;
    let snapshot = Arc::new(Snapshot::build(&parts.inputs()));
    assert_eq!(snapshot.vrrp_instances.len(), 4);
    let text = encode(&snapshot, &HealthMetrics::new(), Format::Text).unwrap();
    // Which refuses what is there twice.
    let scrape = Scrape::parse(&text);
    scrape.is(
        "xdp_lb_vrrp_state{instance_name=\"VI_1\",state=\"INIT\"}",
        1.0,
    );
}

#[test]
fn health_checks_are_counted_across_clones_and_all_results_are_there_from_the_start() {
    let scrape = scrape();
    scrape.is("xdp_lb_health_checks_total{result=\"success\"}", 2.0);
    scrape.is("xdp_lb_health_checks_total{result=\"failure\"}", 0.0);
    scrape.is("xdp_lb_health_checks_total{result=\"timeout\"}", 1.0);
    scrape.is("xdp_lb_health_check_duration_seconds_count", 3.0);
    scrape.is("xdp_lb_health_check_duration_seconds_sum", 3.022);
    scrape.is(
        "xdp_lb_health_check_duration_seconds_bucket{le=\"0.0025\"}",
        1.0,
    );
    scrape.is(
        "xdp_lb_health_check_duration_seconds_bucket{le=\"+Inf\"}",
        3.0,
    );
}

#[test]
fn a_director_without_services_is_a_valid_scrape() {
    let snapshot = Arc::new(Snapshot::build(&sample::Parts::default().inputs()));
    let text = encode(&snapshot, &HealthMetrics::new(), Format::Text).unwrap();
    Scrape::parse(&text).is("xdp_lb_build_info{version=\"0.1.0\"}", 1.0);
}

#[test]
fn openmetrics_names_counters_without_their_suffix_and_ends() {
    let snapshot = Arc::new(sample::snapshot());
    let text = encode(&snapshot, &HealthMetrics::new(), Format::OpenMetrics).unwrap();
    assert!(text.contains("# TYPE xdp_lb_packets counter\nxdp_lb_packets_total{"));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_client_chooses_the_format() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
    assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
    assert_eq!(Format::accepted(Some("*/*")), Format::Text);
    assert_eq!(Format::accepted(None), Format::Text);
}

/// The judge of the format itself, where it is installed; continuous integration sets
/// `XDP_LB_REQUIRE_PROMTOOL` so that it is never left out there.
#[test]
fn promtool_finds_nothing_to_say() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let snapshot = Arc::new(sample::snapshot());
    let text = encode(&snapshot, &HealthMetrics::new(), Format::Text).unwrap();
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match started {
        Ok(promtool) => promtool,
        Err(error) => {
            let required = std::env::var_os("XDP_LB_REQUIRE_PROMTOOL").is_some();
            assert!(!required, "promtool does not start: {error}");
            eprintln!("left out: promtool is not installed (Debian package prometheus)");
            return;
        }
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

proptest! {
    /// Names from a configuration can hold anything; no sample may break out of its line or label.
    #[test]
    fn any_name_stays_inside_its_label(name in any::<String>()) {
        let mut parts = sample::parts();
        parts.config.vrrp_instances.truncate(1);
        parts.vrrp.truncate(1);
        name.clone_into(&mut parts.config.vrrp_instances[0].name);
        name.clone_into(&mut parts.vrrp[0].name);
        let snapshot = Arc::new(Snapshot::build(&parts.inputs()));
        let text = encode(&snapshot, &HealthMetrics::new(), Format::Text).unwrap();
        let ours: Vec<&str> =
            text.split('\n').filter(|line| line.starts_with("xdp_lb_vrrp_state{")).collect();
        prop_assert_eq!(ours.len(), 4);
        for line in &ours {
            prop_assert!(line.ends_with("\"} 0") || line.ends_with("\"} 1"), "{}", line);
        }
        // A newline that got out would be a line more.
        let lines = text.split('\n').count();
        "VI_1".clone_into(&mut parts.config.vrrp_instances[0].name);
        "VI_1".clone_into(&mut parts.vrrp[0].name);
        let plain = Arc::new(Snapshot::build(&parts.inputs()));
        let plain = encode(&plain, &HealthMetrics::new(), Format::Text).unwrap();
        prop_assert_eq!(lines, plain.split('\n').count());
    }
}
