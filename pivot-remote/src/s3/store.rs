//! The library's store for a place, and where it finds credentials.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::signer::Signer;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::failure::Failure;
use super::place::{Amazon, Place, Service};
use super::wire::{Connector, Wire};
use crate::credentials::Chain;
use crate::options::RemoteOptions;

/// The variables that Google's tools know. Without any, the library looks for what
/// `gcloud auth application-default login` has written, and then asks the machine.
const GOOGLE_VARIABLES: [&str; 5] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
];

/// The variables that Microsoft's tools know. Without any, the library asks the machine.
const AZURE_VARIABLES: [&str; 13] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_MSI_ENDPOINT",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_USE_AZURE_CLI",
];

/// What a bucket can do; tests have it sign URLs to see where a request would go.
pub(super) trait Bucket: ObjectStore + PaginatedListStore + Signer {}

impl<T: ObjectStore + PaginatedListStore + Signer> Bucket for T {}

/// A bucket of whichever service. It holds credentials, so it shows nothing of itself.
pub(super) struct Store(Box<dyn Bucket>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Deref for Store {
    type Target = dyn Bucket;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl Store {
    /// The store of a place; with the places of credentials where these are ours to search.
    ///
    /// # Errors
    ///
    /// If the credentials that the environment names cannot be read.
    pub(super) fn open(
        place: &Place,
        options: &RemoteOptions,
        wire: &Wire,
        retry: RetryConfig,
    ) -> Result<(Self, Option<Arc<Chain>>), Failure> {
        match &place.service {
            Service::Amazon(amazon) => Self::amazon(place, amazon, options, wire, retry),
            Service::Google => Self::google(place, options, wire, retry).map(|store| (store, None)),
            Service::Azure { account } => {
                Self::azure(place, account, options, wire, retry).map(|store| (store, None))
            }
        }
    }

    fn amazon(
        place: &Place,
        amazon: &Amazon,
        options: &RemoteOptions,
        wire: &Wire,
        retry: RetryConfig,
    ) -> Result<(Self, Option<Arc<Chain>>), Failure> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(&amazon.region)
            .with_virtual_hosted_style_request(amazon.is_virtual)
            .with_allow_http(true)
            // TLS protects bytes on their way; without it the signature has to.
            .with_unsigned_payload(!place.is_plain())
            .with_retry(retry)
            .with_http_connector(Connector(wire.clone()));
        if let Some(endpoint) = amazon.library_endpoint(place) {
            builder = builder.with_endpoint(endpoint);
        }
        let mut credentials = None;
        if options.anonymous {
            builder = builder.with_skip_signature(true);
        } else {
            let chain = Arc::new(Chain::new(
                Arc::clone(&place.env),
                Arc::clone(&amazon.profiles),
                options.profile.clone(),
                amazon.region.clone(),
                wire.clone(),
            ));
            builder = builder.with_credentials(Arc::clone(&chain) as _);
            credentials = Some(chain);
        }
        let store = builder.build().map_err(|error| Failure::of(&error))?;
        Ok((Self(Box::new(store)), credentials))
    }

    fn google(
        place: &Place,
        options: &RemoteOptions,
        wire: &Wire,
        retry: RetryConfig,
    ) -> Result<Self, Failure> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&place.bucket)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_skip_signature(options.anonymous)
            .with_retry(retry)
            .with_http_connector(Connector(wire.clone()));
        if let Some(endpoint) = &place.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        for (key, value) in variables::<GoogleConfigKey>(place, &GOOGLE_VARIABLES) {
            builder = builder.with_config(key, value);
        }
        let store = builder.build().map_err(|_| {
            Failure::new(
                "the credentials for Google Cloud cannot be read: they are in the file that \
                 GOOGLE_APPLICATION_CREDENTIALS names, of a service account, or are made by \
                 `gcloud auth application-default login`",
            )
        })?;
        Ok(Self(Box::new(store)))
    }

    fn azure(
        place: &Place,
        account: &str,
        options: &RemoteOptions,
        wire: &Wire,
        retry: RetryConfig,
    ) -> Result<Self, Failure> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(&place.bucket)
            .with_account(account)
            .with_allow_http(true)
            .with_skip_signature(options.anonymous)
            .with_retry(retry)
            .with_http_connector(Connector(wire.clone()));
        if let Some(endpoint) = &place.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        for (key, value) in variables::<AzureConfigKey>(place, &AZURE_VARIABLES) {
            builder = builder.with_config(key, value);
        }
        let store = builder.build().map_err(|_| {
            Failure::new(
                "the credentials for Azure cannot be read: is AZURE_STORAGE_ACCOUNT_KEY or \
                 AZURE_STORAGE_SAS_TOKEN whole?",
            )
        })?;
        Ok(Self(Box::new(store)))
    }
}

/// Those of the variables that are set, as the library calls them.
fn variables<K: std::str::FromStr>(place: &Place, names: &[&str]) -> Vec<(K, String)> {
    let set = |name: &&str| {
        let value = (place.env)(name).filter(|value| !value.is_empty())?;
        Some((name.to_ascii_lowercase().parse().ok()?, value))
    };
    names.iter().filter_map(set).collect()
}
