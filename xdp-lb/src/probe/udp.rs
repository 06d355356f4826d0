//! `UDP_CHECK`: a datagram is answered as it should be, or at least nobody says that it cannot be
//! delivered.

use socket2::Type;

use super::exchange::{Exchange, LONGEST};
use super::{Context, failed, random, reply};
use crate::config::model::UdpProbe;
use crate::health::Outcome;

/// Sends one datagram. Where no reply is asked for, errors are waited for as long as
/// `connect_timeout`: that the host does not answer ARP shows after about 3 s.
pub async fn run(probe: &UdpProbe, context: &Context) -> Outcome {
    match check(probe, context).await {
        Ok(()) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

async fn check(probe: &UdpProbe, context: &Context) -> Result<(), Outcome> {
    let exchange = Exchange::open(&probe.connection, context, Type::DGRAM, None)?;
    match &probe.payload {
        Some(payload) => exchange.send(payload).await?,
        None => exchange.send(&random()).await?,
    }
    let mut buffer = vec![0; LONGEST];
    let came = exchange.receive(&mut buffer).await?;
    match (&probe.reply, came) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(exchange.silence("reply")),
        (Some(expected), Some(length)) => {
            let datagram = buffer.get(..length).unwrap_or_default();
            reply::judge(expected, datagram).map_err(failed)
        }
    }
}
