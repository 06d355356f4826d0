//! `SSL_GET` to nginx: any certificate, the right name, our own certificate.

use std::path::Path;

use super::certificates::{openssl, write};
use super::nginx::Nginx;
use super::{passes, run, run_with, why};

const SERVERS: &str = r#"
server {
    listen LISTEN ssl;
    server_name default;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate expired.example.org.pem;
    ssl_certificate_key expired.example.org.key;
    location / { return 200 "default asked for '$ssl_server_name' by $ssl_protocol"; }
    location = /busy { return 503; }
}
server {
    listen LISTEN ssl;
    server_name www.example.org;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate other.example.org.pem;
    ssl_certificate_key other.example.org.key;
    location / { return 200 "vhost asked for '$ssl_server_name'"; }
}
"#;

const DEMANDING: &str = r#"
server {
    listen LISTEN ssl;
    ssl_certificate other.example.org.pem;
    ssl_certificate_key other.example.org.key;
    ssl_client_certificate client.pem;
    ssl_verify_client on;
    location / { return 200 "welcome $ssl_client_verify"; }
}
"#;

fn certificates(folder: &Path) {
    write(folder, "expired.example.org", true);
    write(folder, "other.example.org", false);
    write(folder, "client", false);
    write(folder, "stranger", false);
}

#[tokio::test]
async fn any_certificate_is_taken_and_sni_chooses_the_host() {
    let Some(nginx) = Nginx::start(SERVERS, certificates) else {
        return;
    };
    // Its certificate has expired, is signed by itself and is for another name.
    for lines in [
        "url {\npath /\nregex \"default asked for ''\"\n}",
        "url {\npath /\nregex \"by TLSv1.3\"\n}",
        "http_protocol 1.1\nurl {\npath /\ntls_compliant\nregex \"default asked for ''\"\n}",
        // Without SNI only the Host header chooses.
        "virtualhost www.example.org\nurl {\npath /\nregex \"vhost asked for ''\"\n}",
        "virtualhost www.example.org\nenable_sni\nurl {\npath /\nregex \"vhost asked for 'www.example.org'\"\n}",
        "virtualhost www.example.org:443\nenable_sni\nurl {\npath /\nregex \"vhost asked for 'www.example.org'\"\n}",
        "sni_name www.example.org\nvirtualhost www.example.org\nurl {\npath /\nregex \"vhost asked for 'www.example.org'\"\n}",
        // There is no name to send.
        "enable_sni\nurl {\npath /\nregex \"default asked for ''\"\n}",
    ] {
        eprintln!("{lines}");
        passes(&run("SSL_GET", nginx.address, lines).await);
    }
    // A certificate of an authority that has nothing to do with it changes nothing.
    let ssl = format!(
        "SSL {{\nca {}/client.pem\n}}",
        nginx.folder.path().display()
    );
    passes(&run_with(&ssl, "SSL_GET", nginx.address, "url {\npath /\n}").await);
    let said = why(run("SSL_GET", nginx.address, "url {\npath /busy\n}").await);
    assert_eq!(said, "HTTP status 503 from /busy, expected 200-299");
    let bad = "sni_name a..b\nurl {\npath /\n}";
    let said = why(run("SSL_GET", nginx.address, bad).await);
    assert_eq!(said, "TLS: 'a..b' cannot be the name of a server");
}

#[tokio::test]
async fn a_server_that_knows_only_tls_1_2_is_spoken_to() {
    let servers = SERVERS.replace("TLSv1.2 TLSv1.3", "TLSv1.2");
    let Some(nginx) = Nginx::start(&servers, certificates) else {
        return;
    };
    let lines = "url {\npath /\nregex \"by TLSv1.2\"\n}";
    passes(&run("SSL_GET", nginx.address, lines).await);
}

#[tokio::test]
async fn http_to_a_tls_port_and_tls_to_an_http_port_fail() {
    let Some(tls) = Nginx::start(SERVERS, certificates) else {
        return;
    };
    let said = why(run("HTTP_GET", tls.address, "url {\npath /\n}").await);
    assert_eq!(said, "HTTP status 400 from /, expected 200-299");
    let plain = "server {\nlisten LISTEN;\nlocation / { return 200; }\n}\n";
    let Some(plain) = Nginx::start(plain, |_| {}) else {
        return;
    };
    let said = why(run("SSL_GET", plain.address, "url {\npath /\n}").await);
    assert!(said.starts_with("TLS: "), "{said}");
}

#[tokio::test]
async fn a_certificate_is_shown_to_a_server_that_demands_one() {
    let Some(nginx) = Nginx::start(DEMANDING, certificates) else {
        return;
    };
    let page = "url {\npath /\n}";
    let at = nginx.folder.path();
    let ssl = |name: &str, key: &str, more: &str| {
        let at = at.display();
        format!("SSL {{\ncertificate {at}/{name}.pem\nkey {at}/{key}\n{more}\n}}")
    };
    let welcome = "url {\npath /\nregex \"welcome SUCCESS\"\n}";
    passes(
        &run_with(
            &ssl("client", "client.key", ""),
            "SSL_GET",
            nginx.address,
            welcome,
        )
        .await,
    );
    let said = why(run("SSL_GET", nginx.address, page).await);
    assert_eq!(said, "HTTP status 400 from /, expected 200-299");
    let stranger = ssl("stranger", "stranger.key", "");
    let said = why(run_with(&stranger, "SSL_GET", nginx.address, page).await);
    assert_eq!(said, "HTTP status 400 from /, expected 200-299");

    let encrypt = "pkcs8 -topk8 -in client.key -out locked.key -passout pass:secret";
    if !openssl(at, encrypt) {
        return;
    }
    let locked = |more: &str| ssl("client", "locked.key", more);
    let right = locked("password secret");
    passes(&run_with(&right, "SSL_GET", nginx.address, welcome).await);
    for (ssl, expected) in [
        (locked("password wrong"), "the password does not open it"),
        (locked(""), "it is encrypted; write its 'password'"),
        (ssl("client", "gone.key", ""), "cannot read "),
        (ssl("client", "client.pem", ""), "not a private key"),
        (
            ssl("client", "stranger.key", ""),
            "cannot be used with the key",
        ),
        (
            format!("SSL {{\nca {}/client.key\n}}", at.display()),
            "is not a certificate in PEM form: there is none in it",
        ),
    ] {
        let said = why(run_with(&ssl, "SSL_GET", nginx.address, page).await);
        assert!(said.starts_with("the SSL block: "), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
