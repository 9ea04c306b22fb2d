//! What a client of a fetch asks for, in both protocols.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sluice_git::fuzzing::fetch_request(data));
