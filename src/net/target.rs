//! The form of an address, before anything is looked up.
//!
//! A URL is accepted only as people write it: what one parser reads as `127.0.0.1` and
//! another as a name (`0x7f.1`, `2130706433`, `127.1`, full-width digits, percent signs)
//! is refused, so that no two programs can read it differently.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::{Reach, reach};
use super::error::NetError;

/// Longest URL that is taken, bytes.
pub const MAX_URL: usize = 2048;

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// `http://` besides `https://`.
    pub http: bool,
    /// Loopback and private networks.
    pub private: bool,
}

impl Allowed {
    /// Whether an address may be reached.
    pub fn address(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Never => false,
        }
    }

    /// Checks the form of a URL, and the address if the host is one.
    ///
    /// # Errors
    ///
    /// [`NetError::UrlNotAllowed`], [`NetError::AddressNotAllowed`].
    pub fn check_url(self, text: &str) -> Result<Url, NetError> {
        let raw_host = raw_host(text)?;
        let url = Url::parse(text)
            .map_err(|error| refuse(format!("This is not a URL that can be used: {error}.")))?;
        // The host must be what is written, not what some parser makes of it.
        let canonical = match url.host() {
            Some(Host::Ipv4(address)) => raw_host == address.to_string(),
            Some(Host::Ipv6(address)) => raw_host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse() == Ok(address)),
            Some(Host::Domain(name)) => {
                name_is_sound(name) && (!raw_host.is_ascii() || raw_host.eq_ignore_ascii_case(name))
            }
            None => false,
        };
        if !canonical {
            return Err(refuse(
                "Write the host as a plain name such as `example.com`, or as a plain address."
                    .into(),
            ));
        }
        self.check_parsed(&url)?;
        Ok(url)
    }

    /// Checks what a parsed URL says: for one that was built by us from a checked one, or
    /// that came as a redirect and was checked as text.
    pub(super) fn check_parsed(self, url: &Url) -> Result<(), NetError> {
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            "http" => {
                return Err(refuse(
                    "Only https:// is allowed; the operator can allow http:// with \
                     SLUICE_ALLOW_HTTP_URLS."
                        .into(),
                ));
            }
            _ => return Err(refuse("The URL must start with https://.".into())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(
                "The URL must not hold a user name or password; use `credentials` instead.".into(),
            ));
        }
        match url.port_or_known_default() {
            // Below 1024 live services that take a request for commands of their own.
            Some(80 | 443 | 1024..) => {}
            _ => {
                return Err(refuse("The port must be 80, 443, or 1024 to 65535.".into()));
            }
        }
        if let Some(address) = literal(url)
            && !self.address(address)
        {
            return Err(NetError::AddressNotAllowed { host: host(url) });
        }
        Ok(())
    }
}

fn refuse(why: String) -> NetError {
    NetError::UrlNotAllowed(why)
}

/// The address that stands in a URL in place of a name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// The host as a user knows it, for messages.
pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// The host as it is written, without a port.
fn raw_host(text: &str) -> Result<&str, NetError> {
    if text.len() > MAX_URL {
        return Err(refuse(format!("The URL is longer than {MAX_URL} bytes.")));
    }
    // Parsers drop some of these, and take a backslash for a slash.
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(refuse(
            "The URL must not hold spaces, control characters or backslashes.".into(),
        ));
    }
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| {
            scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
        })
        .map(|(_, rest)| rest)
        .ok_or_else(|| refuse("The URL must start with https://.".into()))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(refuse(
            "The URL must not hold a user name or password; use `credentials` instead.".into(),
        ));
    }
    let host = if authority.starts_with('[') {
        authority.find(']').map_or(authority, |end| &authority[..=end])
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    if host.is_empty() {
        return Err(refuse("The URL names no host.".into()));
    }
    Ok(host)
}

/// A name as RFC 1123 has it, in ASCII, without a dot at its end; an underscore is let
/// pass, as hosts have it in practice.
fn name_is_sound(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Allowed = Allowed { http: false, private: false };
    const HOME: Allowed = Allowed { http: true, private: true };

    #[test]
    fn what_people_write_is_taken() {
        for text in [
            "https://example.com/group/name.git",
            "https://EXAMPLE.com",
            "https://example.com:8443/a?b=c",
            "https://1.1.1.1/x",
            "https://[2606:4700::1111]/x",
            "https://xn--bcher-kva.example/x",
            "https://b\u{fc}cher.example/x",
            "https://under_score.example/",
        ] {
            assert!(PUBLIC.check_url(text).is_ok(), "{text}: {:?}", PUBLIC.check_url(text));
        }
        assert!(PUBLIC.check_url("http://example.com/").is_err());
        for text in ["http://127.0.0.1:8080/x", "http://[::1]:3000/", "http://git/x"] {
            assert!(HOME.check_url(text).is_ok(), "{text}: {:?}", HOME.check_url(text));
        }
    }

    #[test]
    fn what_parsers_read_differently_is_refused_even_where_all_networks_are_allowed() {
        for text in [
            "",
            "example.com",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            "//example.com/x",
            "file:///etc/passwd",
            "ssh://example.com/x",
            "git://example.com/x",
            "ftp://example.com/x",
            "gopher://example.com/x",
            "https://",
            "https://:443/",
            // numbers that some read as addresses
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.1/",
            "https://127.0.0.1./",
            "https://127.000.000.001/",
            "https://\u{ff11}27.0.0.1/",
            "https://127\u{3002}0\u{3002}0\u{3002}1/",
            "https://\u{2460}\u{2461}\u{2466}.0.0.1/",
            "https://%31%32%37.0.0.1/",
            // names with more in them
            "https://example.com./",
            "https://.example.com/",
            "https://a..b/",
            "https://exa%6dple.com/",
            "https://-a.example/",
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://@example.com/",
            "https://example.com@127.0.0.1/",
            "https://example.com\\@127.0.0.1/",
            "https://127.0.0.1\\.example.com/",
            "https://example.com\t.evil/",
            "https://example.com\n/",
            " https://example.com/",
            "https://exa mple.com/",
            "https://example.com/\0",
            // zones, mapped and half addresses
            "https://[fe80::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::127.0.0.1]/",
            "https://[::1/",
            "https://[]/",
            "https://[v1.x]/",
            // ports
            "https://example.com:0/",
            "https://example.com:22/",
            "https://example.com:25/",
            "https://example.com:99999/",
            "https://example.com:x/",
            // never, whatever is allowed
            "https://169.254.169.254/latest/meta-data/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://224.0.0.1/",
        ] {
            assert!(HOME.check_url(text).is_err(), "{text:?} was accepted");
        }
        assert!(HOME.check_url(&format!("https://example.com/{}", "x".repeat(MAX_URL))).is_err());
    }

    #[test]
    fn private_addresses_are_refused_by_default() {
        for text in [
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://192.168.1.1/",
            "https://172.16.0.1/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://[fd12::1]/",
        ] {
            let error = PUBLIC.check_url(text).unwrap_err();
            assert_eq!(error.code(), "address_not_allowed", "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_not_repeated() {
        let error = PUBLIC.check_url("https://user:hunter2@example.com/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("credentials"), "{error}");
    }
}
