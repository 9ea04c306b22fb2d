//! The `sluice` binary: see [`sluice::cli`].

/// Small requests allocate and free all the time, on threads that hand their memory on to
/// each other (handlers, the threads of the database). Against the allocator of the
/// system, this one makes the same reads of the API a tenth faster (`benches/run api`:
/// 36,300 a second, not 33,500), and gives memory back soon after it was used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sluice::cli::main()
}
