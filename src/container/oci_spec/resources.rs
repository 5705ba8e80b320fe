//! Limits of a container, as cgroup v1 names them; the runtime converts them for v2.

use serde_json::{Map, Value, json};

use super::{SpecError, SpecInput, devices};
use crate::container::host_config::HostConfig;

pub(super) fn of(input: &SpecInput<'_>) -> Result<Value, SpecError> {
    let mut resources = limits(&input.record.host_config)?;
    resources["devices"] = json!(devices::rules(input)?);
    Ok(resources)
}

/// All but the devices, which stay as they are while the container runs.
pub(super) fn limits(host_config: &HostConfig) -> Result<Value, SpecError> {
    let mut resources = json!({ "memory": memory(host_config), "cpu": cpu(host_config) });
    if let Some(limit) = host_config.pids_limit {
        resources["pids"] = json!({ "limit": if limit <= 0 { -1 } else { limit } });
    }
    let block_io = block_io(host_config)?;
    if block_io.as_object().is_some_and(|map| !map.is_empty()) {
        resources["blockIO"] = block_io;
    }
    Ok(resources)
}

fn memory(host_config: &HostConfig) -> Value {
    let mut map = Map::new();
    positive(&mut map, "limit", host_config.memory);
    positive(&mut map, "reservation", host_config.memory_reservation);
    if host_config.memory_swap != 0 {
        map.insert("swap".to_owned(), json!(host_config.memory_swap));
    }
    if let Some(swappiness) = host_config.memory_swappiness.filter(|value| *value >= 0) {
        map.insert("swappiness".to_owned(), json!(swappiness));
    }
    if host_config.oom_kill_disable == Some(true) {
        map.insert("disableOOMKiller".to_owned(), json!(true));
    }
    Value::Object(map)
}

fn cpu(host_config: &HostConfig) -> Value {
    let mut map = Map::new();
    positive(&mut map, "shares", host_config.cpu_shares);
    positive(&mut map, "period", host_config.cpu_period);
    if host_config.cpu_quota != 0 {
        map.insert("quota".to_owned(), json!(host_config.cpu_quota));
    }
    if host_config.nano_cpus > 0 {
        // A tenth of a second is the period that dockerd takes too.
        map.insert("period".to_owned(), json!(100_000));
        map.insert("quota".to_owned(), json!(host_config.nano_cpus / 10_000));
    }
    positive(&mut map, "realtimePeriod", host_config.cpu_realtime_period);
    positive(&mut map, "realtimeRuntime", host_config.cpu_realtime_runtime);
    for (key, set) in [("cpus", &host_config.cpuset_cpus), ("mems", &host_config.cpuset_mems)] {
        if !set.is_empty() {
            map.insert(key.to_owned(), json!(set));
        }
    }
    Value::Object(map)
}

fn block_io(host_config: &HostConfig) -> Result<Value, SpecError> {
    let mut map = Map::new();
    positive(&mut map, "weight", i64::from(host_config.blkio_weight));
    let weights = host_config.blkio_weight_device.iter().flatten();
    let weights = weights.map(|device| number(&device.path, "weight", u64::from(device.weight)));
    let weights = weights.collect::<Result<Vec<_>, _>>()?;
    if !weights.is_empty() {
        map.insert("weightDevice".to_owned(), json!(weights));
    }
    for (key, list) in [
        ("throttleReadBpsDevice", &host_config.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &host_config.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &host_config.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &host_config.blkio_device_write_iops),
    ] {
        let devices = list.iter().flatten().map(|device| number(&device.path, "rate", device.rate));
        let devices = devices.collect::<Result<Vec<_>, _>>()?;
        if !devices.is_empty() {
            map.insert(key.to_owned(), json!(devices));
        }
    }
    Ok(Value::Object(map))
}

fn number(device: &str, key: &str, value: u64) -> Result<Value, SpecError> {
    let unknown = |errno| SpecError::BlockDevice { path: device.to_owned(), errno };
    let number = nix::sys::stat::stat(device).map_err(unknown)?.st_rdev;
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    Ok(json!({ "major": major, "minor": minor, key: value }))
}

fn positive(map: &mut Map<String, Value>, key: &str, value: i64) {
    if value > 0 {
        map.insert(key.to_owned(), json!(value));
    }
}
