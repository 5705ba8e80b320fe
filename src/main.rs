//! Picks the role by its own name or the first argument; nothing else.

use std::process::ExitCode;

use slipway::{logs, server, shim};

fn main() -> ExitCode {
    let mut args = std::env::args();
    // A container with `--init` gets this file under the name of dockerd's init, with that one's arguments.
    if args.next().is_some_and(|name| name.ends_with("/docker-init")) {
        return shim::pid1::run(&args.collect::<Vec<_>>());
    }
    match args.next().as_deref() {
        Some(shim::ROLE) => shim::run(&args.collect::<Vec<_>>()),
        Some(shim::hooks::ROLE) => shim::hooks::main(),
        Some(shim::pid1::ROLE) => shim::pid1::run(&args.collect::<Vec<_>>()),
        Some(logs::compress::ROLE) => logs::compress::main(args),
        Some(logs::forward::ROLE) => logs::forward::main(),
        first => server::main(first.map(str::to_owned).into_iter().chain(args).collect()),
    }
}
