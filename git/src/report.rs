//! The answer to a push: `report-status` in both versions, in the frame that the client asked for.
//!
//! ```text
//! unpack ok\n            or: unpack <reason>\n
//! ok <ref>\n             or: ng <ref> <reason>\n      one for each command, in order
//! option ...\n           version 2 only, below its ok
//! 0000
//! ```
//!
//! With `side-band-64k` the whole of that goes into band 1 (one packet if it fits, since old clients
//! misread split ones) and a second, outer flush ends the answer. Without it, it stands alone. A
//! client that asked for no report gets the flush only. Both flushes matter: without the inner one
//! git says that the remote hung up, without the outer one it fails after showing success.

use bytes::{Bytes, BytesMut};

use crate::{
    command::{Capabilities, Command},
    pkt::{self, Band},
    remote::CommandOutcome,
};

/// Builds the last bytes of the answer, flushes included.
///
/// `unpack` is the reason why the pack was not taken, if it was not.
pub(crate) fn encode(
    capabilities: &Capabilities,
    unpack: Option<&str>,
    commands: &[Command],
    outcomes: &[CommandOutcome],
) -> Bytes {
    let mut out = BytesMut::new();
    if capabilities.report_status || capabilities.report_status_v2 {
        let report = lines(capabilities.report_status_v2, unpack, commands, outcomes);
        if capabilities.side_band {
            pkt::band(&mut out, Band::Data, &report);
        } else {
            return report.freeze();
        }
    }
    pkt::flush(&mut out);
    out.freeze()
}

/// The answer to a request that cannot be understood well enough for a report: band 3, which git
/// prints before it ends.
pub(crate) fn fatal(message: &str) -> Bytes {
    let mut out = BytesMut::new();
    pkt::band(&mut out, Band::Fatal, format!("{}\n", one_line(message)).as_bytes());
    pkt::flush(&mut out);
    out.freeze()
}

fn lines(
    version_2: bool,
    unpack: Option<&str>,
    commands: &[Command],
    outcomes: &[CommandOutcome],
) -> BytesMut {
    let mut out = BytesMut::new();
    let unpack = unpack.map_or_else(|| "ok".to_owned(), one_line);
    pkt::line(&mut out, format!("unpack {unpack}\n").as_bytes());
    for (at, command) in commands.iter().enumerate() {
        // A name may be as long as a pkt-line; the reason has to stay behind it.
        let name: String = command.name.chars().filter(|c| !c.is_control()).take(8192).collect();
        match outcomes.get(at) {
            Some(CommandOutcome::Done) => pkt::line(&mut out, format!("ok {name}\n").as_bytes()),
            Some(CommandOutcome::Renamed { name: to }) => {
                pkt::line(&mut out, format!("ok {name}\n").as_bytes());
                if version_2 {
                    pkt::line(&mut out, format!("option refname {}\n", one_line(to)).as_bytes());
                }
            }
            Some(CommandOutcome::Rejected(why)) => {
                pkt::line(&mut out, format!("ng {name} {}\n", one_line(why)).as_bytes());
            }
            // Git calls a ref without a line "remote failed to report status"; this is clearer.
            None => pkt::line(&mut out, format!("ng {name} not processed\n").as_bytes()),
        }
    }
    pkt::flush(&mut out);
    out
}

/// A reason is one line of the report, whatever it was made from.
fn one_line(text: &str) -> String {
    let flat: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
    flat.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use gix_hash::ObjectId;

    use super::*;

    fn commands() -> Vec<Command> {
        let null = ObjectId::null(gix_hash::Kind::Sha1);
        ["refs/heads/a", "refs/heads/b"]
            .map(|name| Command { old: null, new: null, name: name.into() })
            .to_vec()
    }

    fn outcomes() -> Vec<CommandOutcome> {
        vec![
            CommandOutcome::Renamed { name: "refs/heads/z".into() },
            CommandOutcome::Rejected("no\nway".into()),
        ]
    }

    const V1: &[u8] = b"000eunpack ok\n0014ok refs/heads/a\n001bng refs/heads/b no way\n0000";

    #[test]
    fn version_1_without_bands_has_one_flush() {
        let capabilities = Capabilities { report_status: true, ..Default::default() };
        assert_eq!(&encode(&capabilities, None, &commands(), &outcomes())[..], V1);
    }

    #[test]
    fn bands_hold_the_report_and_an_outer_flush_follows() {
        let capabilities =
            Capabilities { report_status: true, side_band: true, ..Default::default() };
        let body = encode(&capabilities, None, &commands(), &outcomes());
        let length = format!("{:04x}\x01", V1.len() + 5);
        assert_eq!(&body[..], [length.as_bytes(), V1, b"0000"].concat());
    }

    #[test]
    fn version_2_carries_options() {
        let capabilities = Capabilities { report_status_v2: true, ..Default::default() };
        let body = encode(&capabilities, Some("bad pack"), &commands(), &outcomes());
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.starts_with("0014unpack bad pack\n"), "{text}");
        assert!(text.contains("ok refs/heads/a\n0020option refname refs/heads/z\n"), "{text}");
    }

    #[test]
    fn without_a_report_only_the_flush_remains() {
        assert_eq!(&encode(&Capabilities::default(), None, &commands(), &outcomes())[..], b"0000");
    }
}
