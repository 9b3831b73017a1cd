//! Names under which the address may be asked for.
//!
//! A page from anywhere may let its own name resolve to this machine, and its visitors' browsers take what answers there for
//! a part of the page (DNS rebinding). A browser says which name it asked for, in `Host`. Refused are names that somebody
//! else may own; addresses, names within a machine or a cluster, and those that the configuration lists are none.

use std::net::IpAddr;

/// Endings of names that nobody can own in public.
const PRIVATE_ENDINGS: [&str; 4] = [".internal", ".local", ".localhost", ".svc"];
/// The entry of the configuration that accepts every name.
pub(crate) const ANY: &str = "*";

/// The names under which the address may be asked for.
#[derive(Debug, Clone)]
pub(super) struct AllowedHosts {
    /// In lower case, without a port.
    names: Vec<String>,
}

impl AllowedHosts {
    /// The names that `http.allowed_hosts` lists, the one in `http.listen`, and that of this machine.
    pub(super) fn new(listen: &str, allowed: &[String]) -> Self {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let names = allowed.iter().map(String::as_str).chain([host_of(listen), own.trim()]);
        Self { names: names.filter(|name| !name.is_empty()).map(normalized).collect() }
    }

    /// Whether `host`, with or without a port, is none that somebody else may own.
    pub(super) fn accept(&self, host: &str) -> bool {
        let name = normalized(host_of(host));
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_address
            || !name.contains('.')
            || PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending))
            || name.ends_with(".svc.cluster.local")
            || self.names.iter().any(|allowed| *allowed == name || allowed == ANY)
    }
}

/// `authority` without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn normalized(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_somebody_else_may_own_are_refused() {
        let hosts = AllowedHosts::new("metrics.example.org:9464", &["Worker.Example.com".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]:9464",
            "10.1.2.3:80",
            "localhost:9464",
            "LOCALHOST",
            "app.localhost",
            "negstream-0.negstream:9464".split('.').next().expect("a name"),
            "negstream-0.negstream.default.svc.cluster.local:9464",
            "negstream.default.svc:9464",
            "printer.local",
            "ip-10-0-0-7.eu-west-1.compute.internal:9464",
            "metrics.example.org:9464",
            "worker.example.com.:9464",
        ] {
            assert!(hosts.accept(host), "{host}");
        }
        for host in [
            "attacker.example:9464",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "attacker.example:9464:127.0.0.1x",
            "worker.example.com.attacker.example",
            "a.b",
        ] {
            assert!(!hosts.accept(host), "{host}");
        }
        assert!(AllowedHosts::new("0.0.0.0:9464", &[ANY.to_owned()]).accept("attacker.example"));
    }
}
