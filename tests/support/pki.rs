//! A small public key infrastructure in a folder of its own: authorities, servers, clients, good and bad ones.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use std::path::{Path, PathBuf};

/// An authority and the folder with everything that it signed.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub ca_file: PathBuf,
}

/// A certificate with its key, as PEM files.
#[derive(Clone)]
pub struct Pair {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// When a certificate is valid, compared with today.
#[derive(Clone, Copy)]
pub enum Validity {
    Now,
    Past,
    Future,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, certificate.pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
            ca_file,
        }
    }

    /// A server certificate for these host names or addresses.
    pub fn server(&self, names: &[&str], validity: Validity) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(
            CertificateParams::new(names).unwrap(),
            "server",
            ExtendedKeyUsagePurpose::ServerAuth,
            validity,
        )
    }

    /// A client certificate with this common name.
    pub fn client(&self, common_name: &str, validity: Validity) -> Pair {
        let params = CertificateParams::new(Vec::new()).unwrap();
        self.sign(params, common_name, ExtendedKeyUsagePurpose::ClientAuth, validity)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Pair {
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(usage);
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2000, 1, 1), date_time_ymd(2200, 1, 1)),
            Validity::Past => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::Future => (date_time_ymd(2190, 1, 1), date_time_ymd(2200, 1, 1)),
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let serial = std::fs::read_dir(self.folder.path()).unwrap().count();
        let write = |name: String, content: String| {
            let file = self.folder.path().join(name);
            std::fs::write(&file, content).unwrap();
            file
        };
        Pair {
            cert_file: write(format!("{serial}.pem"), certificate.pem()),
            key_file: write(format!("{serial}.key"), key.serialize_pem()),
        }
    }

    /// Its folder, for files that belong to the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
