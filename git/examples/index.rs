//! Indexes a pack file as a push would and says how long it took.
//!
//! `cargo run --release -p sluice-git --example index -- FILE.pack OBJECTS_DIR`

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use sluice_git::{firewall::Limits, import};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(pack), Some(objects)) = (arguments.next(), arguments.next()) else {
        return Err("usage: index FILE.pack OBJECTS_DIR".into());
    };
    let started = Instant::now();
    let limits = Limits { resolved_ratio: u64::MAX, ..Limits::default() };
    let imported = import::import(&[pack], &objects, &[], &limits, &AtomicBool::new(false))?;
    for pack in &imported.packs {
        let (name, bytes, objects) = (pack.name, pack.bytes, pack.objects);
        println!("{name}: {bytes} bytes, {objects} objects, {:?}", started.elapsed());
    }
    Ok(())
}
