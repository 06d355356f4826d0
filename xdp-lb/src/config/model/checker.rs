//! Health checks.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Command, HttpProbe};

/// A health check of a real server, with every inherited value filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is probed.
    pub probe: Probe,
    /// `delay_loop`: time from one check to the next.
    pub delay_loop: Duration,
    /// `retry`: further failures in a row that are needed after the first.
    pub retry: u32,
    /// `delay_before_retry`: time from a failed check to the retry.
    pub delay_before_retry: Duration,
    /// `warmup`: the first check starts at a random moment within this time.
    pub warmup: Duration,
    /// `alpha`: down until it passes for the first time; else up until it fails.
    pub alpha: bool,
    /// `log_all_failures`: failures that are retried are logged as well.
    pub log_all_failures: bool,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `TCP_CHECK`: a connection is established.
    Tcp(Connection),
    /// `HTTP_GET` and `SSL_GET`: pages are as they should be.
    Http(Box<HttpProbe>),
    /// `SMTP_CHECK`: a mail server greets and answers HELO.
    Smtp(SmtpProbe),
    /// `DNS_CHECK`: a query is answered.
    Dns(DnsProbe),
    /// `UDP_CHECK`: a datagram is answered, or at least not refused.
    Udp(UdpProbe),
    /// `PING_CHECK`: an ICMP echo is answered. The ports are 0.
    Ping(Connection),
    /// `MISC_CHECK`: a command succeeds.
    Misc(MiscProbe),
    /// `FILE_CHECK`: the number in a tracked file.
    File(FileProbe),
}

impl Probe {
    /// The keyword it comes from.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "TCP_CHECK",
            Self::Http(http) => match http.tls {
                Some(_) => "SSL_GET",
                None => "HTTP_GET",
            },
            Self::Smtp(_) => "SMTP_CHECK",
            Self::Dns(_) => "DNS_CHECK",
            Self::Udp(_) => "UDP_CHECK",
            Self::Ping(_) => "PING_CHECK",
            Self::Misc(_) => "MISC_CHECK",
            Self::File(_) => "FILE_CHECK",
        }
    }

    /// The address that is probed, of a probe that goes to one (the first one of several).
    pub fn target(&self) -> Option<SocketAddr> {
        let connection = match self {
            Self::Tcp(connection) | Self::Ping(connection) => connection,
            Self::Http(http) => &http.connection,
            Self::Smtp(smtp) => smtp.connections.first()?,
            Self::Dns(dns) => &dns.connection,
            Self::Udp(udp) => &udp.connection,
            Self::Misc(_) | Self::File(_) => return None,
        };
        Some(connection.target)
    }
}

/// Where a probe goes, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `connect_ip` and `connect_port`, by default those of the real server.
    pub target: SocketAddr,
    /// `bindto` and `bind_port`, of the family of `target`; port 0 is any.
    pub source: Option<SocketAddr>,
    /// `bind_if`: the interface it leaves by.
    pub interface: Option<String>,
    /// `fwmark` of its packets; 0 is none.
    pub mark: u32,
    /// `connect_timeout`: longest wait for the connection and for each answer, 5 s by default.
    pub connect_timeout: Duration,
}

impl Connection {
    /// To `target`, from anywhere, without a mark.
    pub const fn to(target: SocketAddr, connect_timeout: Duration) -> Self {
        Self {
            target,
            source: None,
            interface: None,
            mark: 0,
            connect_timeout,
        }
    }
}

/// `SMTP_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpProbe {
    /// `helo_name`: the name in HELO; by default `smtp_helo_name`, else the host's.
    pub helo_name: Option<String>,
    /// One for each `host`, or one; all must pass.
    pub connections: Vec<Connection>,
}

/// `DNS_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProbe {
    /// Where the query goes.
    pub connection: Connection,
    /// `type`, `SOA` by default.
    pub record: RecordType,
    /// `name`: what is asked for, `.` by default; no empty labels, none longer than 63 bytes.
    pub name: String,
}

/// A type of DNS records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// A name server.
    Ns,
    /// An alias.
    Cname,
    /// The start of a zone.
    #[default]
    Soa,
    /// A mail server.
    Mx,
    /// A text.
    Txt,
    /// An IPv6 address.
    Aaaa,
}

impl RecordType {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::A,
        Self::Ns,
        Self::Cname,
        Self::Soa,
        Self::Mx,
        Self::Txt,
        Self::Aaaa,
    ];

    /// Its name in zone files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Ns => "NS",
            Self::Cname => "CNAME",
            Self::Soa => "SOA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Aaaa => "AAAA",
        }
    }
}

/// `UDP_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    /// Where the datagram goes.
    pub connection: Connection,
    /// `payload`: what is sent; `None` is random bytes.
    pub payload: Option<Vec<u8>>,
    /// `require_reply`: what must come back. `None`: nothing must, but no ICMP error may.
    pub reply: Option<Reply>,
}

/// The answer that a `UDP_CHECK` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it must begin, as far as it goes; empty is anything.
    pub pattern: Vec<MaskedByte>,
    /// `min_reply_length`, bytes, 0 by default.
    pub min_length: u16,
    /// `max_reply_length`, bytes, 255 by default.
    pub max_length: u16,
}

/// A byte of which only some bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedByte {
    /// The bits.
    pub value: u8,
    /// Those that count: `0x0f`, `0xf0`, `0xff` or none.
    pub mask: u8,
}

/// `MISC_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiscProbe {
    /// `misc_path` and `user`.
    pub command: Command,
    /// `misc_timeout`: longest run, by default `delay_loop`.
    pub timeout: Duration,
    /// `misc_dynamic`: an exit status from 2 to 255 passes and sets the weight to 2 less.
    pub dynamic: bool,
}

/// `FILE_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProbe {
    /// `track_file`: the name of the `track_file` block.
    pub file: String,
    /// `weight`: factor of the number in the file; by default the file's own.
    pub weight: Option<FileWeight>,
    /// `dynamic`: the product is added to the weight of the server, as it is without that word.
    pub dynamic: bool,
}

/// The `weight` of a `FILE_CHECK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileWeight {
    /// Factor, not -2147483648.
    pub factor: i32,
    /// `reverse`: the sign of the product is turned.
    pub reverse: bool,
}
