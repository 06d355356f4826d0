//! The system's log, for a daemon whose stderr leads nowhere.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;
use std::sync::Arc;

/// Where syslogd and journald listen.
const SOCKET: &str = "/dev/log";

/// Which part of the system speaks, syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Default for Facility {
    /// `LOG_DAEMON`.
    fn default() -> Self {
        Self(3)
    }
}

/// The text names no facility.
#[derive(Debug, thiserror::Error)]
#[error("0 to 7, local0 to local7, user or daemon")]
pub struct NoFacility;

impl FromStr for Facility {
    type Err = NoFacility;

    fn from_str(text: &str) -> Result<Self, NoFacility> {
        let local = text.strip_prefix("local").unwrap_or(text);
        match (text, local.parse::<u8>()) {
            ("user", _) => Ok(Self(1)),
            ("daemon", _) => Ok(Self::default()),
            (_, Ok(number @ 0..=7)) => Ok(Self(16 + number)),
            _ => Err(NoFacility),
        }
    }
}

/// Sends lines to the system's log. Each begins with its priority as the journal reads it, `<4>`.
#[derive(Clone, Debug)]
pub struct Syslog {
    socket: Option<Arc<UnixDatagram>>,
    facility: Facility,
    name: &'static str,
}

impl Syslog {
    /// The log of this system. Without one, lines are lost: there is nobody to tell.
    pub fn open(name: &'static str, facility: Facility) -> Self {
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(SOCKET)?;
            Ok(Arc::new(socket))
        });
        Self {
            socket: connected.ok(),
            facility,
            name,
        }
    }

    /// A line as it goes over the socket.
    fn datagram(&self, line: &str) -> String {
        let line = line.trim_end();
        let split = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (severity, text) = split
            .and_then(|(number, text)| Some((number.parse::<u8>().ok()?, text)))
            .unwrap_or((6, line));
        let priority = self.facility.0 * 8 + (severity & 7);
        let (name, pid) = (self.name, std::process::id());
        format!("<{priority}>{name}[{pid}]: {}", text.trim_start())
    }
}

impl Write for Syslog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if let Some(socket) = &self.socket {
            for line in text.lines().filter(|line| !line.is_empty()) {
                socket.send(self.datagram(line).as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facilities_are_named_as_keepalived_names_them() {
        let cases = [
            ("0", 16),
            ("7", 23),
            ("local3", 19),
            ("user", 1),
            ("daemon", 3),
        ];
        for (text, number) in cases {
            assert_eq!(text.parse::<Facility>().unwrap(), Facility(number));
        }
        for text in ["8", "local8", "kern", ""] {
            assert!(text.parse::<Facility>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_takes_priority_name_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        let mut log = Syslog {
            socket: Some(Arc::new(socket)),
            facility: Facility::default(),
            name: "keepalived",
        };
        log.write_all(b"<4> WARN native XDP refused\n").unwrap();
        let mut buffer = [0; 256];
        let length = server.recv(&mut buffer).unwrap();
        let pid = std::process::id();
        assert_eq!(
            std::str::from_utf8(&buffer[..length]).unwrap(),
            format!("<28>keepalived[{pid}]: WARN native XDP refused")
        );
    }
}
