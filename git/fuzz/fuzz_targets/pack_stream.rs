//! A pack as bytes: measured while it arrives, however it is cut, and never believed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_git::firewall::{Limits, Scanner};

fn limits() -> Limits {
    Limits { objects: 1000, object_bytes: 1 << 20, inflated_bytes: 8 << 20, ..Limits::default() }
}

fn scan(data: &[u8], step: usize) -> (Result<(), String>, u32, bool) {
    let mut scanner = Scanner::new(limits());
    for chunk in data.chunks(step) {
        if let Err(violation) = scanner.feed(chunk) {
            return (Err(violation.to_string()), scanner.objects(), false);
        }
    }
    assert!(scanner.inflated_bytes() <= limits().inflated_bytes);
    (Ok(()), scanner.objects(), scanner.is_done())
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    // What is refused may be seen a chunk later; what is taken is the same.
    let (whole, objects, done) = scan(data, data.len().max(1));
    let (cut, cut_objects, cut_done) = scan(data, usize::from(*first) + 1);
    assert_eq!(whole.is_ok(), cut.is_ok());
    if whole.is_ok() {
        assert_eq!((objects, done), (cut_objects, cut_done));
    }
});
