//! Which addresses may be reached.
//!
//! The lists follow the IANA registries of special-purpose addresses (RFC 6890 and the
//! registries that it made) and are closed rather than open: of IPv6 only what is
//! delegated as global unicast (`2000::/3`) is public at all, minus what inside of it
//! is special. Forms that carry an IPv4 address in an IPv6 one (mapped, compatible,
//! 6to4, Teredo, NAT64) are refused whatever they carry: no host needs them, and
//! whoever translates them is a way around every other rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How an address is regarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody's.
    Public,
    /// Loopback, or a network of the operator's: reached only if the operator allows it.
    Private,
    /// Never reached: link-local, services of a cloud's own host, multicast, reserved,
    /// translated.
    Never,
}

/// Metadata and host services of clouds that lie outside of link-local ranges.
const METADATA_V4: [Ipv4Addr; 2] = [
    // Azure, inside of a public range.
    Ipv4Addr::new(168, 63, 129, 16),
    // Alibaba, inside of the range of carriers.
    Ipv4Addr::new(100, 100, 100, 200),
];

const METADATA_V6: [Ipv6Addr; 2] = [
    // Amazon
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Google
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Network, length of its prefix, how it is regarded; the first that holds an address
/// decides.
const V4: &[(Ipv4Addr, u32, Reach)] = &[
    // RFC 1918, private use
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reach::Private),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reach::Private),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reach::Private),
    // RFC 1122, loopback
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reach::Private),
    // RFC 6598, networks of carriers
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reach::Private),
    // RFC 791, this network
    (Ipv4Addr::UNSPECIFIED, 8, Reach::Never),
    // RFC 3927, link-local; 169.254.169.254 is the metadata of most clouds
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reach::Never),
    // RFC 6890, protocol assignments
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reach::Never),
    // RFC 5737, documentation
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reach::Never),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reach::Never),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reach::Never),
    // RFC 7526, relays of 6to4, retired
    (Ipv4Addr::new(192, 88, 99, 0), 24, Reach::Never),
    // RFC 7535, 7450: anycast services of name servers and multicast tunnels
    (Ipv4Addr::new(192, 31, 196, 0), 24, Reach::Never),
    (Ipv4Addr::new(192, 52, 193, 0), 24, Reach::Never),
    (Ipv4Addr::new(192, 175, 48, 0), 24, Reach::Never),
    // RFC 2544, benchmarks
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reach::Never),
    // RFC 5771, multicast
    (Ipv4Addr::new(224, 0, 0, 0), 4, Reach::Never),
    // RFC 1112, reserved, and broadcast
    (Ipv4Addr::new(240, 0, 0, 0), 4, Reach::Never),
];

const V6: &[(Ipv6Addr, u32, Reach)] = &[
    // RFC 4291, loopback
    (Ipv6Addr::LOCALHOST, 128, Reach::Private),
    // Amazon: metadata, and credentials of pods
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, Reach::Never),
    // RFC 4193, unique local
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Reach::Private),
    // RFC 2928: protocol assignments, with Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Reach::Never),
    // RFC 3849, RFC 9637: documentation
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Reach::Never),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Reach::Never),
    // RFC 3056, 6to4
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Reach::Never),
    // RFC 7534, anycast services of name servers
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, Reach::Never),
    // RFC 4291, global unicast
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Reach::Public),
    // All the rest: unspecified, mapped, compatible, NAT64 (RFC 6052, RFC 8215),
    // discard-only, segment routing, link-local, site-local, multicast, undelegated.
    (Ipv6Addr::UNSPECIFIED, 0, Reach::Never),
];

/// How an address is regarded.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => {
            if METADATA_V4.contains(&address) {
                return Reach::Never;
            }
            let bits = address.to_bits();
            V4.iter()
                .find(|(network, length, _)| {
                    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                    bits & mask == network.to_bits()
                })
                .map_or(Reach::Public, |(.., reach)| *reach)
        }
        IpAddr::V6(address) => {
            if METADATA_V6.contains(&address) {
                return Reach::Never;
            }
            let bits = address.to_bits();
            V6.iter()
                .find(|(network, length, _)| {
                    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                    bits & mask == network.to_bits()
                })
                .map_or(Reach::Never, |(.., reach)| *reach)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn all(expected: Reach, addresses: &[&str]) {
        for text in addresses {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn hosts_of_the_internet_are_public() {
        all(
            Reach::Public,
            &[
                "1.1.1.1",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "140.82.121.4",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "192.0.1.0",
                "192.167.255.255",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2001:200::1",
                "2001:4860:4860::8888",
                "2606:50c0:8000::153",
                "2a00:1450:4001::200e",
            ],
        );
    }

    #[test]
    fn networks_of_the_operator_are_private() {
        all(
            Reach::Private,
            &[
                "10.0.0.0",
                "10.255.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "127.0.0.1",
                "127.255.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.1",
                "::1",
                "fc00::1",
                "fdff:ffff::1",
            ],
        );
    }

    #[test]
    fn the_rest_is_never_reached() {
        all(
            Reach::Never,
            &[
                // unspecified, link-local, metadata
                "0.0.0.0",
                "0.255.255.255",
                "169.254.0.1",
                "169.254.169.254",
                "168.63.129.16",
                "100.100.100.200",
                "192.0.0.192",
                "fd00:ec2::254",
                "fd20:ce::254",
                "fe80::1",
                "fe80::a9fe:a9fe",
                // documentation, benchmarks, relays, multicast, reserved
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "192.88.99.1",
                "198.18.0.1",
                "198.19.255.255",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "2001:db8::1",
                "3fff::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "100::1",
                "5f00::1",
                "fec0::1",
                "ff02::1",
                "4000::1",
                // IPv4 in IPv6: unspecified, mapped, compatible, translated, 6to4,
                // Teredo, NAT64, NAT64 of a network's own
                "::",
                "::ffff:127.0.0.1",
                "::ffff:1.1.1.1",
                "::127.0.0.1",
                "::1.1.1.1",
                "::ffff:0:127.0.0.1",
                "2002:7f00:1::1",
                "2001::1",
                "2001:0:7f00:1::",
                "64:ff9b::7f00:1",
                "64:ff9b::1.1.1.1",
                "64:ff9b:1::a9fe:a9fe",
                "64:ff9b:1:ffff::1",
            ],
        );
    }
}
