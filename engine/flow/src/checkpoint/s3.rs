//! Checkpoints in an S3-speaking object store.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::error::CheckpointError;
use super::settings::CheckpointSettings;
use crate::secret::Secret;

/// A client of `bucket`. Nothing is sent before the first request.
pub(super) fn s3(
    bucket: &str,
    settings: &CheckpointSettings,
) -> Result<Arc<dyn ObjectStore>, CheckpointError> {
    // The HTTP client asks for the process's choice of TLS. Where one was made, it stays.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let s3 = &settings.s3;
    let in_clear = s3
        .endpoint
        .as_ref()
        .filter(|url| url.starts_with("http://"));
    if let (Some(endpoint), false) = (in_clear, s3.allow_http) {
        return Err(CheckpointError::Settings {
            key: "s3.endpoint",
            detail: format!("{endpoint} is not encrypted; use https, or set s3.allow_http"),
        });
    }
    let client = ClientOptions::new()
        .with_timeout(settings.answer_within)
        .with_connect_timeout(settings.answer_within)
        .with_allow_http(s3.allow_http);
    let retries = RetryConfig {
        retry_timeout: settings.answer_within,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retries);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = revealed("s3.access_key_id", s3.access_key_id.as_ref())? {
        builder = builder.with_access_key_id(id);
    }
    if let Some(key) = revealed("s3.secret_access_key", s3.secret_access_key.as_ref())? {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(token) = revealed("s3.session_token", s3.session_token.as_ref())? {
        builder = builder.with_token(token);
    }
    let store = builder.build().map_err(|error| CheckpointError::Settings {
        key: "url",
        detail: format!("{}: {error}", settings.url),
    })?;
    Ok(Arc::new(store))
}

fn revealed(key: &'static str, secret: Option<&Secret>) -> Result<Option<String>, CheckpointError> {
    secret
        .map(Secret::reveal)
        .transpose()
        .map_err(|error| CheckpointError::Settings {
            key,
            detail: error.to_string(),
        })
}
