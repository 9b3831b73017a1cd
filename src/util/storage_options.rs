//! The options of object stores in the configuration: which may be shown, and which may hold no credentials.

use std::collections::BTreeMap;

use super::config_section::{REDACTED, Refusal, require};
use super::credentials::may_hold_credentials;

/// Options that may be shown, without `aws_`, `google_` and `azure_` before them.
const HARMLESS: [&str; 8] = [
    "region",
    "endpoint",
    "base_url",
    "storage_endpoint",
    "storage_account_name",
    "allow_http",
    "virtual_hosted_style_request",
    "conditional_put",
];

/// Refuses addresses that hold a password or a signature.
///
/// # Errors
/// The option that does.
pub fn validate_options(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let is_address = |key: &str| key.contains("endpoint") || key.contains("base_url");
    for (key, value) in options.iter().filter(|(key, _)| is_address(key)) {
        let message = "must be https://host:port; credentials are options of their own (aws_access_key_id, …)";
        require(!may_hold_credentials(value), message).map_err(|refusal| refusal.below(key))?;
    }
    Ok(())
}

/// Hides the values that may be secret.
pub fn redact_options(options: &mut BTreeMap<String, String>) {
    for (key, value) in options {
        let name = ["aws_", "google_", "azure_"].iter().find_map(|prefix| key.strip_prefix(prefix)).unwrap_or(key);
        if !HARMLESS.contains(&name) || value.contains('@') {
            REDACTED.clone_into(value);
        }
    }
}
