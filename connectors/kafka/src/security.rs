//! `[kafka.security]` as librdkafka wants it. What would be passed over in silence is refused: who
//! names an authority or a password does not mean to speak in the clear, or as nobody.

use rdkafka::ClientConfig;

use crate::error::KafkaError;
use crate::settings::{Protocol, Security};

/// librdkafka's options for files, and the settings they come from.
pub const FILES: [(&str, &str); 3] = [
    ("ssl.ca.location", "ca_file"),
    ("ssl.certificate.location", "certificate_file"),
    ("ssl.key.location", "key_file"),
];

/// Sets protocol, identity and certificates.
pub fn secure(security: &Security, config: &mut ClientConfig) -> Result<(), KafkaError> {
    config.set("security.protocol", security.protocol.name());
    identity(security, config)?;
    encryption(security, config)
}

fn refused(key: &str, why: &str) -> KafkaError {
    KafkaError::Refused {
        what: format!("kafka.security.{key}"),
        detail: why.to_owned(),
    }
}

fn identity(security: &Security, config: &mut ClientConfig) -> Result<(), KafkaError> {
    let (mechanism, username, password) = (
        security.mechanism,
        security.username.as_ref(),
        security.password.as_ref(),
    );
    if !matches!(
        security.protocol,
        Protocol::SaslPlaintext | Protocol::SaslSsl
    ) {
        let set = [
            ("mechanism", mechanism.is_some()),
            ("username", username.is_some()),
            ("password", password.is_some()),
        ];
        return unused(&set, security.protocol, "sasl_ssl or sasl_plaintext");
    }
    let missing = |key| refused(key, "is needed by a protocol that begins with sasl; set it");
    let mechanism = mechanism.ok_or_else(|| missing("mechanism"))?;
    let username = username.ok_or_else(|| missing("username"))?;
    let password = password.ok_or_else(|| missing("password"))?;
    let password = password
        .reveal()
        .map_err(|error| refused("password", &error.to_string()))?;
    config
        .set("sasl.mechanism", mechanism.name())
        .set("sasl.username", username)
        .set("sasl.password", password);
    Ok(())
}

fn encryption(security: &Security, config: &mut ClientConfig) -> Result<(), KafkaError> {
    let values = [
        &security.ca_file,
        &security.certificate_file,
        &security.key_file,
    ];
    let files = FILES.into_iter().zip(values);
    if !matches!(security.protocol, Protocol::Ssl | Protocol::SaslSsl) {
        let set = files.map(|((_, key), file)| (key, file.is_some()));
        let mut set: Vec<_> = set.collect();
        set.push(("key_password", security.key_password.is_some()));
        return unused(&set, security.protocol, "ssl or sasl_ssl");
    }
    match (&security.certificate_file, &security.key_file) {
        (Some(_), None) => {
            return Err(refused("key_file", "is needed by certificate_file; set it"));
        }
        (None, Some(_)) => {
            let why = "is needed by key_file; set it";
            return Err(refused("certificate_file", why));
        }
        _ => {}
    }
    for ((option, key), file) in files {
        let Some(file) = file else { continue };
        if let Err(cause) = std::fs::File::open(file) {
            let why = format!("file {}: {cause}; correct the path", file.display());
            return Err(refused(key, &why));
        }
        config.set(option, file.display().to_string());
    }
    if let Some(secret) = &security.key_password {
        if security.key_file.is_none() {
            return Err(refused("key_file", "is needed by key_password; set it"));
        }
        let password = secret
            .reveal()
            .map_err(|error| refused("key_password", &error.to_string()))?;
        config.set("ssl.key.password", password);
    }
    Ok(())
}

/// None of these may be set: the protocol has no use for them.
fn unused(set: &[(&str, bool)], protocol: Protocol, needs: &str) -> Result<(), KafkaError> {
    match set.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((key, _)) => {
            let name = protocol.name();
            let why = format!(
                "has no effect while kafka.security.protocol is {name}; set that to {needs}, or \
                 remove this"
            );
            Err(refused(key, &why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_flow::secret::Secret;

    fn said(text: &str) -> String {
        let security: Security = toml::from_str(text).unwrap();
        let outcome = secure(&security, &mut ClientConfig::new());
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn half_an_identity_is_refused_by_key() {
        let mut security = Security {
            protocol: Protocol::SaslSsl,
            ..Security::default()
        };
        let said = |security: &Security| {
            let outcome = secure(security, &mut ClientConfig::new());
            outcome.unwrap_err().to_string()
        };
        assert!(said(&security).contains("kafka.security.mechanism"));
        security.mechanism = Some(crate::Mechanism::Plain);
        assert!(said(&security).contains("kafka.security.username"));
        security.username = Some("u".into());
        assert!(said(&security).contains("kafka.security.password"));
        security.password = Some(Secret::Env("SEGUE_NO_SUCH_VARIABLE".to_owned()));
        let message = said(&security);
        assert!(message.contains("kafka.security.password"), "{message}");
        assert!(message.contains("SEGUE_NO_SUCH_VARIABLE"), "{message}");
    }

    #[test]
    fn what_would_be_passed_over_in_silence_is_refused() {
        let here = std::env::current_exe().unwrap();
        let here = here.display();
        for (text, key) in [
            ("username = 'u'".to_owned(), "username"),
            (
                "protocol = 'ssl'\npassword = { env = 'P' }".to_owned(),
                "password",
            ),
            ("ca_file = 'ca.pem'".to_owned(), "ca_file"),
            ("key_password = { env = 'P' }".to_owned(), "key_password"),
            (
                format!("protocol = 'ssl'\ncertificate_file = '{here}'"),
                "key_file",
            ),
            (
                format!("protocol = 'ssl'\nkey_file = '{here}'"),
                "certificate_file",
            ),
            (
                "protocol = 'ssl'\nkey_password = { env = 'P' }".to_owned(),
                "key_file",
            ),
            (
                "protocol = 'ssl'\nca_file = '/no/ca.pem'".to_owned(),
                "ca_file",
            ),
        ] {
            let message = said(&text);
            assert!(
                message.starts_with(&format!("kafka.security.{key}: ")),
                "{text}: {message}"
            );
        }
    }
}
