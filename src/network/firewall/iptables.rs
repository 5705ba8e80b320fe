//! Living beside iptables.
//!
//! A packet must be let through by every table: what ours accepts, a `FORWARD` chain of iptables with policy DROP (ufw,
//! another engine) still drops. So where iptables is in use, our bridges are let through there too, in a chain of our
//! own, and `DOCKER-USER` comes first, where administrators of Docker hosts have their rules. Where iptables is not
//! in use nothing of it is touched or loaded. This costs a few processes when a bridge is set up, none per container.

use std::fs;
use std::io;
use std::process::{Command, Output, Stdio};

use super::nft::{Family, Table};
use super::rules::Bridge;
use crate::base::sys::netlink::Socket;
use crate::base::sys::tool;

const OURS: &str = "SLIPWAY-FORWARD";
const USER: &str = "DOCKER-USER";

/// Lets our bridges through the iptables of one family, if that is in use.
pub(super) fn let_through(socket: &Socket, family: Family, bridges: &[Bridge]) -> io::Result<()> {
    let Some(tool) = tool_in_use(socket, family)? else { return Ok(()) };
    restore(&tool, &chain(family, bridges))?;
    // The one inserted last comes first.
    for chain in [OURS, USER] {
        // Fails if it exists.
        run(&tool, &["-N", chain])?;
        if !run(&tool, &["-C", "FORWARD", "-j", chain])?.status.success() {
            tool::check(&tool, run(&tool, &["-I", "FORWARD", "-j", chain])?)?;
        }
    }
    Ok(())
}

/// The program that speaks to the iptables in use: there are two kinds, and a host may have either or both.
fn tool_in_use(socket: &Socket, family: Family) -> io::Result<Option<String>> {
    let (name, loaded) = match family {
        Family::V4 => ("iptables", "/proc/net/ip_tables_names"),
        Family::V6 => ("ip6tables", "/proc/net/ip6_tables_names"),
    };
    let kind = match () {
        () if fs::read_to_string(loaded).is_ok_and(|names| names.lines().any(|l| l == "filter")) => "legacy",
        () if has_forward_chain(socket, family)? => "nft",
        () => return Ok(None),
    };
    let candidates = [format!("{name}-{kind}"), name.to_owned()];
    Ok(candidates.into_iter().find(|tool| run(tool, &["--version"]).is_ok_and(|o| o.status.success())))
}

fn has_forward_chain(socket: &Socket, family: Family) -> io::Result<bool> {
    match socket.query(Table { family, name: "filter" }.get_chain("FORWARD")) {
        Ok(found) => Ok(!found.is_empty()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Our chain's whole content; the rest of the table is left as it is.
fn chain(family: Family, bridges: &[Bridge]) -> String {
    let mut text = format!("*filter\n:{OURS} - [0:0]\n");
    for Bridge { name, internal, .. } in bridges.iter().filter(|b| b.subnet(family).is_some()) {
        for state in ["RELATED,ESTABLISHED", "DNAT"] {
            text += &format!("-A {OURS} -o {name} -m conntrack --ctstate {state} -j ACCEPT\n");
        }
        text += &match internal {
            true => format!("-A {OURS} -i {name} -o {name} -j ACCEPT\n"),
            false => format!("-A {OURS} -i {name} -j ACCEPT\n"),
        };
    }
    text + "COMMIT\n"
}

fn restore(tool: &str, rules: &str) -> io::Result<()> {
    // `iptables-nft` has `iptables-nft-restore` beside it.
    tool::feed(Command::new(format!("{tool}-restore")).args(["--noflush", "--wait"]), rules)
}

fn run(tool: &str, args: &[&str]) -> io::Result<Output> {
    Command::new(tool).arg("--wait").args(args).stdin(Stdio::null()).output()
}
