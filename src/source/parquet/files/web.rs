//! A log of a web server, which is a single file: servers do not tell which files they have.

use std::path::PathBuf;
use std::sync::Arc;

use super::FoundLog;
use super::address::shown;
use crate::remote::client::RemoteClient;
use crate::remote::web::{self, WebAddress, WebOpened};
use crate::source::parquet::bytes::LogPlace;
use crate::source::parquet::{ParquetLogError, unreadable};

/// The log at an address.
pub(super) fn find(name: &str, client: &Arc<RemoteClient>) -> Result<FoundLog, ParquetLogError> {
    let refuse = |address, problem| ParquetLogError::InvalidAddress { address, problem };
    let address: WebAddress = name.parse().map_err(|problem| refuse(shown(name), problem))?;
    let path = PathBuf::from(address.to_string());
    if address.to_string().contains('*') {
        let problem = "web servers do not tell which files they have: name each of them".to_owned();
        return Err(refuse(address.to_string(), problem));
    }
    let place = match web::open(client, &address) {
        Ok(WebOpened::Ranges(file)) => LogPlace::Remote(file),
        Ok(WebOpened::Copy(file)) => {
            tracing::info!(log = %path.display(), "the server does not answer ranges: the log was copied to TMPDIR");
            LogPlace::Copy(Arc::new(file))
        }
        Err(error) => return Err(unreadable(&path, error.into())),
    };
    Ok(FoundLog { path, place })
}
