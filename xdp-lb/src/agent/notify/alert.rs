//! Who gets mail, and from whom.

use lettre::message::Mailbox;
use tracing::warn;

use crate::config::model::Mail;
use crate::telemetry::mail::Settings;

/// Where mail goes; `None`: nobody gets any, or no server is named.
pub(super) fn settings(mail: &Mail, host: &str) -> Option<Settings> {
    let (server, port) = mail.server.clone()?;
    let is_usable = |address: &String| match address.parse::<Mailbox>() {
        Ok(_) => true,
        Err(error) => {
            warn!("'{address}' is no mail address and gets no mail: {error}");
            false
        }
    };
    let to = mail.to.iter().map(|address| complete(address, host));
    let to: Vec<_> = to.filter(is_usable).collect();
    let from = mail.from.as_deref().unwrap_or("keepalived");
    (!to.is_empty()).then(|| Settings {
        server,
        port,
        from: complete(from, host),
        to,
        helo: mail.helo_name.clone().unwrap_or_else(|| host.to_owned()),
        timeout: mail.connect_timeout,
    })
}

/// A name alone is somebody on this host, as mail servers have it; keepalived leaves that to the
/// server, and many refuse it.
fn complete(address: &str, host: &str) -> String {
    if address.contains('@') {
        address.to_owned()
    } else {
        format!("{address}@{host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_somebody_on_this_host_and_what_is_no_address_is_left_out() {
        let mail = Mail {
            to: ["root", "a@example.org", "a b"].map(str::to_owned).to_vec(),
            server: Some(("127.0.0.1".to_owned(), 25)),
            ..Mail::default()
        };
        let settings = settings(&mail, "lb1").unwrap();
        assert_eq!(settings.to, ["root@lb1", "a@example.org"]);
        assert_eq!(settings.from, "keepalived@lb1");
        assert_eq!(settings.helo, "lb1");
    }

    #[test]
    fn without_a_server_or_anybody_who_gets_it_there_is_no_mail() {
        let mut mail = Mail {
            to: vec!["root".to_owned()],
            ..Mail::default()
        };
        assert_eq!(settings(&mail, "lb1"), None);
        mail.server = Some(("127.0.0.1".to_owned(), 25));
        mail.to = vec!["a b".to_owned()];
        assert_eq!(settings(&mail, "lb1"), None);
    }
}
