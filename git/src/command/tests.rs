//! The parser, fed by hand.

use bytes::BytesMut;

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn lines(lines: &[&str]) -> BytesMut {
    let mut out = BytesMut::new();
    for text in lines {
        if text.is_empty() {
            pkt::flush(&mut out);
        } else {
            pkt::line(&mut out, text.as_bytes());
        }
    }
    out
}

fn parse(input: &[u8]) -> Result<(Request, usize), Error> {
    let mut parser = Parser::new(Limits::default(), Offered::default());
    let (used, _) = parser.feed(input)?;
    Ok((parser.into_request()?, used))
}

#[test]
fn capabilities_are_read_with_and_without_a_leading_space() {
    for space in ["", " "] {
        let input = lines(&[
            &format!(
                "{A} {B} refs/heads/main\0{space}report-status side-band-64k agent=git/2.47.3"
            ),
            "",
        ]);
        let (request, used) = parse(&input).unwrap();
        assert_eq!(used, input.len());
        assert_eq!(request.commands[0].name, "refs/heads/main");
        assert!(request.capabilities.report_status && request.capabilities.side_band);
        assert!(!request.capabilities.atomic);
        assert_eq!(request.capabilities.agent.as_deref(), Some("git/2.47.3"));
    }
}

#[test]
fn the_pack_begins_behind_the_flush_even_if_a_ref_is_called_pack() {
    let mut input = lines(&[
        &format!("{ZERO} {A} refs/heads/PACKAGE\0report-status\n"),
        &format!("{A} {ZERO} refs/heads/old\n"),
        "",
    ]);
    let section = input.len();
    input.extend_from_slice(b"PACK\0\0\0\x02");
    // Byte by byte, as a hostile network would deliver it.
    let mut parser = Parser::new(Limits::default(), Offered::default());
    let (mut start, mut done) = (0, false);
    for end in 0..=input.len() {
        let (used, finished) = parser.feed(&input[start..end]).unwrap();
        start += used;
        done |= finished;
    }
    assert!(done);
    assert_eq!(start, section);
    let request = parser.into_request().unwrap();
    assert_eq!(request.commands.len(), 2);
    assert!(request.commands[0].creates());
    assert!(request.commands[1].deletes());
    assert!(request.expects_pack());
}

#[test]
fn shallow_lines_and_options_are_collected() {
    let input = lines(&[
        &format!("shallow {A}"),
        &format!("{ZERO} {B} refs/heads/main\0 push-options atomic quiet report-status-v2"),
        "",
        "wait",
        "project=a b",
        "",
    ]);
    let (request, used) = parse(&input).unwrap();
    assert_eq!(used, input.len());
    assert_eq!(request.shallow.len(), 1);
    assert_eq!(request.options, ["wait", "project=a b"]);
    assert!(request.capabilities.atomic && request.capabilities.quiet);
}

#[test]
fn nonsense_is_refused() {
    let first = format!("{ZERO} {A} refs/heads/a\0report-status");
    for (bad, error) in [
        (vec!["hello\0report-status", ""], Error::Malformed),
        (vec![&format!("{A} {B} refs/heads/a"), ""], Error::NoCapabilities),
        (vec![&first, &format!("{A}  {B} x"), ""], Error::Malformed),
        (vec![&first, &format!("{A} {B} "), ""], Error::Malformed),
        (vec!["shallow abc", ""], Error::MalformedShallow),
        (vec!["push-cert\0report-status", ""], Error::PushCertificate),
        (vec![&first], Error::Unfinished),
        (
            vec![&format!("{ZERO} {A} refs/heads/a\0object-format=sha256"), ""],
            Error::ObjectFormat { client: "sha256".into(), server: gix_hash::Kind::Sha1 },
        ),
    ] {
        assert_eq!(parse(&lines(&bad)), Err(error), "{bad:?}");
    }
    assert_eq!(parse(b"0004"), Err(Error::Packet(pkt::Error::BadLength(4))));
}

#[test]
fn a_signed_push_has_its_commands_in_the_certificate() {
    let nonces = Nonces::new("s", "r", std::time::Duration::ZERO);
    let offered = Offered { certificates: Some(nonces), ..Offered::default() };
    let parse = |text: &[&str]| {
        let mut parser = Parser::new(Limits::default(), offered.clone());
        parser.feed(&lines(text)).map(drop)?;
        parser.into_request()
    };
    let command = format!("{ZERO} {A} refs/heads/a\n");
    let certificate = [
        "push-cert\0report-status push-options",
        "certificate version 0.1\n",
        "pusher A <a@b> 1 +0000\n",
        "nonce 1-a\n",
        "push-option x\n",
        "\n",
        &command,
        "-----BEGIN SSH SIGNATURE-----\n",
        "push-cert-end\n",
    ];
    let request = parse(&[&certificate[..], &["", "x", ""]].concat()).unwrap();
    assert_eq!(request.commands.len(), 1);
    assert_eq!(request.certificate.unwrap().pusher, "A <a@b> 1 +0000");
    for (rest, error) in [
        (vec!["", "y", ""], Error::InconsistentOptions),
        (vec![command.as_str()], Error::CertificateAndCommands),
        (vec![""], Error::Unfinished),
    ] {
        assert_eq!(parse(&[&certificate[..], &rest].concat()), Err(error));
    }
    let cut = [&certificate[..6], &[""]].concat();
    assert_eq!(parse(&cut), Err(Error::MalformedCertificate));
    let first = [format!("{ZERO} {A} refs/heads/b\0report-status"), "push-cert".into()];
    assert_eq!(parse(&[&first[0], &first[1]]), Err(Error::CertificateAndCommands));
}

#[test]
fn a_push_that_is_refused_anyway_is_read_whatever_it_is() {
    let id = "a".repeat(64);
    let zero = "0".repeat(64);
    let command = format!("{zero} {id} refs/heads/a");
    let with = |first: &[&str]| {
        let mut parser = Parser::new(Limits::default(), Offered::anything());
        parser.feed(&lines(&[first, &[""]].concat())).unwrap();
        parser.into_request().unwrap().commands.len()
    };
    let plain = format!("{command}\0report-status object-format=sha256");
    assert_eq!(with(&[&plain]), 1);
    let signed =
        ["push-cert\0object-format=sha256", "certificate version 0.1\n", "pusher a\n", "\n"];
    assert_eq!(with(&[&signed[..], &[&format!("{command}\n"), "push-cert-end\n"]].concat()), 1);
}

#[test]
fn every_limit_holds() {
    let limits = Limits { commands: 1, shallow: 1, options: 1, option_bytes: 4, bytes: 400 };
    let first = format!("{ZERO} {A} refs/heads/a\0push-options");
    let shallow = format!("shallow {A}");
    for (bad, error) in [
        (vec![first.as_str(), &format!("{ZERO} {A} refs/heads/b")], Error::TooManyCommands(1)),
        (vec![&shallow, &shallow], Error::TooManyShallow(1)),
        (vec![&first, "", "a", "b"], Error::TooManyOptions(1)),
        (vec![&first, "", "abcde"], Error::OptionTooLong(4)),
        (vec![&format!("{ZERO} {A} refs/heads/{}\0", "x".repeat(400))], Error::TooLong(400)),
    ] {
        assert_eq!(
            Parser::new(limits, Offered::default()).feed(&lines(&bad)),
            Err(error),
            "{bad:?}"
        );
    }
}

#[test]
fn damaged_certificates_never_break_the_parser() {
    let good = lines(&[
        "push-cert\0 report-status push-options",
        "certificate version 0.1\n",
        "pusher A <a@b> 1 +0000\n",
        "nonce 1-a\n",
        "push-option x\n",
        "\n",
        &format!("{ZERO} {B} refs/heads/main\n"),
        "-----BEGIN PGP SIGNATURE-----\n",
        "push-cert-end\n",
        "",
        "x",
        "",
    ]);
    let nonces = Nonces::new("s", "r", std::time::Duration::ZERO);
    let offered = Offered { certificates: Some(nonces), ..Offered::default() };
    let read = |input: &[u8]| {
        let mut parser = Parser::new(Limits::default(), offered.clone());
        if let Ok((used, _)) = parser.feed(input) {
            assert!(used <= input.len());
        }
        parser.into_request()
    };
    assert_eq!(read(&good).unwrap().commands.len(), 1);
    for at in 0..good.len() {
        for byte in [0, b'0', b'f', b' ', b'\n', b'-', 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            if let Ok(request) = read(&bad) {
                // Whatever was changed, what is signed is what is done.
                let payload = request.certificate.map(|it| it.payload().to_vec());
                let payload = String::from_utf8_lossy(&payload.unwrap_or_default()).into_owned();
                assert!(request.commands.iter().all(|it| payload.contains(&it.name)));
            }
        }
        let _ = read(&good[..at]);
    }
    let limits = Limits { bytes: 120, ..Limits::default() };
    assert_eq!(Parser::new(limits, offered).feed(&good), Err(Error::TooLong(120)));
}

#[test]
fn damaged_sections_never_break_the_parser() {
    let good = lines(&[
        &format!("shallow {A}"),
        &format!("{ZERO} {B} refs/heads/main\0 push-options atomic"),
        &format!("{A} {ZERO} refs/heads/old"),
        "",
        "wait",
        "",
    ]);
    for at in 0..good.len() {
        for byte in [0, b'0', b'f', b' ', b'\n', 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let mut parser = Parser::new(Limits::default(), Offered::default());
            if let Ok((used, _)) = parser.feed(&bad) {
                assert!(used <= bad.len());
            }
            let _ = parser.into_request();
        }
    }
}
