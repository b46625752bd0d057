//! Certificates of a test: an authority, what it signed, and an authority that nobody knows. Made by
//! the OpenSSL that librdkafka is linked to.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use super::{BrokerError, PASSWORD};

/// PEM files.
pub struct Certificates {
    /// The authority that signed the broker's certificates and the client's.
    pub authority: PathBuf,
    /// Another one, which signed nothing.
    pub stranger: PathBuf,
    /// The client's certificate.
    pub client: PathBuf,
    /// Its key, under [`PASSWORD`].
    pub client_key: PathBuf,
    /// The broker's key and certificate, for 127.0.0.1.
    pub(super) broker: PathBuf,
    /// The broker's key and certificate, for another host.
    pub(super) elsewhere: PathBuf,
}

struct Signed {
    certificate: X509,
    key: PKey<Private>,
}

impl Certificates {
    /// Makes them in a folder.
    pub(super) fn make(folder: &Path) -> Result<Self, BrokerError> {
        let authority = signed("segue test authority", None, None)?;
        let stranger = signed("some other authority", None, None)?;
        let mut host = SubjectAlternativeName::new();
        host.ip("127.0.0.1");
        let broker = signed("broker", Some(&host), Some(&authority))?;
        let mut other = SubjectAlternativeName::new();
        other.dns("elsewhere.example");
        let elsewhere = signed("elsewhere", Some(&other), Some(&authority))?;
        let client = signed("segue", None, Some(&authority))?;
        let write = |name: &str, pem: Vec<u8>| {
            let path = folder.join(name);
            std::fs::write(&path, pem).map_err(|cause| BrokerError::Folder {
                path: path.clone(),
                cause,
            })?;
            Ok::<_, BrokerError>(path)
        };
        let both = |of: &Signed| {
            let mut pem = of.key.private_key_to_pem_pkcs8()?;
            pem.extend(of.certificate.to_pem()?);
            Ok::<_, ErrorStack>(pem)
        };
        let locked = client
            .key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), PASSWORD.as_bytes())?;
        Ok(Self {
            authority: write("authority.pem", authority.certificate.to_pem()?)?,
            stranger: write("stranger.pem", stranger.certificate.to_pem()?)?,
            client: write("client.pem", client.certificate.to_pem()?)?,
            client_key: write("client-key.pem", locked)?,
            broker: write("broker.pem", both(&broker)?)?,
            elsewhere: write("elsewhere.pem", both(&elsewhere)?)?,
        })
    }
}

/// A certificate, signed by `issuer`; an authority's own where there is none.
fn signed(
    name: &str,
    hosts: Option<&SubjectAlternativeName>,
    issuer: Option<&Signed>,
) -> Result<Signed, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;

    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(issuer.map_or(&*subject, |by| by.certificate.subject_name()))?;
    builder.set_pubkey(&key)?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(2)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&to)?;
    if issuer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    if let Some(hosts) = hosts {
        let context = builder.x509v3_context(issuer.map(|by| &*by.certificate), None);
        let extension = hosts.build(&context)?;
        builder.append_extension(extension)?;
    }
    builder.sign(issuer.map_or(&key, |by| &by.key), MessageDigest::sha256())?;
    Ok(Signed {
        certificate: builder.build(),
        key,
    })
}
