//! Legacy links (`--link`): names that containers have from each other.

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::http::Response;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Containers `one` and, linked to it as `al` and `zz`, `two`; both run.
fn linked(d: &Daemon) {
    d.sh("docker run -d --name one busybox sleep 1000").ok();
    d.sh("docker run -d --name two --link one:al --link one:zz busybox sleep 1000").ok();
}

/// `Names` of the container called so.
fn names(d: &Daemon, own: &str) -> Value {
    let list = d.get("/containers/json?all=1").expect(200).json();
    let has = |one: &&Value| one["Names"].as_array().unwrap().contains(&json!(format!("/{own}")));
    list.as_array().unwrap().iter().find(has).unwrap_or_else(|| panic!("{own} is not listed: {list}"))["Names"]
        .clone()
}

/// `HostConfig.Links`, sorted: dockerd has them in no order.
fn links(d: &Daemon, container: &str) -> Value {
    let mut links = d.inspect(container)["HostConfig"]["Links"].clone();
    if let Some(links) = links.as_array_mut() {
        links.sort_by_key(|link| link.to_string());
    }
    links
}

fn hosts(d: &Daemon, container: &str) -> String {
    d.sh(&format!("docker exec {container} grep -v ip6 /etc/hosts")).ok()
}

fn unlink(d: &Daemon, name: &str) -> Response {
    d.delete(&format!("/containers/{name}?link=1"))
}

scenario!(a_container_is_listed_with_the_names_that_links_give_it, |d| {
    linked(d);
    d.sh("docker create --name ab --link one:al busybox").ok();
    assert_eq!(names(d, "one"), json!(["/ab/al", "/one", "/two/al", "/two/zz"]));
    assert_eq!(names(d, "two"), json!(["/two"]));
    assert_eq!(
        d.sh("docker ps -a --no-trunc --filter name=one --format '{{.Names}}'").ok(),
        "ab/al,one,two/al,two/zz"
    );
    // Filters know the own name alone.
    assert_eq!(d.sh("docker ps -aq --filter name=al").ok(), "");
    assert_eq!(d.sh("docker ps -a --filter name=two --format '{{.Names}}'").ok(), "two");
    // Only what happens to the other one changes.
    d.sh("docker rm ab").ok();
    assert_eq!(names(d, "one"), json!(["/one", "/two/al", "/two/zz"]));
    d.sh("docker rm -f two").ok();
    assert_eq!(names(d, "one"), json!(["/one"]));
    d.sh("docker create --name two busybox").ok();
    assert_eq!(names(d, "one"), json!(["/one"]));
});

scenario!(a_link_s_name_stands_for_the_container_it_leads_to, |d| {
    linked(d);
    let id = d.inspect("one")["Id"].clone();
    assert_eq!(d.inspect("two/al")["Id"], id);
    assert_eq!(d.sh("docker inspect -f '{{.Id}}' two/zz").ok(), id);
    assert_eq!(d.sh("docker exec two/al echo hi; docker logs two/al; docker cp two/al:/bin/busybox - | wc -c | grep -c .").ok(), "hi\n1");
    for unknown in ["two/nope", "one/al", "nope/al", "two/al/x"] {
        let refused = d.get(&format!("/containers/{unknown}/json"));
        assert_eq!((refused.status(), refused.message()), (404, format!("No such container: {unknown}")));
    }
    d.sh("docker create --name third --link two/al:it busybox").ok();
    assert_eq!(links(d, "third"), json!(["/one:/third/it"]));
    for (taking, said) in [
        ("docker create --name two/al busybox", "daemon: Invalid container name (two/al), only"),
        (
            "docker rename two two/al",
            "daemon: Error when allocating new name: Invalid container name (/two/al), only",
        ),
        (
            "docker rename two one",
            "daemon: Error when allocating new name: Conflict. The container name \"/one\" is",
        ),
    ] {
        d.sh(taking).fails(1, said);
    }
    d.sh("docker rename two/al uno && docker rm -f two/zz").ok();
    assert_eq!(d.get("/containers/uno/json").status(), 404);
    assert_eq!(d.get("/containers/two/al/json").status(), 404);
});

scenario!(links_follow_the_names_of_both_sides, |d| {
    linked(d);
    d.sh("docker rename one uno && docker rename two dos").ok();
    assert_eq!(links(d, "dos"), json!(["/uno:/dos/al", "/uno:/dos/zz"]));
    assert_eq!(names(d, "uno"), json!(["/dos/al", "/dos/zz", "/uno"]));
    assert_eq!(d.inspect("dos/al")["Name"], "/uno");
    assert_eq!(d.get("/containers/two/al/json").status(), 404);
    // Whoever gets the name later is not the one that was linked.
    d.sh("docker run -d --name two --link uno:al busybox sleep 1000 && docker rename two tres").ok();
    assert_eq!(names(d, "uno"), json!(["/dos/al", "/dos/zz", "/tres/al", "/uno"]));
    // It gets another address, which a container learns that was not renamed itself: dockerd forgets the others.
    d.sh("docker run -d --name still --link uno:al busybox sleep 1000 && docker rename uno one").ok();
    d.sh("docker stop -t 0 one && docker run -d --name squatter busybox sleep 1000 && docker start one").ok();
    let address = d.inspect("one")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    eventually("the new address", || hosts(d, "still").contains(&format!("{address}\tal ")));
});

scenario!(a_link_is_removed_alone, |d| {
    linked(d);
    let id = d.inspect("one")["Id"].as_str().unwrap().to_owned();
    for own in ["one", &id, &id[..12]] {
        let refused = unlink(d, own);
        let said = "Conflict, cannot remove the default link name of the container";
        assert_eq!((refused.status(), refused.message().as_str()), (500, said), "{own}");
    }
    for unknown in ["nope", "two/nope", "nope/al"] {
        let refused = unlink(d, unknown);
        assert_eq!((refused.status(), refused.message()), (404, format!("No such container: {unknown}")));
    }
    let before = hosts(d, "two");
    assert!(before.contains("\tal ") && before.contains("\tzz "), "{before}");
    // Nothing else is removed, whatever else is asked for.
    d.delete("/containers/two/al?link=1&force=1&v=1").expect(204);
    let after: Vec<&str> = before.lines().filter(|line| !line.contains("\tal ")).collect();
    assert_eq!(hosts(d, "two").lines().collect::<Vec<_>>(), after);
    assert_eq!((d.status("one"), d.status("two")), ("running".to_owned(), "running".to_owned()));
    assert_eq!(links(d, "two"), json!(["/one:/two/zz"]));
    assert_eq!(names(d, "one"), json!(["/one", "/two/zz"]));
    assert_eq!(unlink(d, "two/al").status(), 404);
    assert_eq!(d.sh("docker rm --link two/zz").ok(), "two/zz");
    assert_eq!(links(d, "two"), Value::Null);
    d.sh("docker rm -f one && docker restart -t 0 two").ok();
    assert_eq!(d.status("two"), "running");
});

scenario!(a_link_whose_alias_is_of_several_names_stays, |d| {
    d.sh("docker run -d --name one busybox sleep 1000").ok();
    d.sh("docker run -d --name two --link one:a/b busybox sleep 1000").ok();
    let refused = unlink(d, "two/a/b");
    let words = "Cannot get parent /two/a for link name /two/a/b";
    assert_eq!((refused.status(), refused.message().as_str()), (500, words));
    assert_eq!(unlink(d, "two/a").status(), 404);
    assert_eq!(links(d, "two"), json!(["/one:/two/a/b"]));
});

scenario!(the_first_of_two_links_of_one_name_counts, |d| {
    d.sh("docker run -d --name one busybox sleep 1000 && docker run -d --name other busybox sleep 1000").ok();
    d.sh("docker run -d --name two --link one:al --link other:al --link one:al busybox sleep 1000").ok();
    assert_eq!(links(d, "two"), json!(["/one:/two/al"]));
    assert_eq!(hosts(d, "two").matches("\tal ").count(), 1);
    // With its own name at the end, unless that is the link's.
    d.sh("docker run -d --name third --link one busybox sleep 1000").ok();
    for (container, name, has_own) in [("two", "\tal ", true), ("third", "\tone ", false)] {
        let hosts = hosts(d, container);
        let line = hosts.lines().find(|line| line.contains(name));
        assert_eq!(line.map(|line| line.ends_with(" one")), Some(has_own), "{hosts}");
    }
    assert_eq!(names(d, "other"), json!(["/other"]));
    unlink(d, "two/al").expect(204);
    assert_eq!(links(d, "two"), Value::Null);
});

scenario!(without_what_it_is_linked_to_a_container_does_not_start, |d| {
    linked(d);
    d.sh("docker create --name third --link one:al busybox && docker stop -t 0 one").ok();
    d.sh("docker start third").fails(1, "annot link to a non running container: /one AS /third/al");
    d.sh("docker rm -f one").ok();
    assert_eq!(links(d, "two"), json!(["/one:/two/al", "/one:/two/zz"]));
    assert_eq!(d.status("two"), "running");
    d.sh("docker stop -t 0 two && docker run -d --name one busybox sleep 1000").ok();
    d.sh("docker start two").fails(1, "annot link to a non running container: /one AS /two/");
    assert_eq!(d.get("/containers/two/al/json").status(), 404);
    assert_eq!(unlink(d, "two/al").status(), 404);
});

// dockerd looks for them anew by the names that they had at first, and gives up at the first that it does not find.
scenario!(links_survive_the_daemon, Setup::new().flags(&["--live-restore"]).slipway_only(), |d| {
    linked(d);
    d.sh("docker run -d --name other busybox sleep 1000").ok();
    d.sh("docker run -d --name third --link one:a --link other:b --link two:c busybox sleep 1000").ok();
    d.sh("docker rm --link third/c && docker rename one uno && docker rename two dos && docker rm -f other")
        .ok();
    let look = || (names(d, "uno"), names(d, "dos"), links(d, "dos"), hosts(d, "dos"), hosts(d, "third"));
    let before = look();
    assert_eq!(before.0, json!(["/dos/al", "/dos/zz", "/third/a", "/uno"]));
    d.kill_9();
    d.start_again();
    assert_eq!(look(), before);
    // Only what is no more is forgotten then.
    assert_eq!(links(d, "third"), json!(["/uno:/third/a"]));
    d.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(d.wait_until_ended().success());
    d.start_again();
    assert_eq!(look(), before);
    d.sh("docker restart -t 0 third").ok();
    assert!(hosts(d, "third").contains("\ta "));
});

// The state of before the answer or of after it, in the record and in the hosts file, and a second try succeeds.
scenario!(
    a_link_that_is_being_removed_when_the_daemon_dies_can_be_removed,
    Setup::new().slipway_only(),
    |d| {
        linked(d);
        d.kill_9();
        d.launch(&[("SLIPWAY_CRASH_AT", "container-link-forgotten")]);
        d.wait_until_up();
        d.sh("docker rm --link two/al").code(1);
        d.wait_until_ended();
        d.start_again();
        assert_eq!(links(d, "two"), json!(["/one:/two/al", "/one:/two/zz"]));
        unlink(d, "two/al").expect(204);
        assert_eq!(links(d, "two"), json!(["/one:/two/zz"]));
        assert!(!hosts(d, "two").contains("\tal "));
    }
);

// Fails when each container starts by itself: a link to one that does not run yet is an error.
scenario!(linked_containers_start_with_the_daemon_in_their_order, |d| {
    d.sh("docker run -d --name c0 --restart always busybox sleep 1000").ok();
    for i in 1..5 {
        let link = format!("--link c{}:before", i - 1);
        d.sh(&format!("docker run -d --name c{i} --restart always {link} busybox sleep 1000")).ok();
    }
    d.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(d.wait_until_ended().success());
    d.start_again();
    for i in 0..5 {
        eventually("it runs again", || d.status(&format!("c{i}")) == "running");
    }
    let address = d.inspect("c3")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    assert!(hosts(d, "c4").contains(&format!("{address}\tbefore ")));
});

scenario!(links_to_and_from_other_networks_are_as_under_dockerd, |d| {
    d.sh("docker network create net && docker run -d --name one busybox sleep 1000").ok();
    for (name, network) in
        [("hosted", "host"), ("lonely", "none"), ("netted", "net"), ("sharing", "container:one")]
    {
        d.sh(&format!("docker run -d --name {name} --network {network} busybox sleep 1000")).ok();
    }
    let create = |network: &str, links: &[&str]| {
        let host_config = json!({ "NetworkMode": network, "Links": links });
        let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host_config });
        d.post("/containers/create?name=box", &body)
    };
    let said = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
    let refused = create("default", &["hosted:x"]);
    assert_eq!((refused.status(), refused.message().as_str()), (400, said));
    // Itself, which is not there yet.
    let refused = create("default", &["box:x"]);
    assert_eq!(
        (refused.status(), refused.message().as_str()),
        (400, "could not get container for box: No such container: box")
    );
    create("default", &["sharing:x", "one:a/b", "one:", "one:.", "/one:/two/y", "one:d e"]).expect(201);
    assert_eq!(links(d, "box"), json!(["/one:/box/a/b", "/one:/box/d e", "/one:/box/x", "/one:/box/y"]));
    d.sh("docker start box").ok();
    let seen = hosts(d, "box");
    for name in ["\tx ", "\tb ", "\ty ", "\td e "] {
        assert!(seen.contains(name), "{name:?}: {seen}");
    }
    d.sh("docker rm -f box").ok();
    for other in ["lonely", "netted"] {
        create("default", &[&format!("{other}:x")]).expect(201);
        d.sh("docker start box").fails(1, "default ");
        d.sh("docker rm box").ok();
    }
    // Without the default bridge they do nothing, but are there.
    create("none", &["one:x"]).expect(201);
    d.sh("docker start box").ok();
    assert_eq!(d.sh("docker exec box sh -c 'grep -w x /etc/hosts; env | grep X_; true'").ok(), "");
    assert_eq!(links(d, "box"), json!(["/one:/box/x"]));
    d.sh("docker rm -f box").ok();
    // On networks of one's own it is for the endpoint to say.
    for ignored in ["netted:x", "nope:x", "a:b:c", ""] {
        create("net", &[ignored]).expect(201);
        assert_eq!(links(d, "box"), Value::Null);
        d.sh("docker rm box").ok();
    }
});

// dockerd takes the name of another container from it by such an alias, or writes what it is given into the hosts file.
scenario!(an_alias_is_no_other_container_s_name_and_no_line, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name one busybox sleep 1000").ok();
    for alias in ["..", "../one", "../new", "a/../../one", "a\n192.0.2.1\tone"] {
        let link = format!("one:{alias}");
        let body = json!({ "Image": "busybox", "HostConfig": { "Links": [&link] } });
        let refused = d.post("/containers/create", &body);
        assert_eq!((refused.status(), refused.message()), (400, format!("bad format for links: {link}")));
    }
    assert_eq!(d.sh("docker ps -a --format '{{.Names}}'").ok(), "one");
});
