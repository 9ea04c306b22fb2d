//! Whatever is changed in an archive, the answer is a verdict: no panic, no hang, no
//! escape from the scratch folder.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn samples() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        "git init -q -b main r; cd r; seq 500 > a; mkdir s; ln -s ../a s/l; git add .; \
         git commit -qm 1; git gc -q; echo 2 >> a; git commit -qam 2; rm -rf .git/hooks; cd ..; \
         tar --format=gnu -cf 1 r; tar --format=pax -czf 2 r/a r/s; tar -cJf 3 r/a r/s; \
         tar -cjf 4 r/a r/s; tar -cf - r/a r/s | zstd -q > 5; zip -qry 6.zip r/a r/s r/.git; \
         zip -qr -fz 7.zip r/a; zip -q -Z bzip2 8.zip r/a",
    );
    ["1", "2", "3", "4", "5", "6.zip", "7.zip", "8.zip"]
        .iter()
        .map(|name| std::fs::read(dir.path().join(name)).unwrap())
        .collect()
}

#[test]
fn mutated_archives_never_panic() {
    let limits = Limits {
        total_bytes: 8 << 20,
        free_bytes: 8 << 20,
        file_bytes: 4 << 20,
        entries: 1000,
        ..Limits::default()
    };
    let mut random = StdRng::seed_from_u64(0x5eed);
    let (mut taken, mut refused) = (0, 0);
    for sample in samples() {
        for _ in 0..60 {
            let mut bytes = sample.clone();
            for _ in 0..random.random_range(1..6) {
                let length = bytes.len();
                // Headers are at the ends, so these are hit more often.
                let at = match random.random_range(0..3) {
                    0 => random.random_range(0..length.min(600)),
                    1 => length - 1 - random.random_range(0..length.min(600)),
                    _ => random.random_range(0..length),
                };
                match random.random_range(0..5) {
                    0 => bytes[at] = random.random(),
                    1 => bytes[at] ^= 1 << random.random_range(0..8),
                    2 => bytes[at] = 0xff,
                    3 => bytes.truncate(at.max(1)),
                    _ => {
                        let from = random.random_range(0..length);
                        let count = random.random_range(0..64).min(length - from.max(at));
                        bytes.copy_within(from..from + count, at);
                    }
                }
            }
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("input");
            let scratch = dir.path().join("scratch");
            std::fs::create_dir(&scratch).unwrap();
            std::fs::write(&file, &bytes).unwrap();
            match import(&file, &scratch, &limits, &Cancel::new()) {
                Ok(_) => taken += 1,
                Err(error) => {
                    refused += 1;
                    assert!(!matches!(error, ArchiveError::Io(_)), "{error}");
                }
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "only what was there");
        }
    }
    assert!(taken > 0 && refused > 100, "{taken} {refused}");
}
