//! How a connection is secured.

use std::{fmt, fs, io, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// TLS to a sidecar. The system's certificate authorities are trusted, unless others are given.
#[derive(Clone, Default)]
pub struct Tls {
    ca_pem: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Tls {
    /// TLS with the system's certificate authorities.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in a PEM file, and no others.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.ca_pem = Some(fs::read(path)?);
        Ok(self)
    }

    /// Trusts the certificate authorities in PEM text, and no others.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Shows the sidecar a certificate, for mutual TLS. Both files are PEM.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn identity_files(
        mut self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> io::Result<Self> {
        self.identity = Some((fs::read(certificate)?, fs::read(key)?));
        Ok(self)
    }

    /// Shows the sidecar a certificate, for mutual TLS. Both texts are PEM.
    #[must_use]
    pub fn identity_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The name that the sidecar's certificate has, where it is not that of the endpoint.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        config = match &self.ca_pem {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
