//! Sockets that systemd has opened for the daemon (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use super::StartError;
use crate::base::sys::inherited;

/// One passed socket and its name (`FileDescriptorName=`, by default the name of the socket unit).
pub struct Passed {
    pub name: String,
    pub fd: OwnedFd,
}

/// Takes what was passed to this process. Call it once.
pub fn take() -> Result<Vec<Passed>, StartError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let count = match variable("LISTEN_FDS").parse() {
        Ok(count) if variable("LISTEN_PID") == std::process::id().to_string() => count,
        _ => return Err(StartError::NotActivated),
    };
    let names = variable("LISTEN_FDNAMES");
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(inherited::take(count).into_iter().zip(names).map(|(fd, name)| Passed { name, fd }).collect())
}

/// Those of `passed` that `fd://CHOICE` means: all, the one with that number, or those with that name.
pub fn choose(passed: &mut Vec<Passed>, choice: Option<&str>) -> Result<Vec<Passed>, StartError> {
    let Some(choice) = choice else { return Ok(std::mem::take(passed)) };
    let number = choice.parse::<usize>().ok().and_then(|fd| fd.checked_sub(inherited::FIRST as usize));
    if let Some(at) = number.filter(|at| *at < passed.len()) {
        return Ok(vec![passed.swap_remove(at)]);
    }
    let named: Vec<Passed> = passed.extract_if(.., |passed| passed.name == choice).collect();
    if named.is_empty() { Err(StartError::NoSuchActivation(choice.to_owned())) } else { Ok(named) }
}
