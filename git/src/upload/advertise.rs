//! What a client reads before it fetches: in versions 0 and 1 the refs, in version 2 what the server
//! can do.
//! ([gitprotocol-http](https://git-scm.com/docs/gitprotocol-http#_smart_server_response))

use std::sync::atomic::AtomicBool;

use bytes::{BufMut as _, Bytes, BytesMut};
use gix_hash::ObjectId;

use super::{Error, peeled::Peeler, view::View};
use crate::{
    advertise::AGENT,
    pkt,
    remote::{FetchPolicy, Unborn, Wants},
};

/// The version of the protocol that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0,
    V1,
    V2,
}

impl Version {
    /// The highest that the `Git-Protocol` header names; it is a list with colons in between.
    pub fn of(header: Option<&str>) -> Self {
        let named = header.unwrap_or_default().split(':').filter_map(|item| match item {
            "version=2" => Some(Self::V2),
            "version=1" => Some(Self::V1),
            _ => None,
        });
        named.max().unwrap_or(Self::V0)
    }

    /// A version that is not spoken here is answered as the oldest one.
    pub fn at_most(self, policy: &FetchPolicy) -> Self {
        if self as u8 <= policy.max_version { self } else { Self::V0 }
    }
}

/// The capabilities of version 2. Only those that are kept: the tests use each.
pub(super) fn version_2(policy: &FetchPolicy, hash: gix_hash::Kind, session: &str) -> Bytes {
    let mut out = BytesMut::new();
    let unborn = if policy.unborn == Unborn::Advertised { "=unborn" } else { "" };
    let filter = if policy.filter { " filter" } else { "" };
    let ref_in_want = if policy.ref_in_want { " ref-in-want" } else { "" };
    for line in [
        "version 2\n".to_owned(),
        format!("agent={AGENT}\n"),
        format!("ls-refs{unborn}\n"),
        format!("fetch=shallow wait-for-done{filter}{ref_in_want} sideband-all\n"),
        "server-option\n".to_owned(),
        format!("object-format={hash}\n"),
        "object-info\n".to_owned(),
        format!("session-id={session}\n"),
    ] {
        pkt::line(&mut out, line.as_bytes());
    }
    pkt::flush(&mut out);
    out.freeze()
}

/// The refs with the capabilities of versions 0 and 1. Blocking, since tags are looked at.
pub(super) fn refs(
    view: &View,
    version: Version,
    session: &str,
    cancel: &AtomicBool,
) -> Result<Bytes, Error> {
    let names: usize = view.refs.iter().map(|reference| reference.name.len() + 46).sum();
    let mut out = BytesMut::with_capacity(1024 + names + view.shallow.len() * 53);
    pkt::line(&mut out, b"# service=git-upload-pack\n");
    pkt::flush(&mut out);
    if version == Version::V1 {
        pkt::line(&mut out, b"version 1\n");
    }
    let mut list = List { out, capabilities: Some(capabilities(view, session)) };
    if let Some(id) = view.head_id() {
        list.add(&id, "HEAD");
    }
    let mut peeler = Peeler::new(view, cancel);
    for reference in &view.refs {
        list.add(&reference.id, &reference.name);
        if View::may_be_tag(reference)
            && let Some(id) = peeler.peel(&reference.id)?
        {
            list.add(&id, &format!("{}^{{}}", reference.name));
        }
    }
    if list.capabilities.is_some() {
        list.add(&ObjectId::null(view.hash), "capabilities^{}");
    }
    let mut out = list.out;
    for root in &view.shallow {
        pkt::line(&mut out, format!("shallow {root}").as_bytes());
    }
    pkt::flush(&mut out);
    Ok(out.freeze())
}

struct List {
    out: BytesMut,
    /// Until the first line was written.
    capabilities: Option<String>,
}

impl List {
    fn add(&mut self, id: &ObjectId, name: &str) {
        let mut line = BytesMut::with_capacity(name.len() + 512);
        let mut hex = [0; 64];
        let digits = id.hex_to_buf(&mut hex).len();
        line.put_slice(&hex[..digits]);
        line.put_u8(b' ');
        line.put_slice(name.as_bytes());
        if let Some(capabilities) = self.capabilities.take() {
            line.put_u8(0);
            line.put_slice(capabilities.as_bytes());
        }
        line.put_u8(b'\n');
        pkt::line(&mut self.out, &line);
    }
}

fn capabilities(view: &View, session: &str) -> String {
    let mut list = String::from(
        "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
         deepen-relative no-progress include-tag multi_ack_detailed no-done",
    );
    if view.policy.hidden_tips || view.policy.wants != Wants::Tips {
        list.push_str(" allow-tip-sha1-in-want");
    }
    if view.policy.wants != Wants::Tips {
        list.push_str(" allow-reachable-sha1-in-want");
    }
    if let (Some(_), Some(branch)) = (view.head_id(), view.head_branch()) {
        list.push_str(&format!(" symref=HEAD:{branch}"));
    }
    if view.policy.filter {
        list.push_str(" filter");
    }
    list.push_str(&format!(" object-format={} agent={AGENT} session-id={session}", view.hash));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_counts() {
        assert_eq!(Version::of(Some("version=1:version=2:x")), Version::V2);
        assert_eq!(Version::of(Some("version=1")), Version::V1);
        assert_eq!(Version::of(Some("version=3")), Version::V0);
        assert_eq!(Version::of(None), Version::V0);
        let policy = FetchPolicy { max_version: 1, ..FetchPolicy::default() };
        assert_eq!(Version::V2.at_most(&policy), Version::V0);
        assert_eq!(Version::V1.at_most(&policy), Version::V1);
    }
}
