//! The stream of events: order, attributes, filters, replay.

use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::scenario::scenario;

/// Everything reported so far, as `type action`.
fn past(d: &Daemon, filter: &str) -> Vec<String> {
    let script = format!(
        "docker events --since 1 --until $(date +%s.%N) {filter} --format '{{{{.Type}}}} {{{{.Action}}}}'"
    );
    d.sh(&script).ok().lines().map(str::to_owned).collect()
}

scenario!(a_short_life_is_told_in_order, |d| {
    d.sh("docker run --rm --name box -v v:/x busybox true").ok();
    let told = past(d, "");
    let place = |event: &str| {
        told.iter().position(|e| e == event).unwrap_or_else(|| panic!("no {event} in {told:?}"))
    };
    let order = [
        "container create",
        "container attach",
        "network connect",
        "container start",
        "container die",
        "container destroy",
    ];
    for pair in order.windows(2) {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?} in {told:?}");
    }
    assert!(place("volume mount") < place("container start"));
    assert!(place("container start") < place("network disconnect"));
});

scenario!(stopping_and_restarting_are_told, |d| {
    d.sh("docker run -d --name box busybox sh -c 'trap exit TERM; while :; do sleep 0.1; done'").ok();
    d.sh(
        "docker restart -t 20 box && docker kill -s KILL box && docker wait box; docker rename box cup && docker rm cup",
    )
    .ok();
    let told: Vec<_> =
        past(d, "--filter type=container").into_iter().map(|e| e.replace("container ", "")).collect();
    for action in ["create", "start", "kill", "die", "stop", "restart", "rename", "destroy"] {
        assert!(told.iter().any(|t| t == action), "{action} in {told:?}");
    }
});

scenario!(an_event_carries_what_clients_read, |d| {
    d.sh("docker run --name box --label a=b busybox sh -c 'exit 3'").code(3);
    let until = d.sh("date +%s").ok().parse::<u64>().unwrap() + 1;
    let filter = "%7B%22event%22%3A%5B%22die%22%5D%7D";
    let events =
        d.get(&format!("/v1.41/events?since=1&until={until}&filters={filter}")).expect(200).json_stream();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    let attributes = &event["Actor"]["Attributes"];
    assert_eq!(
        (&event["Type"], &event["Action"], &event["status"], &event["from"], &event["scope"]),
        (&"container".into(), &"die".into(), &"die".into(), &"busybox".into(), &"local".into())
    );
    assert_eq!(
        (&attributes["name"], &attributes["image"], &attributes["exitCode"], &attributes["a"]),
        (&"box".into(), &"busybox".into(), &"3".into(), &"b".into())
    );
    assert!(
        event["time"].is_u64()
            && event["timeNano"].is_u64()
            && event["Actor"]["ID"].as_str().unwrap().len() == 64
    );
});

scenario!(filters_choose_events, |d| {
    d.sh(
        "docker run --rm --name box --label team=blue busybox true; docker run --rm --name cup busybox true",
    )
    .ok();
    assert!(past(d, "--filter container=box").len() >= 4);
    assert_eq!(past(d, "--filter event=die").len(), 2);
    assert_eq!(past(d, "--filter label=team=blue --filter event=start").len(), 1);
    assert!(past(d, "--filter type=network").iter().all(|e| e.starts_with("network")));
    assert_eq!(past(d, "--filter type=container --filter container=none").len(), 0);
});

scenario!(events_arrive_while_they_happen, |d| {
    let following = d.sh_running("docker events --filter type=container --format '{{json .}}'");
    // The stream has no greeting: events are made until one is seen.
    crate::harness::poll::eventually("an event arrives", || {
        d.sh("docker run --rm busybox true").ok();
        following.output().contains("\"destroy\"")
    });
    let output = following.output();
    let first: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!(first["Type"], "container");
});

scenario!(looking_at_processes_is_an_event, |d| {
    d.sh("docker run -d --name box busybox sleep 1000; docker top box").ok();
    assert_eq!(past(d, "--filter event=top"), ["container top"]);
});
