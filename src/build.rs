//! Tells cargo of what is compiled in as a whole folder: a file that is new there is
//! otherwise not noticed.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=fixtures/demo");
}
