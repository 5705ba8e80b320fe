//! `hosts`, `hostname` and `resolv.conf` of a container, which the runtime binds over the image's own.
//!
//! Files are rewritten in place: the container has the inode mounted, so a rename would not reach it. What a user
//! changed in `resolv.conf` is kept.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::options::DnsOptions;
use crate::base::digest::Digest;

/// systemd-resolved's stub, which answers on the host only; its upstream servers are in [`RESOLVED`].
const STUB: &str = "nameserver 127.0.0.53";
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const HOST_RESOLV: &str = "/etc/resolv.conf";
const HOST_HOSTS: &str = "/etc/hosts";
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const FALLBACK6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

/// Which name servers of the host a container can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// The host's own namespace: all of them.
    Host,
    /// Interfaces with IPv4 only, or none.
    V4,
    /// Interfaces with both families.
    V4AndV6,
}

/// What goes into the three files.
pub(super) struct Files<'a> {
    pub hostname: &'a str,
    pub domainname: &'a str,
    /// The container's own, for `hosts`.
    pub addresses: &'a [IpAddr],
    /// Further lines of `hosts`: names, separated by spaces, and their address.
    pub extra: &'a [(String, IpAddr)],
    pub dns: &'a DnsOptions,
    pub reach: Reach,
}

impl Files<'_> {
    /// Writes the files into `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        overwrite(&dir.join("hostname"), &format!("{}\n", self.hostname))?;
        overwrite(&dir.join("hosts"), &self.hosts()?)?;
        self.write_resolv(dir)
    }

    fn hosts(&self) -> io::Result<String> {
        // Extra hosts must be able to override the host's names, so with them the host's file is no base.
        if self.reach == Reach::Host && self.extra.is_empty() {
            return read_or_empty(HOST_HOSTS);
        }
        Ok(self.render_hosts(if has_ipv6() { Loopback6::Present } else { Loopback6::Absent }))
    }

    fn render_hosts(&self, loopback6: Loopback6) -> String {
        let mut text = String::from("127.0.0.1\tlocalhost\n");
        if loopback6 == Loopback6::Present {
            text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n");
            text.push_str("ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
        }
        let own = own_names(self.hostname, self.domainname);
        let extra = self.extra.iter().map(|(names, ip)| (names, ip));
        for (names, ip) in extra.chain(self.addresses.iter().map(|ip| (&own, ip))) {
            if ip.is_ipv4() || loopback6 == Loopback6::Present {
                let _ = writeln!(text, "{ip}\t{names}");
            }
        }
        text
    }

    /// Leaves the file alone if somebody changed it since it was written: `resolv.conf.hash` tells.
    fn write_resolv(&self, dir: &Path) -> io::Result<()> {
        let (path, hash) = (dir.join("resolv.conf"), dir.join("resolv.conf.hash"));
        if let (Ok(found), Ok(written)) = (fs::read(&path), fs::read_to_string(&hash))
            && Digest::of(&found).to_string() != written
        {
            return Ok(());
        }
        let text = resolv_conf(&host_resolv(self.reach)?, self.dns, self.reach);
        overwrite(&path, &text)?;
        overwrite(&hash, &Digest::of(text.as_bytes()).to_string())
    }
}

/// Whether `::1` answers in a new namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loopback6 {
    Present,
    Absent,
}

/// Whether this kernel has IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// The full name, then the bare host name.
fn own_names(hostname: &str, domainname: &str) -> String {
    let full = if domainname.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domainname}") };
    match full.split_once('.') {
        Some((bare, _)) => format!("{full} {bare}"),
        None => full,
    }
}

/// The host's file, or systemd-resolved's list of upstream servers where the host's names its stub only.
fn host_resolv(reach: Reach) -> io::Result<String> {
    let text = read_or_empty(HOST_RESOLV)?;
    let mut servers = text.lines().filter(|l| l.starts_with("nameserver")).peekable();
    let stub_only = servers.peek().is_some() && servers.all(|l| l.trim_end() == STUB);
    if reach != Reach::Host && stub_only && Path::new(RESOLVED).exists() {
        return read_or_empty(RESOLVED);
    }
    Ok(text)
}

/// What the host's file says, as far as it holds in the container, with `dns` in its place where given.
fn resolv_conf(host: &str, dns: &DnsOptions, reach: Reach) -> String {
    let host = HostResolv::parse(host);
    let servers = if dns.servers.is_empty() { host.usable_servers(reach) } else { texts(&dns.servers) };
    let search = match dns.search.as_slice() {
        [] => host.search,
        own => own.iter().map(String::as_str).filter(|s| *s != ".").collect(),
    };
    let options =
        if dns.options.is_empty() { host.options } else { dns.options.iter().map(String::as_str).collect() };
    let mut text = String::from("# Generated by Slipway. Once edited, it is not changed any more.\n\n");
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (directive, values) in [("search", search), ("options", options)] {
        if !values.is_empty() {
            let _ = writeln!(text, "{directive} {}", values.join(" "));
        }
    }
    for line in host.other {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// resolv.conf(5), as far as it is changed on the way into a container.
#[derive(Default)]
struct HostResolv<'a> {
    servers: Vec<IpAddr>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
    /// Directives that are passed on as they are.
    other: Vec<&'a str>,
}

impl<'a> HostResolv<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                None => {}
                Some(word) if word.starts_with(['#', ';']) => {}
                Some("nameserver") => {
                    parsed.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                // `domain` is the old name of `search`; the last of either counts.
                Some("domain" | "search") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                Some(_) => parsed.other.push(line),
            }
        }
        parsed
    }

    fn usable_servers(&self, reach: Reach) -> Vec<String> {
        let usable = |ip: &&IpAddr| match reach {
            Reach::Host => true,
            Reach::V4 => ip.is_ipv4() && !ip.is_loopback(),
            Reach::V4AndV6 => !ip.is_loopback(),
        };
        let servers = texts(self.servers.iter().filter(usable));
        match reach {
            Reach::V4 if servers.is_empty() => texts(FALLBACK),
            Reach::V4AndV6 if servers.is_empty() => texts(FALLBACK.iter().chain(&FALLBACK6)),
            _ => servers,
        }
    }
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|v| v.to_string()).collect()
}

fn read_or_empty(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    }
}

/// Replaces the content and keeps the inode; a new file gets mode 0644.
pub(super) fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn files<'a>(dns: &'a DnsOptions, extra: &'a [(String, IpAddr)], addresses: &'a [IpAddr]) -> Files<'a> {
        Files { hostname: "web", domainname: "example.org", addresses, extra, dns, reach: Reach::V4 }
    }

    #[test]
    fn hosts_names_the_container_by_its_full_and_its_bare_name() {
        let (dns, own) = (DnsOptions::default(), ["172.17.0.2".parse().unwrap()]);
        let extra =
            [("db".to_owned(), "10.0.0.1".parse().unwrap()), ("six".to_owned(), "fd00::1".parse().unwrap())];
        let files = files(&dns, &extra, &own);
        assert_eq!(
            files.render_hosts(Loopback6::Absent),
            "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n172.17.0.2\tweb.example.org web\n"
        );
        let both = files.render_hosts(Loopback6::Present);
        assert!(
            both.contains("::1\tlocalhost ip6-localhost ip6-loopback\n") && both.contains("fd00::1\tsix\n")
        );
    }

    #[test]
    fn the_hosts_name_servers_are_kept_where_they_can_be_reached() {
        let host = "# c\ndomain old\nsearch a b\nnameserver 127.0.0.1\nnameserver 10.0.0.53\nnameserver fd00::53\n\
                    options ndots:2 edns0\nsortlist 1.2.3.4\n";
        let body = |host, dns: &DnsOptions, reach| {
            let text = resolv_conf(host, dns, reach);
            text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        let none = DnsOptions::default();
        let rest = "search a b\noptions ndots:2 edns0\nsortlist 1.2.3.4";
        assert_eq!(body(host, &none, Reach::V4), format!("nameserver 10.0.0.53\n{rest}"));
        assert_eq!(
            body(host, &none, Reach::V4AndV6),
            format!("nameserver 10.0.0.53\nnameserver fd00::53\n{rest}")
        );
        assert_eq!(body("nameserver ::1", &none, Reach::V4), "nameserver 8.8.8.8\nnameserver 8.8.4.4");
        assert_eq!(body("", &none, Reach::Host), "");
        let own = DnsOptions {
            servers: vec!["127.0.0.1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["rotate".into()],
        };
        assert_eq!(body(host, &own, Reach::V4), "nameserver 127.0.0.1\noptions rotate\nsortlist 1.2.3.4");
    }

    #[test]
    fn files_keep_their_inode_and_an_edited_resolv_conf_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dns = DnsOptions { servers: vec!["10.1.1.1".parse().unwrap()], ..DnsOptions::default() };
        let files = files(&dns, &[], &[]);
        files.write(dir.path()).unwrap();
        let path = dir.path().join("resolv.conf");
        let inode = fs::metadata(&path).unwrap().ino();
        let second = DnsOptions { servers: vec!["10.2.2.2".parse().unwrap()], ..DnsOptions::default() };
        Files { dns: &second, ..files }.write(dir.path()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("nameserver 10.2.2.2\n"));
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        fs::write(&path, "edited").unwrap();
        Files { dns: &dns, hostname: "web", domainname: "", addresses: &[], extra: &[], reach: Reach::V4 }
            .write(dir.path())
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited");
        assert_eq!(fs::read_to_string(dir.path().join("hostname")).unwrap(), "web\n");
    }
}
