//! Limits that a container can be made with and that can be changed while it runs.

use serde_json::{Value, json};

pub struct Limit {
    /// In `HostConfig` and `ContainerUpdate`.
    pub name: &'static str,
    pub value: Value,
    pub script: &'static str,
    pub prints: &'static str,
}

pub fn changeable() -> Vec<Limit> {
    let limit = |name, value, script, prints| Limit { name, value, script, prints };
    let throttled = |name, rate: u32, script, prints| {
        limit(name, json!([{ "Path": "{disk}", "Rate": rate }]), script, prints)
    };
    vec![
        limit("CpuShares", json!(300), "cg cpu.shares cpu.weight", "300|39"),
        limit("CpuPeriod", json!(50_000), "cg cpu.cfs_period_us cpu.max", "50000|max 50000"),
        limit("CpusetCpus", json!("0"), "cg cpuset.cpus cpuset.cpus", "0"),
        limit("CpusetMems", json!("0"), "cg cpuset.mems cpuset.mems", "0"),
        limit("PidsLimit", json!(77), "cg pids.max pids.max", "77"),
        limit("MemoryReservation", json!(33_554_432), "cg memory.soft_limit_in_bytes memory.low", "33554432"),
        limit("BlkioWeight", json!(300), "cg blkio.bfq.weight io.weight", "300|default 2930|(default )?100"),
        throttled(
            "BlkioDeviceReadBps",
            1_048_576,
            "cg blkio.throttle.read_bps_device io.max",
            r"\d+:\d+ (1048576|rbps=1048576 .*)",
        ),
        throttled(
            "BlkioDeviceWriteBps",
            1_048_577,
            "cg blkio.throttle.write_bps_device io.max",
            r"\d+:\d+ (1048577|.*wbps=1048577 .*)",
        ),
        throttled(
            "BlkioDeviceReadIOps",
            111,
            "cg blkio.throttle.read_iops_device io.max",
            r"\d+:\d+ (111|.*riops=111 .*)",
        ),
        throttled(
            "BlkioDeviceWriteIOps",
            112,
            "cg blkio.throttle.write_iops_device io.max",
            r"\d+:\d+ (112|.*wiops=112)",
        ),
    ]
}
