//! Names to addresses, all of which may be reached.
//!
//! This is where the connection is pinned: the HTTP client connects to what is
//! answered here and asks nobody else, so the address that was checked is the one that
//! is used. A name with one forbidden address among its public ones is refused whole,
//! since which of them is used is the answer's choice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError as LookupError};
use hickory_resolver::proto::op::ResponseCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::error::NetError;
use super::target::Allowed;

/// Time of one question to one name server.
const TIMEOUT: Duration = Duration::from_secs(3);

/// More addresses of one name than this are not looked at.
const MAX_ADDRESSES: usize = 64;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Names {
    resolver: Arc<TokioResolver>,
    allowed: Allowed,
}

impl Names {
    /// With the given name servers, or those of the system.
    pub(super) fn new(servers: &[SocketAddr], allowed: Allowed) -> Result<Self, NetError> {
        let unusable = |error: LookupError| {
            tracing::error!("names cannot be looked up: {error}");
            NetError::Unusable
        };
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            TokioResolver::builder(provider).map_err(unusable)?
        } else {
            let servers = servers.iter().map(|server| {
                let connections =
                    [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
                        c.port = server.port();
                        c
                    });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, provider)
        };
        let options = builder.options_mut();
        // All addresses of both families: each is checked.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = TIMEOUT;
        options.attempts = 2;
        let resolver = builder.build().map_err(unusable)?;
        Ok(Self { resolver: Arc::new(resolver), allowed })
    }

    /// All addresses of a name, each of which may be reached.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        let name = || host.to_owned();
        let found = self.resolver.lookup_ip(host).await.map_err(|error| {
            tracing::debug!(host, "lookup: {error}");
            match error {
                LookupError::Dns(DnsError::NoRecordsFound(none))
                    if matches!(
                        none.response_code,
                        ResponseCode::NXDomain | ResponseCode::NoError
                    ) =>
                {
                    NetError::HostNotFound { host: name() }
                }
                _ => NetError::LookupFailed { host: name() },
            }
        })?;
        let addresses: Vec<IpAddr> = found.iter().take(MAX_ADDRESSES + 1).collect();
        if addresses.is_empty() {
            return Err(NetError::HostNotFound { host: name() });
        }
        let sound = addresses.len() <= MAX_ADDRESSES
            && addresses.iter().all(|address| self.allowed.address(*address));
        if !sound {
            tracing::info!(host, ?addresses, "a host leads to addresses that are not allowed");
            return Err(NetError::AddressNotAllowed { host: name() });
        }
        Ok(addresses)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await?;
            // The client replaces the port.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
