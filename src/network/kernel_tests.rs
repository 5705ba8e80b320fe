//! Whole paths through the kernel, on a host of one's own.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::testing::{Host, request};
use super::{
    EndpointRequest, EndpointSettings, LiveSandbox, NetworkError, NetworkMode, NetworkSpec, Networks,
    PortRequest, Sandbox, SandboxRequest,
};
use crate::base::sys::netns;

/// Connects and returns the address that the server saw.
fn reach(server: &TcpListener, to: &str) -> io::Result<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let _client = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    server.set_nonblocking(true)?;
    for _ in 0..100 {
        match server.accept() {
            Ok((_, from)) => return Ok(from.ip()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn publishing(host: &Host, name: &str, port: &str, host_port: &str) -> SandboxRequest {
    let port =
        PortRequest { container: port.parse().unwrap(), host_ip: None, host: host_port.parse().unwrap() };
    SandboxRequest { name: name.into(), ports: vec![port], ..request(host.dir(), NetworkMode::Bridge) }
}

fn connect(networks: &Networks, request: &SandboxRequest) -> (Sandbox, OwnedFd) {
    let sandbox = networks.inner.connect(request.clone()).unwrap();
    let inside = netns::open(sandbox.netns.as_ref().unwrap()).unwrap();
    (sandbox, inside)
}

fn serve(inside: &OwnedFd, port: u16) -> TcpListener {
    netns::enter(inside, || TcpListener::bind(("0.0.0.0", port))).unwrap()
}

/// A child that another test has forked keeps the socket that held a port until it calls exec.
fn until_free<T>(bind: impl Fn() -> io::Result<T>) {
    for _ in 0..1000 {
        if bind().is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{}", bind().err().unwrap());
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_sees_its_client() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        let web = publishing(&host, "web", "80", "8080");
        let (web_sandbox, web_inside) = connect(networks, &web);
        assert_eq!(serde_json::to_string(&web_sandbox.ports).unwrap(), WEB_PORTS);
        let (_, peer) = connect(networks, &request(host.dir(), NetworkMode::Bridge));
        let server = serve(&web_inside, 80);
        let from = |inside: Option<&OwnedFd>, to: &str| match inside {
            Some(inside) => netns::enter(inside, || reach(&server, to)).map(|ip| ip.to_string()),
            None => reach(&server, to).map(|ip| ip.to_string()),
        };
        assert_eq!(from(Some(&outside), "192.0.2.1:8080").unwrap(), "192.0.2.2");
        assert_eq!(from(None, "127.0.0.1:8080").unwrap(), "172.17.0.1");
        assert_eq!(from(None, "192.0.2.1:8080").unwrap(), "192.0.2.1");
        assert_eq!(from(None, "172.17.0.2:80").unwrap(), "172.17.0.1");
        assert_eq!(from(Some(&peer), "192.0.2.1:8080").unwrap(), "172.17.0.1");
        assert_eq!(from(Some(&peer), "172.17.0.2:80").unwrap(), "172.17.0.3");
        assert_eq!(from(Some(&web_inside), "192.0.2.1:8080").unwrap(), "172.17.0.1");
        assert!(from(Some(&outside), "172.17.0.2:80").is_err(), "reached around the published port");
        assert!(from(Some(&outside), "127.0.0.1:8080").is_err());
        networks.inner.disconnect(&web.container, &web_sandbox);
        drop(web_sandbox);
        until_free(|| TcpListener::bind("0.0.0.0:8080"));
        assert_eq!(from(None, "127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

const WEB_PORTS: &str =
    r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::1","HostPort":"8080"}]}"#;

#[test]
fn containers_reach_the_world_under_the_hosts_address() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        let (_, inside) = connect(networks, &request(host.dir(), NetworkMode::Bridge));
        let server = netns::enter(&outside, || TcpListener::bind("192.0.2.2:80")).unwrap();
        let seen = netns::enter(&inside, || reach(&server, "192.0.2.2:80")).unwrap();
        assert_eq!(seen.to_string(), "192.0.2.1");
    });
}

// CVE-2025-54388, CVE-2025-54410. Fails when the watch restores nothing: the port is closed from then on.
#[test]
fn rules_come_back_after_somebody_flushed_them() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        let (_web, inside) = connect(networks, &publishing(&host, "web", "80", "8080"));
        let server = serve(&inside, 80);
        for _ in 0..3 {
            Host::command("nft flush ruleset").unwrap();
            let mut tries = (0..20).map(|_| netns::enter(&outside, || reach(&server, "192.0.2.1:8080")));
            tries.find_map(Result::ok).unwrap();
        }
    });
}

#[test]
fn a_dropping_iptables_lets_containers_through_unless_the_administrator_forbids() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        Host::command("iptables -P FORWARD DROP; iptables -A FORWARD -j REJECT").unwrap();
        let (_web, inside) = connect(networks, &publishing(&host, "web", "80", "8080"));
        let server = serve(&inside, 80);
        netns::enter(&outside, || reach(&server, "192.0.2.1:8080")).unwrap();
        Host::command("iptables -I DOCKER-USER -i wire -j DROP").unwrap();
        assert!(netns::enter(&outside, || reach(&server, "192.0.2.1:8080")).is_err());
        networks.inner.create(NetworkSpec { name: "second".into(), ..NetworkSpec::default() }).unwrap();
        let rules = Host::command("iptables -S").unwrap();
        assert!(rules.contains("-A DOCKER-USER -i wire -j DROP"), "{rules}");
        assert_eq!(rules.matches("-A FORWARD -j").count(), 3, "{rules}");
        assert_eq!(rules.matches("--ctstate DNAT -j ACCEPT").count(), 2, "{rules}");
    });
}

#[test]
fn without_iptables_nothing_of_it_is_made() {
    let host = Host::new();
    host.run(|networks| {
        connect(networks, &request(host.dir(), NetworkMode::Bridge));
        let tables = Host::command("nft list tables").unwrap();
        assert_eq!(tables, "table ip slipway\n");
    });
}

#[test]
fn hundreds_of_ports_are_one_transaction() {
    let host = Host::new();
    host.run(|networks| {
        let one = |n: u16| publishing(&host, "x", &format!("{n}/tcp"), &n.to_string()).ports.remove(0);
        let request =
            SandboxRequest { ports: (5001..=5500).map(one).collect(), ..publishing(&host, "web", "1", "") };
        let (sandbox, _) = connect(networks, &request);
        let elements = || Host::command("nft list map ip slipway published").unwrap();
        assert_eq!(elements().matches("tcp . 5").count(), 500);
        Host::command("nft flush ruleset").unwrap();
        let back = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            Host::command("nft list map ip slipway published")
                .is_ok_and(|e| e.matches("tcp . 5").count() == 500)
        });
        assert!(back);
        networks.inner.disconnect(&request.container, &sandbox);
        assert_eq!(elements().matches("tcp . 5").count(), 0);
    });
}

#[test]
fn a_port_has_one_holder() {
    let host = Host::new();
    host.run(|networks| {
        let failure = |request: &SandboxRequest| {
            let text = networks.inner.connect(request.clone()).unwrap_err().to_string();
            text.split_once("): ").map(|(_, cause)| cause.to_owned()).unwrap_or(text)
        };
        let (web, _) = connect(networks, &publishing(&host, "web", "80", "8080"));
        let second = publishing(&host, "second", "80", "8080");
        assert_eq!(failure(&second), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let foreign = publishing(&host, "third", "80", &port.to_string());
        let expected = format!("failed to bind host port 0.0.0.0:{port}/tcp: address already in use");
        assert_eq!(failure(&foreign), expected);
        let error = TcpListener::bind("0.0.0.0:8080").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(Host::command("ip -o link show type veth | wc -l").unwrap().trim(), "1");
        // Its own and that of the host's IPv6 loopback.
        assert_eq!((web.port_sockets.len(), web.relays.len()), (2, 1));
    });
}

#[test]
fn udp_ports_and_single_addresses_are_published() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        // A client that asked before the port was published, and whose flow the kernel remembers.
        let client = netns::enter(&outside, || UdpSocket::bind("0.0.0.0:0")).unwrap();
        client.connect("192.0.2.1:32768").unwrap();
        let host_socket = UdpSocket::bind("192.0.2.1:32768").unwrap();
        connect(networks, &request(host.dir(), NetworkMode::Bridge));
        client.send(b"early").unwrap();
        drop(host_socket);
        until_free(|| UdpSocket::bind("192.0.2.1:32768"));
        let mut dns = publishing(&host, "dns", "53/udp", "");
        dns.ports[0].host_ip = Some("192.0.2.1".parse().unwrap());
        let (sandbox, inside) = connect(networks, &dns);
        let binding = sandbox.ports.values().flatten().flatten().next().unwrap();
        assert_eq!((binding.host_ip.to_string().as_str(), binding.host_port), ("192.0.2.1", 32768));
        let server = netns::enter(&inside, || UdpSocket::bind("0.0.0.0:53")).unwrap();
        netns::enter(&outside, || {
            client.set_read_timeout(Some(Duration::from_secs(5)))?;
            client.send(b"ping")?;
            let mut bytes = [0; 8];
            let (length, from) = server.recv_from(&mut bytes)?;
            assert_eq!((&bytes[..length], from.ip().to_string().as_str()), (&b"ping"[..], "192.0.2.2"));
            server.send_to(b"pong", from)?;
            client.recv(&mut bytes)
        })
        .unwrap();
    });
}

#[test]
fn without_icc_containers_reach_each_other_only_as_the_world_does() {
    let host = Host::new();
    let outside = host.neighbour();
    let mut options = host.options();
    options.bridge.icc = false;
    host.run_with(options, |networks| {
        for filtered in ["1", "0"] {
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", filtered);
            let (web, web_inside) = connect(networks, &publishing(&host, "web", "80", "8080"));
            let other = request(host.dir(), NetworkMode::Bridge);
            let (_, other_inside) = connect(networks, &other);
            let server = serve(&web_inside, 80);
            let address = web.endpoints["bridge"].address.unwrap().addr();
            assert!(netns::enter(&other_inside, || reach(&server, &format!("{address}:80"))).is_err());
            netns::enter(&outside, || reach(&server, "192.0.2.1:8080")).unwrap();
            drop(web);
            for container in networks.members(&networks.resolve("bridge").unwrap().id) {
                networks.inner.disconnect(&container.container, &Sandbox::default());
            }
        }
    });
}

#[test]
fn after_a_crash_running_containers_keep_their_network_and_the_rest_is_removed() {
    let host = Host::new();
    let outside = host.neighbour();
    let (web, lost) = (publishing(&host, "web", "80", "8080"), publishing(&host, "lost", "80", "8081"));
    let web_fd = std::sync::Mutex::new(None);
    let live = std::sync::Mutex::new(Vec::new());
    host.run(|networks| {
        let (sandbox, inside) = connect(networks, &web);
        *web_fd.lock().unwrap() = Some(inside);
        connect(networks, &lost);
        let container = web.container.clone();
        live.lock().unwrap().push(LiveSandbox { container, name: "web".into(), sandbox });
    });
    host.run(|networks| {
        networks.inner.recover(std::mem::take(&mut *live.lock().unwrap())).unwrap();
        assert_eq!(Host::command("ip -o link show type veth master docker0 | wc -l").unwrap().trim(), "1");
        assert_eq!(std::fs::read_dir(host.dir().join("netns")).unwrap().count(), 2);
        let elements = Host::command("nft list map ip slipway published").unwrap();
        assert!(elements.contains("8080") && !elements.contains("8081"), "{elements}");
        let server = serve(web_fd.lock().unwrap().as_ref().unwrap(), 80);
        netns::enter(&outside, || reach(&server, "192.0.2.1:8080")).unwrap();
        let (next, _) = connect(networks, &publishing(&host, "next", "80", "8081"));
        assert_eq!(next.endpoints["bridge"].address.unwrap().to_string(), "172.17.0.3/16");
        let error = networks.inner.connect(publishing(&host, "again", "80", "8080")).unwrap_err();
        assert!(error.to_string().ends_with("port is already allocated"), "{error}");
    });
}

#[test]
fn a_bridge_that_somebody_removed_is_made_again() {
    let host = Host::new();
    host.run(|networks| {
        let first = request(host.dir(), NetworkMode::Bridge);
        let (sandbox, _) = connect(networks, &first);
        networks.inner.disconnect(&first.container, &sandbox);
        Host::command("ip link del docker0").unwrap();
        connect(networks, &request(host.dir(), NetworkMode::Bridge));
        assert!(Host::command("ip addr show docker0").unwrap().contains("172.17.0.1/16"));
    });
}

#[test]
fn user_defined_networks_are_isolated_and_leave_nothing() {
    let host = Host::new();
    host.run(|networks| {
        let create = |name: &str| {
            let spec = NetworkSpec { name: name.into(), ..NetworkSpec::default() };
            networks.inner.create(spec).unwrap()
        };
        let (a, b) = (create("net-a"), create("net-b"));
        assert_eq!(b.ipam.subnets[0].subnet.to_string(), "172.19.0.0/16");
        let on = |network: &str| {
            let mode = NetworkMode::User(network.into());
            connect(networks, &SandboxRequest { name: network.into(), ..publishing_on(&host, mode) })
        };
        let ((first, first_inside), (_, second_inside)) = (on("net-a"), on("net-b"));
        let server = serve(&first_inside, 80);
        let port = first.ports.values().flatten().flatten().next().unwrap().host_port;
        let from_b = |to: String| netns::enter(&second_inside, || reach(&server, &to));
        assert!(from_b("172.18.0.2:80".into()).is_err(), "networks are not isolated");
        from_b(format!("172.19.0.1:{port}")).unwrap();
        let error = networks.inner.remove("net-a").unwrap_err().to_string();
        assert!(error.starts_with(
            "error while removing network: network net-a has active endpoints (name:\"net-a\" id:\""
        ));
        for network in [&a, &b] {
            for member in networks.members(&network.id) {
                networks.inner.disconnect(&member.container, &Sandbox::default());
            }
            networks.inner.remove(network.id.as_str()).unwrap();
        }
        networks.inner.settle();
        assert_eq!(Host::command("ip -o link show type bridge").unwrap(), "");
        assert!(matches!(networks.inner.resolve("net-a"), Err(NetworkError::NotFound(_))));
        let again =
            networks.inner.create(NetworkSpec { name: "net-a".into(), ..NetworkSpec::default() }).unwrap();
        assert_eq!(again.ipam.subnets[0].subnet.to_string(), "172.18.0.0/16");
        let twice = networks.inner.create(NetworkSpec { name: "net-a".into(), ..NetworkSpec::default() });
        assert_eq!(twice.unwrap_err().to_string(), "network with name net-a already exists");
    });
    host.run(|networks| {
        assert_eq!(networks.resolve("net-a").unwrap().ipam.subnets[0].subnet.to_string(), "172.18.0.0/16")
    });
}

#[test]
fn containers_on_a_user_defined_network_know_each_other_by_name() {
    let host = Host::new();
    host.run(|networks| {
        networks.inner.create(NetworkSpec { name: "net-a".into(), ..NetworkSpec::default() }).unwrap();
        let named = |name: &str, alias: &str| {
            let dir = host.dir().join(name);
            std::fs::create_dir(&dir).unwrap();
            let settings =
                EndpointSettings { aliases: Some(vec![alias.into()]), ..EndpointSettings::default() };
            let endpoints = vec![EndpointRequest { network: "net-a".into(), settings }];
            let mode = NetworkMode::User("net-a".into());
            let request = request(&dir, mode);
            let request =
                SandboxRequest { name: name.into(), hostname: format!("{name}-host"), endpoints, ..request };
            (networks.inner.connect(request.clone()).unwrap(), request)
        };
        let hosts = |name: &str| std::fs::read_to_string(host.dir().join(name).join("hosts")).unwrap();
        let (_, web) = named("web", "www");
        let (db_sandbox, db) = named("db", "sql");
        let line = format!("172.18.0.3\tdb sql {} db-host\n", db.container.short());
        assert!(hosts("web").ends_with(&line), "{}", hosts("web"));
        let line = format!("172.18.0.2\tweb www {} web-host\n", web.container.short());
        assert!(hosts("db").ends_with(&line), "{}", hosts("db"));
        networks.inner.disconnect(&db.container, &db_sandbox);
        assert!(hosts("web").ends_with("172.18.0.2\tweb-host\n"), "{}", hosts("web"));
    });
}

fn publishing_on(host: &Host, mode: NetworkMode) -> SandboxRequest {
    SandboxRequest { mode, ..publishing(host, "web", "80", "") }
}

#[test]
fn an_internal_network_reaches_nothing_outside() {
    let host = Host::new();
    let outside = host.neighbour();
    host.run(|networks| {
        let spec = NetworkSpec { name: "inner".into(), internal: true, ..NetworkSpec::default() };
        networks.inner.create(spec).unwrap();
        let (sandbox, inside) = connect(networks, &publishing_on(&host, NetworkMode::User("inner".into())));
        assert!(sandbox.ports.values().all(Option::is_none));
        let server = netns::enter(&outside, || TcpListener::bind("192.0.2.2:80")).unwrap();
        let _ = netns::enter(&inside, || Host::command("ip route add default via 172.18.0.1"));
        assert!(netns::enter(&inside, || reach(&server, "192.0.2.2:80")).is_err());
    });
}

#[test]
fn ipv6_networks_publish_both_families() {
    let host = Host::new();
    let outside = host.neighbour();
    netns::enter(&outside, || Host::command("ip addr add 2001:db8::2/64 dev wire nodad")).unwrap();
    host.run(|networks| {
        Host::command("ip addr add 2001:db8::1/64 dev wire nodad; sysctl -qw net.ipv6.conf.all.forwarding=1")
            .unwrap();
        let spec = NetworkSpec { name: "six".into(), ipv6: Some(true), ..NetworkSpec::default() };
        networks.inner.create(spec).unwrap();
        let mut request = publishing_on(&host, NetworkMode::User("six".into()));
        request.ports[0].host = "8080".parse().unwrap();
        let (sandbox, inside) = connect(networks, &request);
        let bindings: Vec<_> =
            sandbox.ports.values().flatten().flatten().map(|b| b.host_ip.to_string()).collect();
        assert_eq!(bindings, ["0.0.0.0", "::"]);
        let server = netns::enter(&inside, || TcpListener::bind("[::]:80")).unwrap();
        // The kernel may still be at work on the new addresses, and repeats a question for a neighbour after a second.
        let mut tries = (0..10).map(|_| netns::enter(&outside, || reach(&server, "[2001:db8::1]:8080")));
        let seen = tries.find_map(Result::ok).unwrap();
        assert_eq!(seen.to_string(), "2001:db8::2");
        let seen = netns::enter(&outside, || reach(&server, "192.0.2.1:8080")).unwrap();
        assert_eq!(seen.to_string(), "::ffff:192.0.2.2");
    });
}
