//! TLS of `SSL_GET`: what it shows to servers, and that it takes any certificate.
//!
//! In: the `SSL` block. Out: a [`ClientConfig`], or why there is none. As in keepalived nothing that a
//! server shows is refused: not an expired certificate, not one for another name or from nobody known,
//! not even with `ca`. A check asks whether the server answers, not who it is.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem,
};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::config::model::Ssl;

/// Why the `SSL` block cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate, or a broken one.
    #[error("{path} is not a certificate in PEM form: {reason}")]
    Certificate {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file holds no private key, or one that cannot be opened.
    #[error("{path} is not a private key that can be used: {reason}")]
    Key {
        /// The file.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The library takes neither.
    #[error("the certificate cannot be used with the key: {0}")]
    Library(#[from] rustls::Error),
}

/// What all handshakes have in common. Reads the files of the `SSL` block.
pub fn client(ssl: &Ssl) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    if let Some(ca) = &ssl.ca {
        certificates(ca)?;
    }
    let shown = match &ssl.certificate {
        Some(path) => Some(certificates(path)?),
        None => None,
    };
    let key = match &ssl.key {
        Some(path) => Some(key(path, ssl.password.as_deref())?),
        None => None,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone { schemes }));
    // One without the other shows nothing, as in OpenSSL.
    let mut config = match (shown, key) {
        (Some(shown), Some(key)) => builder.with_client_auth_cert(shown, key)?,
        _ => builder.with_no_client_auth(),
    };
    // Each check is to find out whether the whole of a handshake works.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        path: path.display().to_string(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refuse = |reason: String| Error::Certificate {
        path: path.display().to_string(),
        reason,
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = certificates.map_err(|error| refuse(in_words(&error)))?;
    if certificates.is_empty() {
        return Err(refuse("there is none in it".to_owned()));
    }
    for certificate in &certificates {
        rustls::server::ParsedCertificate::try_from(certificate)
            .map_err(|error| refuse(error.to_string()))?;
    }
    Ok(certificates)
}

fn key(path: &Path, password: Option<&str>) -> Result<PrivateKeyDer<'static>, Error> {
    let refuse = |reason: String| Error::Key {
        path: path.display().to_string(),
        reason,
    };
    let text = read(path)?;
    let has = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    if has(b"Proc-Type: 4,ENCRYPTED") {
        let reason = "it is encrypted the old way; convert it by 'openssl pkcs8 -topk8'";
        return Err(refuse(reason.to_owned()));
    }
    if !has(b"BEGIN ENCRYPTED PRIVATE KEY") {
        return PrivateKeyDer::from_pem_slice(&text).map_err(|error| refuse(in_words(&error)));
    }
    let Some(password) = password else {
        let reason = "it is encrypted; write its 'password' into the SSL block";
        return Err(refuse(reason.to_owned()));
    };
    decrypt(&text, password)
        .map(PrivateKeyDer::Pkcs8)
        .map_err(refuse)
}

fn decrypt(text: &[u8], password: &str) -> Result<PrivatePkcs8KeyDer<'static>, String> {
    let text = str::from_utf8(text).map_err(|error| error.to_string())?;
    let (_, document) = pkcs8::SecretDocument::from_pem(text).map_err(|error| error.to_string())?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| error.to_string())?;
    let key = encrypted
        .decrypt(password)
        .map_err(|error| format!("the password does not open it: {error}"))?;
    Ok(key.as_bytes().to_vec().into())
}

fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        other => other.to_string(),
    }
}

/// Takes everyone's word.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // To check signatures means to parse the certificate, and the parser refuses forms that servers
    // still show, such as X.509 version 1.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
