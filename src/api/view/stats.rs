//! What a container uses, as clients read it.

use serde_json::{Value, json};

use crate::base::time::Timestamp;
use crate::container::stats::{Cpu, Device, DeviceCounter, Memory, Sample};

/// One reply of `GET /containers/{id}/stats`: a sample and the one before it, from which clients compute shares. A
/// container that does not run has neither.
pub fn stats(id: &str, name: &str, sample: Option<&Sample>, before: Option<&Sample>) -> Value {
    let read = |sample: Option<&Sample>| sample.map_or(Timestamp::UNSET, |sample| sample.read);
    let mut reply = json!({
        "id": id,
        "name": name,
        "os_type": "linux",
        "read": read(sample),
        "preread": read(before),
        "cpu_stats": sample.map_or_else(nothing_of_cpu, |sample| cpu(&sample.cpu)),
        "precpu_stats": before.map_or_else(nothing_of_cpu, |sample| cpu(&sample.cpu)),
        "memory_stats": sample.map_or_else(|| json!({}), |sample| memory(&sample.memory)),
        "pids_stats": {},
        "blkio_stats": devices(sample.map_or(&[], |sample| &sample.devices)),
        "num_procs": 0,
        "storage_stats": {},
    });
    let Some(sample) = sample else { return reply };
    reply["pids_stats"] = json!({ "current": sample.processes.current });
    if sample.processes.limit > 0 {
        reply["pids_stats"]["limit"] = json!(sample.processes.limit);
    }
    if !sample.networks.is_empty() {
        reply["networks"] = networks(sample);
    }
    reply
}

fn nothing_of_cpu() -> Value {
    json!({
        "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    })
}

fn cpu(cpu: &Cpu) -> Value {
    let mut usage = json!({
        "total_usage": cpu.total,
        "usage_in_kernelmode": cpu.kernel,
        "usage_in_usermode": cpu.user,
    });
    if let Some(each) = &cpu.each {
        usage["percpu_usage"] = json!(each);
    }
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": cpu.system,
        "online_cpus": cpu.online,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled,
        },
    })
}

fn memory(memory: &Memory) -> Value {
    let mut wire = json!({ "usage": memory.usage, "limit": memory.limit, "stats": memory.stats });
    if let Some(max) = memory.max_usage {
        wire["max_usage"] = json!(max);
    }
    if let Some(failures) = memory.failures {
        wire["failcnt"] = json!(failures);
    }
    wire
}

fn devices(devices: &[Device]) -> Value {
    let of = |kind: DeviceCounter| {
        let those = devices.iter().filter(|device| device.kind == kind);
        let wire = those.map(|device| {
            json!({
                "major": device.major,
                "minor": device.minor,
                "op": device.operation,
                "value": device.value,
            })
        });
        let list: Vec<Value> = wire.collect();
        Value::Array(list)
    };
    json!({
        "io_service_bytes_recursive": of(DeviceCounter::Bytes),
        "io_serviced_recursive": of(DeviceCounter::Operations),
        "io_queue_recursive": [],
        "io_service_time_recursive": [],
        "io_wait_time_recursive": [],
        "io_merged_recursive": [],
        "io_time_recursive": [],
        "sectors_recursive": [],
    })
}

fn networks(sample: &Sample) -> Value {
    let wire = sample.networks.iter().map(|(name, one)| {
        let counters = json!({
            "rx_bytes": one.rx_bytes,
            "rx_packets": one.rx_packets,
            "rx_errors": one.rx_errors,
            "rx_dropped": one.rx_dropped,
            "tx_bytes": one.tx_bytes,
            "tx_packets": one.tx_packets,
            "tx_errors": one.tx_errors,
            "tx_dropped": one.tx_dropped,
        });
        (name.clone(), counters)
    });
    Value::Object(wire.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conformance;
    use crate::api::versions::ApiVersion;
    use crate::container::stats::{Interface, Processes};

    fn sample() -> Sample {
        Sample {
            read: Timestamp::from_nanos(1),
            cpu: Cpu { total: 5, online: 2, each: Some(vec![2, 3]), ..Cpu::default() },
            memory: Memory { usage: 1, limit: 2, ..Memory::default() },
            processes: Processes { current: 1, limit: 0 },
            devices: vec![Device {
                major: 8,
                minor: 0,
                kind: DeviceCounter::Bytes,
                operation: "read".to_owned(),
                value: 4096,
            }],
            networks: [("eth0".to_owned(), Interface::default())].into(),
        }
    }

    #[test]
    fn replies_fit_the_specification() {
        let sample = sample();
        for reply in [stats("x", "/x", Some(&sample), None), stats("x", "/x", None, None)] {
            let body = reply.to_string();
            for minor in [25, 41, 55] {
                let version = ApiVersion::of_minor(minor);
                let found = conformance::validate_operation("ContainerStats", version, 200, body.as_bytes());
                assert_eq!(found, [], "1.{minor}");
            }
        }
    }
}
