//! Places at which a test can have the program wait, panic or die.
//!
//! With the feature `failpoints` alone, which no program has that is installed. Without it, a place costs nothing.

/// The program comes by this place, which has that name.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn failpoint(_name: &'static str) {}

/// The program comes by this place, which has that name.
#[cfg(feature = "failpoints")]
pub fn failpoint(name: &'static str) {
    fail::eval(name, |_| std::process::abort());
}

/// Says what happens where from now on, and nowhere else: lines of `name=actions` with the actions of crate
/// [`fail`](https://docs.rs/fail), as `1*panic`, `20%sleep(100)` or `3*off->pause`. `return` ends the process then and
/// there, as `kill -9` would.
///
/// # Errors
/// When a line says what is no such thing.
#[cfg(feature = "failpoints")]
pub fn configure(text: &str) -> Result<(), String> {
    for (name, _) in fail::list() {
        fail::remove(name);
    }
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, actions) = line.split_once('=').ok_or_else(|| format!("`{line}` is no failpoint"))?;
        fail::cfg(name.trim(), actions.trim())?;
    }
    Ok(())
}
