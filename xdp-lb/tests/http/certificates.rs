//! Certificates and keys for tests.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// Writes `NAME.pem` and `NAME.key`: signed by itself, for a name, valid or long expired.
pub(crate) fn write(folder: &Path, name: &str, expired: bool) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Runs `openssl` in a folder; whether there is one.
pub(crate) fn openssl(folder: &Path, arguments: &str) -> bool {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Ok(status) = done {
        assert!(status.success(), "openssl {arguments}: {status}");
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "openssl is missing");
    eprintln!("SKIPPED: this test needs openssl");
    false
}
