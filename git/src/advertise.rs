//! The ref advertisement: what a client reads before it pushes.
//!
//! ```text
//! 001f# service=git-receive-pack\n 0000
//! [version 1\n]                                    only if the client asked for it
//! <oid> .have\n                                   what alternates have; never for most
//! <oid> <ref>\0<capabilities>\n                    refs in byte order
//! <oid> <ref>\n
//! [shallow <oid>]                                  one for each commit without its parents
//! 0000
//! ```
//!
//! An empty repository says `capabilities^{}` with an id of zeros. `HEAD` and peeled tags are not
//! listed to a pusher. Version 2 has no push: a client that asks for it is answered as version 0.
//! ([gitprotocol-http](https://git-scm.com/docs/gitprotocol-http#_smart_server_response))

use bytes::{Bytes, BytesMut};
use gix_hash::ObjectId;

use crate::{command::Offered, pkt, refs::Ref};

/// Who we are in `agent=`: printable, without spaces.
pub const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// Every capability here is kept: what is advertised is what the tests prove.
/// `no-thin` is left out on purpose, so clients send thin packs, which are completed here.
pub(crate) fn capabilities(offered: &Offered, session: &str) -> String {
    let atomic = if offered.atomic { " atomic" } else { "" };
    let options = if offered.push_options { " push-options" } else { "" };
    let certificates = offered.certificates.as_ref();
    let certificates =
        certificates.map(|nonces| format!(" push-cert={}", nonces.current())).unwrap_or_default();
    // The one that a client takes which reads only one of them comes first.
    let formats = if offered.either {
        "object-format=sha1 object-format=sha256".to_owned()
    } else {
        format!("object-format={}", offered.hash)
    };
    format!(
        "report-status report-status-v2 delete-refs side-band-64k quiet{atomic} ofs-delta\
         {options}{certificates} {formats} agent={AGENT} session-id={session}"
    )
}

/// Whether a client is known to understand an advertisement with two object formats, by its
/// `User-Agent`: git since 2.41. Some other clients take the repetition for an error.
pub(crate) fn bears_two_formats(user_agent: Option<&str>) -> bool {
    let version = user_agent.and_then(|agent| agent.strip_prefix("git/"));
    let mut numbers = version.unwrap_or_default().split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (2, 41)
}

/// The body of `GET info/refs?service=git-receive-pack`. `refs` must be sorted by name; `haves` are
/// objects that need not be sent although no ref here points to them.
pub(crate) fn receive_pack(
    offered: &Offered,
    refs: &[Ref],
    haves: &[ObjectId],
    shallow: &[ObjectId],
    version_1: bool,
    session: &str,
) -> Bytes {
    let names: usize = refs.iter().map(|reference| reference.name.len() + 46).sum();
    let mut out = BytesMut::with_capacity(512 + names + shallow.len() * 53);
    pkt::line(&mut out, b"# service=git-receive-pack\n");
    pkt::flush(&mut out);
    if version_1 {
        pkt::line(&mut out, b"version 1\n");
    }
    let capabilities = capabilities(offered, session);
    let mut payload = Vec::with_capacity(512);
    let mut hex = [0; 64];
    // Git lists what is here by other names first.
    let lines = haves.iter().map(|id| (id, ".have"));
    let lines = lines.chain(refs.iter().map(|reference| (&reference.id, reference.name.as_str())));
    for (position, (id, name)) in lines.enumerate() {
        payload.clear();
        let digits = id.hex_to_buf(&mut hex).len();
        payload.extend_from_slice(hex.get(..digits).unwrap_or_default());
        payload.push(b' ');
        payload.extend_from_slice(name.as_bytes());
        if position == 0 {
            payload.push(0);
            payload.extend_from_slice(capabilities.as_bytes());
        }
        payload.push(b'\n');
        pkt::line(&mut out, &payload);
    }
    if refs.is_empty() && haves.is_empty() {
        let zero = ObjectId::null(offered.hash);
        pkt::line(&mut out, format!("{zero} capabilities^{{}}\0{capabilities}\n").as_bytes());
    }
    for root in shallow {
        pkt::line(&mut out, format!("shallow {root}").as_bytes());
    }
    pkt::flush(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_repository_says_capabilities() {
        let body = receive_pack(&Offered::default(), &[], &[], &[], false, "s");
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.starts_with("001f# service=git-receive-pack\n0000"), "{text}");
        let zero = "0".repeat(40);
        assert!(text.contains(&format!("{zero} capabilities^{{}}\0report-status ")), "{text}");
        assert!(text.ends_with("session-id=s\n0000"));
    }

    #[test]
    fn refs_then_shallow_then_flush() {
        let id = ObjectId::from_hex(&[b'a'; 40]).unwrap();
        let reference = |name: &str| Ref { name: name.into(), id };
        let refs = [reference("refs/heads/a"), reference("refs/heads/b")];
        let body = receive_pack(&Offered::default(), &refs, &[], &[id], true, "s");
        let text = String::from_utf8(body.to_vec()).unwrap();
        let a = "a".repeat(40);
        assert!(text.contains("0000000eversion 1\n"));
        assert!(text.contains(&format!("{a} refs/heads/a\0report-status")));
        assert!(text.ends_with(&format!("003a{a} refs/heads/b\n0034shallow {a}0000")), "{text}");
    }

    #[test]
    fn two_formats_are_offered_to_those_who_bear_them() {
        for (agent, bears) in [
            ("git/2.41.0", true),
            ("git/2.47.3 (Apple Git-1)", true),
            ("git/3.0.0", true),
            ("git/2.39.5", false),
            ("git/2.x", false),
            ("git/", false),
            ("go-git/5.4", false),
            ("JGit/4.11", false),
        ] {
            assert_eq!(bears_two_formats(Some(agent)), bears, "{agent}");
        }
        assert!(!bears_two_formats(None));
        let offered = Offered { either: true, ..Offered::default() };
        let body = receive_pack(&offered, &[], &[], &[], false, "s");
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains(&format!("{} capabilities^", "0".repeat(40))), "{text}");
        assert!(text.contains(" object-format=sha1 object-format=sha256 "), "{text}");
    }

    #[test]
    fn what_is_offered_is_said() {
        let nonces = crate::certificate::Nonces::new("s", "r", std::time::Duration::ZERO);
        let offered = Offered {
            hash: gix_hash::Kind::Sha256,
            atomic: false,
            push_options: false,
            certificates: Some(nonces),
            ..Offered::default()
        };
        let id = ObjectId::null(offered.hash);
        let body = receive_pack(&offered, &[], &[id], &[], false, "s");
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains(&format!("{} .have\0report-status", "0".repeat(64))), "{text}");
        assert!(text.contains(" object-format=sha256 ") && text.contains(" push-cert=1"));
        assert!(!text.contains("atomic") && !text.contains("push-options"));
    }
}
