//! pkt-lines: every packet that is read is what was written, and nothing is read twice.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sluice_git::pkt::{self, Packet};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((packet, length))) = pkt::decode(rest) {
        assert!((4..=rest.len()).contains(&length));
        let mut again = BytesMut::new();
        match packet {
            Packet::Line(line) if !line.is_empty() => {
                pkt::line(&mut again, line);
                let Ok(Some((Packet::Line(read), _))) = pkt::decode(&again) else {
                    panic!("a line that was read cannot be written");
                };
                assert_eq!(read, line);
            }
            Packet::Line(_) => {}
            Packet::Flush => pkt::flush(&mut again),
        }
        rest = &rest[length..];
    }
});
