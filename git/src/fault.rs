//! Named points at which a test has the process die, as if it was killed there.
//!
//! What survives the death of a process can only be tested by deaths, and those that matter lie
//! between two lines of code that no timing hits reliably. So the code names such places, and a test
//! arms one of them.
//!
//! In a release build (without debug assertions) there is nothing to arm: [`point`] is empty, and
//! no name of a point is in the binary.

#[cfg(debug_assertions)]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Has this process die when it passes the point of this name. The first call counts, until the
/// process ends. Without effect in a release build.
pub fn arm(name: &str) {
    #[cfg(debug_assertions)]
    let _ = ARMED.set(name.to_owned());
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Dies here, if a test wants it. Nothing is flushed, dropped or removed, as with `kill -9`.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    if ARMED.get().is_some_and(|armed| armed == name) {
        tracing::error!(name, "the process dies here, as a test wants it");
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
