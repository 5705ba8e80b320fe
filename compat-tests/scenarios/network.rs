//! The default bridge, the other predefined networks, published ports, and the files that name hosts.

use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::scenario::{Setup, scenario};
use crate::harness::shell::Ended;

scenario!(the_predefined_networks_are_there, Setup::new().without_image(), |d| {
    assert_eq!(
        d.sh("docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' | sort").ok(),
        "bridge bridge local\nhost host local\nnone null local"
    );
    let bridge = d.get("/networks/bridge").expect(200).json();
    assert_eq!(bridge["IPAM"]["Config"][0]["Subnet"], json!("172.17.0.0/16"));
    assert_eq!(bridge["Options"]["com.docker.network.bridge.name"], json!("docker0"));
    assert_eq!(
        d.delete("/networks/bridge").expect(403).message(),
        "bridge is a pre-defined network and cannot be removed"
    );
});

scenario!(containers_on_the_bridge_reach_each_other_and_the_host, |d| {
    d.sh("docker run -d --name web busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    let inspected = d.inspect("web");
    let network = &inspected["NetworkSettings"]["Networks"]["bridge"];
    let address = network["IPAddress"].as_str().unwrap();
    assert_eq!((&network["Gateway"], &network["IPPrefixLen"]), (&json!("172.17.0.1"), &json!(16)));
    assert_eq!(d.sh(&format!("docker run --rm busybox wget -qO- http://{address}/")).ok(), "served");
    d.sh("echo from host >index.html; busybox httpd -p 172.17.0.1:8000 -h .").ok();
    assert_eq!(d.sh("docker run --rm busybox wget -qO- http://172.17.0.1:8000/").ok(), "from host");
    assert_eq!(d.sh("docker run --rm busybox ip route | head -1").ok(), "default via 172.17.0.1 dev eth0");
});

scenario!(each_container_has_an_address_of_its_own, |d| {
    let addresses = d.sh("for i in 1 2 3 4 5 6; do docker run -d busybox sleep 1000 & done >/dev/null; wait; docker ps -q | xargs docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}} {{.NetworkSettings.Networks.bridge.MacAddress}}' | sort -u").ok();
    assert_eq!(addresses.lines().count(), 6, "{addresses}");
});

scenario!(published_ports_in_all_forms, |d| {
    d.sh("docker run -d --name web -p 127.0.0.1:8081:80 -p 8082-8083:90-91 -p 53/udp -p 80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    let ports = d.inspect("web")["NetworkSettings"]["Ports"].clone();
    let fixed = json!({"HostIp": "127.0.0.1", "HostPort": "8081"});
    assert!(ports["80/tcp"].as_array().unwrap().contains(&fixed), "{ports}");
    assert_eq!(ports["91/tcp"][0]["HostPort"], json!("8083"));
    let udp: u16 = ports["53/udp"][0]["HostPort"].as_str().unwrap().parse().unwrap();
    assert!(udp >= 32768);
    let random = ports["80/tcp"]
        .as_array()
        .unwrap()
        .iter()
        .find(|binding| binding["HostIp"] == json!("0.0.0.0"))
        .unwrap();
    let random = random["HostPort"].as_str().unwrap().to_owned();
    for port in ["8081", &random] {
        assert_eq!(
            d.sh(&format!(
                "for i in $(seq 50); do curl -sf http://127.0.0.1:{port}/ && exit 0; sleep 0.1; done; exit 1"
            ))
            .ok(),
            "served",
            "{port}"
        );
    }
    d.sh("docker stop -t 0 web").ok();
    assert_eq!(d.inspect("web")["NetworkSettings"]["Ports"], json!({}));
    d.sh("curl -sf http://127.0.0.1:8081/").code(7);
});

scenario!(localhost_is_served_whatever_it_resolves_to, |d| {
    d.sh("docker run -d --name web -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    let ask = |address: &str| {
        format!("for i in $(seq 50); do curl -sf http://{address}:8080/ && exit 0; sleep 0.1; done; exit 1")
    };
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(d.sh(&ask(address)).ok(), "served", "{address}");
    }
    d.sh("docker stop -t 0 web").ok();
    d.sh("curl -sf 'http://[::1]:8080/'").code(7);
    d.sh("docker start web").ok();
    assert_eq!(d.sh(&ask("[::1]")).ok(), "served", "after a restart");
});

scenario!(an_ipv6_port_of_the_host_reaches_a_container_that_has_none, |d| {
    d.sh("ip address add fd00:1::1/64 dev lo nodad").ok();
    d.sh("docker run -d --name web -p '[fd00:1::1]:8080:80' -p '[::]:9999:9999/udp' busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    assert_eq!(d.sh("docker port web | sort").ok(), "80/tcp -> [fd00:1::1]:8080\n9999/udp -> [::]:9999");
    let ask = "for i in $(seq 50); do curl -sf http://[fd00:1::1]:8080/ && exit 0; sleep 0.1; done; exit 1";
    assert_eq!(d.sh(ask).ok(), "served");
    let pid = d.inspect("web")["State"]["Pid"].clone();
    let echo = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9999)); print('ready', flush=True); m, a = s.recvfrom(9); s.sendto(m, a)";
    let listener = d.sh_running(&format!("exec nsenter -t {pid} -n python3 -c \"{echo}\""));
    crate::harness::poll::eventually("the echo listens", || listener.output().contains("ready"));
    let send = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b'ping', ('::1', 9999)); print(s.recv(9).decode())";
    assert_eq!(d.sh(&format!("python3 -c \"{send}\"")).ok(), "ping");
});

scenario!(
    without_the_proxy_only_what_the_packet_filter_serves_is_published,
    Setup::new().flags(&["--userland-proxy=false"]),
    |d| {
        d.sh("docker run -d --name web -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
        let ask =
            "for i in $(seq 50); do curl -sf http://172.17.0.1:8080/ && exit 0; sleep 0.1; done; exit 1";
        assert_eq!(d.sh(ask).ok(), "served");
        d.sh("curl -sf 'http://[::1]:8080/'").code(7);
    }
);

scenario!(ports_are_served_without_the_packet_filter, Setup::new().flags(&["--iptables=false"]), |d| {
    d.sh("docker run -d --name web -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    for address in ["127.0.0.1", "[::1]"] {
        let ask = format!(
            "for i in $(seq 50); do curl -sf http://{address}:8080/ && exit 0; sleep 0.1; done; exit 1"
        );
        assert_eq!(d.sh(&ask).ok(), "served", "{address}");
    }
});

scenario!(a_published_udp_port_reaches_the_container, |d| {
    d.sh("docker run -d --name box -p 9999:9999/udp busybox sleep 1000").ok();
    let pid = d.inspect("box")["State"]["Pid"].clone();
    // Debian's busybox has no UDP server: Python listens in the container's network.
    let listen = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9999)); print(s.recv(9), flush=True)";
    let listener = d.sh_running(&format!("exec nsenter -t {pid} -n python3 -c \"{listen}\""));
    let send = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'ping', ('127.0.0.1', 9999))";
    crate::harness::poll::eventually("the datagram arrives", || {
        d.sh(&format!("python3 -c \"{send}\"")).ok();
        listener.output().contains("ping")
    });
});

scenario!(hosts_resolv_and_hostname_are_written, |d| {
    let hosts = d.sh("docker run --rm -h box.example --add-host other:10.1.2.3 --dns 9.9.9.9 --dns-search example.org busybox cat /etc/hosts /etc/resolv.conf").ok();
    for line in ["127.0.0.1\tlocalhost", "10.1.2.3\tother", "nameserver 9.9.9.9", "search example.org"] {
        assert!(hosts.lines().any(|found| found == line), "{line} in {hosts}");
    }
    assert!(
        hosts.lines().any(|line| line.starts_with("172.17.0.") && line.ends_with("\tbox.example box")),
        "{hosts}"
    );
});

scenario!(a_network_that_is_not_there_fails_the_start, |d| {
    d.sh("docker create --name box --network nowhere busybox").code(0);
    d.sh("docker start box").fails(1, "network nowhere not found");
});

scenario!(ports_with_the_host_s_network_are_discarded_with_a_warning, |d| {
    let ended = d.sh("docker run --rm --network host -p 80:80 busybox true");
    ended.ok();
    assert!(ended.stderr.contains("Published ports are discarded when using host network mode"), "{ended}");
});

scenario!(the_rules_of_a_port_go_with_the_container, |d| {
    let rules = "nft -s list ruleset";
    // The default bridge and its own rules may come with the first container that needs them, and stay.
    d.sh("docker run --rm busybox true").ok();
    let before = d.sh(rules).ok();
    d.sh("docker run -d --name web -p 8080:80 busybox sleep 1000").ok();
    assert_ne!(d.sh(rules).ok(), before);
    d.sh("docker rm -f web").ok();
    assert_eq!(d.sh(rules).ok(), before);
});

// docker-py looks at them before the start. dockerd's later versions never show them.
scenario!(the_container_s_own_names_are_aliases_for_older_clients_once_it_is_connected, |d| {
    d.sh("docker network create own").ok();
    let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "Hostname": "host-name",
                       "HostConfig": { "NetworkMode": "own" },
                       "NetworkingConfig": { "EndpointsConfig": { "own": { "Aliases": ["asked"] } } } });
    let id = d.create(body);
    let aliases = || {
        let shown = d.get(&format!("/v1.41/containers/{id}/json")).expect(200).json();
        shown["NetworkSettings"]["Networks"]["own"]["Aliases"].clone()
    };
    assert_eq!(aliases(), json!(["asked"]));
    d.sh(&format!("docker start {id}")).ok();
    let all = json!(["asked", &id[..12], "host-name"]);
    assert_eq!(aliases(), all);
    d.sh(&format!("docker kill {id}")).ok();
    assert_eq!(aliases(), all);
    d.sh(&format!("docker rm {id}; docker network rm own")).ok();
});

scenario!(a_linked_container_is_known_by_its_alias, |d| {
    d.sh("docker run -d --name db -h dbhost -e SECRET=x --expose 80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    let address = d.inspect("db")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let linked = "docker run --rm --name web --link db:data-base busybox";
    assert_eq!(
        d.sh(&format!("{linked} grep data-base /etc/hosts")).ok(),
        format!("{address}\tdata-base dbhost db")
    );
    let told = d.sh(&format!("{linked} sh -c 'env | grep ^DATA_BASE | sort'")).ok();
    let expected = [
        "_ENV_SECRET=x".to_owned(),
        "_NAME=/web/data-base".to_owned(),
        format!("_PORT=tcp://{address}:80"),
        format!("_PORT_80_TCP=tcp://{address}:80"),
        format!("_PORT_80_TCP_ADDR={address}"),
        "_PORT_80_TCP_PORT=80".to_owned(),
        "_PORT_80_TCP_PROTO=tcp".to_owned(),
    ];
    assert_eq!(told, expected.map(|line| format!("DATA_BASE{line}")).join("\n"));
    let get = "for i in $(seq 50); do wget -qO- http://data-base/ && exit 0; sleep 0.1; done; exit 1";
    assert_eq!(d.sh(&format!("{linked} sh -c '{get}'")).ok(), "served");
    d.sh("docker run -d --name follower --link db:moved busybox sleep 1000").ok();
    d.sh("docker stop -t 0 db && docker run -d --name squatter busybox sleep 1000 && docker start db").ok();
    let now = d.inspect("db")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    assert_ne!(now, address);
    crate::harness::poll::eventually("the new address", || {
        d.sh("docker exec follower grep moved /etc/hosts").ok() == format!("{now}\tmoved dbhost db")
    });
    d.sh("docker create --name other --link db busybox").ok();
    assert_eq!(d.inspect("other")["HostConfig"]["Links"], json!(["/db:/other/db"]));
    d.sh("docker stop -t 0 db").ok();
    d.sh("docker start other").fails(1, "annot link to a non running container: /db AS /other/db");
    d.sh("docker create --link nowhere busybox")
        .fails(1, "could not get container for nowhere: No such container: nowhere");
});

/// A container that is asked to have a hardware address says what it has.
fn with_mac(d: &Daemon, mac: &str) -> Ended {
    let body =
        json!({ "Image": "busybox", "MacAddress": mac, "Cmd": ["cat", "/sys/class/net/eth0/address"] });
    d.post("/v1.41/containers/create?name=box", &body).expect(201);
    let ended = d.sh("docker start -a box");
    if ended.code != 0 {
        // As it was before.
        let state = d.sh("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box").ok();
        assert_eq!(state, "created 128", "{mac}");
    }
    d.sh("docker rm box").ok();
    ended
}

scenario!(a_hardware_address_is_read_as_it_may_be_written, |d| {
    for (mac, has) in [
        ("02:42:AC:11:00:99", "02:42:ac:11:00:99"),
        ("00-11-22-33-44-55", "00:11:22:33:44:55"),
        ("0242.ac11.0097", "02:42:ac:11:00:97"),
        ("02:42:ac:11:00:02:03:04", "02:42:ac:11:00:02"),
    ] {
        assert_eq!(with_mac(d, mac).ok(), has, "{mac}");
    }
    // Refused at the start, for what is no address, and for one that no interface can have.
    for mac in ["x", "02:42", "2:42:ac:11:0:2", "02:42-ac:11:00:02", "02:42:ac:11:00:02:", "0242ac110002"] {
        with_mac(d, mac).fails(1, &format!("address {mac}: invalid MAC address"));
    }
    for mac in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "FF-FF-FF-FF-FF-FF"] {
        let ended = with_mac(d, mac);
        let shown = mac.to_lowercase().replace('-', ":");
        ended.fails(1, "MAC to ");
        ended.fails(1, &shown);
        ended.fails(1, ": cannot assign requested address");
    }
    // Shown as it is, and nothing that was refused has kept an address of the network.
    d.post(
        "/v1.41/containers/create?name=box",
        &json!({ "Image": "busybox", "MacAddress": "02-42-AC-11-00-98", "Cmd": ["sleep", "1000"] }),
    )
    .expect(201);
    d.sh("docker start box").ok();
    let shown = "docker inspect -f '{{with .NetworkSettings.Networks.bridge}}{{.MacAddress}} {{.IPAddress}}{{end}}' box";
    assert_eq!(d.sh(shown).ok(), "02:42:ac:11:00:98 172.17.0.2");
});
