//! `HTTP_GET` and `SSL_GET`: pages are as they should be.
//!
//! Each page has a connection of its own, as in keepalived, and each must pass. Within
//! `connect_timeout` each must be connected to, shake hands, and answer in full.

mod page;
mod recorder;

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::page::Answer;
use self::recorder::Recorder;
use super::connect::connect;
use super::{Context, failed};
use crate::config::model::{HttpProbe, Sni, Tls, Url};
use crate::health::{Failure, Outcome};

/// Fetches the pages, until one fails.
pub async fn run(probe: &HttpProbe, context: &Context) -> Outcome {
    for url in &probe.urls {
        if let Err(outcome) = check(probe, url, context).await {
            return outcome;
        }
    }
    Outcome::Passed
}

async fn check(probe: &HttpProbe, url: &Url, context: &Context) -> Result<(), Outcome> {
    let answer = match (&probe.tls, &context.tls) {
        (None, _) => fetch(probe, url, connect(&probe.connection, context).await?).await?,
        (Some(tls), Ok(config)) => {
            let name = server_name(probe, tls, url)?;
            let stream = connect(&probe.connection, context).await?;
            let stream = shake_hands(probe, config.clone(), name, stream).await?;
            fetch(probe, url, stream).await?
        }
        (Some(_), Err(why)) => return Err(failed(format!("the SSL block: {why}"))),
    };
    page::judge(url, answer).await
}

/// The name to ask for. An address is not sent.
fn server_name(probe: &HttpProbe, tls: &Tls, url: &Url) -> Result<ServerName<'static>, Outcome> {
    let name = match &tls.sni {
        None => None,
        Some(Sni::Name(name)) => Some(name.as_str()),
        // The name of a host has no port, its header may.
        Some(Sni::Host) => url.host.as_deref().map(without_port),
    };
    let Some(name) = name else {
        return Ok(ServerName::from(probe.connection.target.ip()));
    };
    ServerName::try_from(name.to_owned())
        .map_err(|_invalid| failed(format!("TLS: '{name}' cannot be the name of a server")))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
            name
        }
        _ => host,
    }
}

async fn shake_hands(
    probe: &HttpProbe,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Outcome> {
    let limit = probe.connection.connect_timeout;
    match timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(failed("TLS: closed during the handshake"))
        }
        Ok(Err(error)) => Err(page::broken(&error, "the TLS handshake")),
        Err(_) => Err(failed(format!(
            "no end of the TLS handshake within {} s",
            limit.as_secs_f64()
        ))),
    }
}

async fn fetch<S>(probe: &HttpProbe, url: &Url, stream: S) -> Result<Answer, Outcome>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limit = probe.connection.connect_timeout;
    let stream = Recorder::new(stream, url.pattern.is_some() || url.digest.is_some());
    let orderly = probe.tls.is_some() && url.tls_compliant;
    match timeout(limit, page::fetch(probe, url, stream, orderly)).await {
        Ok(answer) => answer,
        Err(_) => Err(Outcome::Failed(Failure::Other(format!(
            "no complete answer from {} within {} s",
            url.path,
            limit.as_secs_f64()
        )))),
    }
}
