//! Fills the metrics from a snapshot.

use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::table::{self, Kind, Metric};
use super::{sync, vrrp};
use crate::control::Snapshot;
use crate::control::snapshot::{RealServer, ServerState, Service};

/// A snapshot as a source of metrics.
#[derive(Debug)]
pub(super) struct SnapshotCollector(pub(super) Arc<Snapshot>);

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = &*self.0;
        encode_agent(&mut encoder, snapshot)?;
        vrrp::encode(&mut encoder, &snapshot.vrrp_instances)?;
        encode_services(&mut encoder, &snapshot.services)?;
        encode_real_servers(&mut encoder, &snapshot.services)?;
        sync::encode(&mut encoder, snapshot.sync.as_ref())?;
        encode_program(&mut encoder, snapshot)
    }
}

fn encode_agent(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let mut family = Family::begin(encoder, &table::BUILD_INFO)?;
    family.gauge(&[("version", snapshot.version.as_str())], 1)?;

    let mut family = Family::begin(encoder, &table::UPTIME)?;
    family.seconds(snapshot.uptime_ms)?;

    let mut family = Family::begin(encoder, &table::XDP_ATTACHED)?;
    for interface in &snapshot.interfaces {
        let labels = [
            ("interface", interface.name.as_str()),
            ("mode", interface.mode.name()),
        ];
        family.gauge(&labels, 1)?;
    }
    Ok(())
}

/// A metric and how to read it off a service or a real server.
type ValueOf<T> = (&'static Metric, fn(&T) -> u64);

fn encode_services(encoder: &mut DescriptorEncoder<'_>, services: &[Service]) -> Result<(), Error> {
    let values: [ValueOf<Service>; 9] = [
        (&table::SERVICE_ACTIVE, |s| u64::from(s.active)),
        (&table::SERVICE_QUORUM, |s| u64::from(s.has_quorum)),
        (&table::SERVICE_LIVE_WEIGHT, |s| s.live_weight),
        (&table::SERVICE_SORRY, |s| u64::from(s.is_sorry)),
        (&table::SERVICE_CONNECTIONS, |s| s.traffic.conns),
        (&table::SERVICE_PACKETS, |s| s.traffic.in_packets),
        (&table::SERVICE_BYTES, |s| s.traffic.in_bytes),
        (&table::SERVICE_REPLY_PACKETS, |s| s.traffic.out_packets),
        (&table::SERVICE_REPLY_BYTES, |s| s.traffic.out_bytes),
    ];
    for (metric, value) in values {
        let mut family = Family::begin(encoder, metric)?;
        for service in services {
            family.sample(&[("service", service.label())], value(service))?;
        }
    }
    Ok(())
}

fn encode_real_servers(
    encoder: &mut DescriptorEncoder<'_>,
    services: &[Service],
) -> Result<(), Error> {
    let values: [ValueOf<RealServer>; 11] = [
        (&table::REAL_SERVER_UP, |s| {
            u64::from(s.state != ServerState::Down)
        }),
        (&table::REAL_SERVER_WEIGHT, |s| u64::from(s.weight)),
        (&table::REAL_SERVER_OVERRIDDEN, |s| {
            u64::from(s.overridden.is_some())
        }),
        (&table::REAL_SERVER_ACTIVE, |s| s.active_conns),
        (&table::REAL_SERVER_INACTIVE, |s| s.inactive_conns),
        (&table::REAL_SERVER_TEMPLATES, |s| s.persistent_conns),
        (&table::REAL_SERVER_CONNECTIONS, |s| s.traffic.conns),
        (&table::REAL_SERVER_PACKETS, |s| s.traffic.in_packets),
        (&table::REAL_SERVER_BYTES, |s| s.traffic.in_bytes),
        (&table::REAL_SERVER_REPLY_PACKETS, |s| s.traffic.out_packets),
        (&table::REAL_SERVER_REPLY_BYTES, |s| s.traffic.out_bytes),
    ];
    for (metric, value) in values {
        let mut family = Family::begin(encoder, metric)?;
        for service in services {
            let name = service.label();
            for server in &service.real_servers {
                let labels = [("service", name.clone()), ("real_server", server.label())];
                family.sample(&labels, value(server))?;
            }
        }
    }
    Ok(())
}

fn encode_program(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let mut family = Family::begin(encoder, &table::PACKETS)?;
    for exit in &snapshot.packets {
        family.sample(&[("reason", exit.reason.as_str())], exit.packets)?;
    }
    let mut family = Family::begin(encoder, &table::EVENTS)?;
    for event in &snapshot.events {
        family.sample(&[("event", event.event.as_str())], event.count)?;
    }
    let mut family = Family::begin(encoder, &table::MAP_ENTRIES)?;
    for map in &snapshot.tables {
        family.sample(&[("map", map.name.as_str())], map.entries)?;
    }
    let mut family = Family::begin(encoder, &table::MAP_CAPACITY)?;
    for map in &snapshot.tables {
        family.sample(&[("map", map.name.as_str())], map.capacity)?;
    }
    Ok(())
}

/// A metric family that samples are added to.
pub(super) struct Family<'a> {
    encoder: MetricEncoder<'a>,
    kind: Kind,
}

impl<'a> Family<'a> {
    pub(super) fn begin(
        encoder: &'a mut DescriptorEncoder<'_>,
        metric: &'a Metric,
    ) -> Result<Self, Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        Ok(Self {
            encoder: encoder.encode_descriptor(metric.name, metric.help, None, kind)?,
            kind: metric.kind,
        })
    }

    /// Adds a sample of the family's kind; histograms are not made from snapshots.
    pub(super) fn sample(&mut self, labels: &impl EncodeLabelSet, value: u64) -> Result<(), Error> {
        match self.kind {
            Kind::Counter => {
                let encoder = self.encoder.encode_family(labels)?;
                ConstCounter::new(value).encode(encoder)
            }
            Kind::Gauge => self.gauge(labels, value),
            Kind::Histogram => Err(Error),
        }
    }

    fn gauge(&mut self, labels: &impl EncodeLabelSet, value: u64) -> Result<(), Error> {
        let encoder = self.encoder.encode_family(labels)?;
        // The encoder's gauges are signed; nothing that is counted here comes near.
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    }

    /// Adds a sample without labels to a gauge.
    pub(super) fn plain(&mut self, value: u64) -> Result<(), Error> {
        self.encoder
            .encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn seconds(&mut self, milliseconds: u64) -> Result<(), Error> {
        self.encoder.encode_gauge(&seconds(milliseconds))
    }

    /// As [`Self::seconds`], with labels.
    pub(super) fn seconds_of(
        &mut self,
        labels: &impl EncodeLabelSet,
        milliseconds: u64,
    ) -> Result<(), Error> {
        let mut encoder = self.encoder.encode_family(labels)?;
        encoder.encode_gauge(&seconds(milliseconds))
    }
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}
