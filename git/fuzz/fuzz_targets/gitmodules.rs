//! `.gitmodules`, and names that some file system folds into `.git`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_git::odd;

fuzz_target!(|data: &[u8]| {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    odd::submodules(data, |_, line, _| assert!((1..=lines).contains(&line)));
    let _ = (odd::name(data, false), odd::name(data, true));
    sluice_git::fuzzing::files(data);
});
