//! Limits as cgroup v1 has them, which are those of the specification (Documentation/admin-guide/cgroup-v1). Pure but
//! for what it is told of the group as it is.

use std::ops::RangeInclusive;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

use super::limits::{LimitError, Missing, device_weights, named, throttles};

/// One write into the group's directory of a controller.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    pub controller: &'static str,
    pub file: &'static str,
    pub value: String,
    pub missing: Missing,
}

/// What the writes depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present {
    /// Block devices have weights of BFQ, and none of CFQ, which newer kernels lack.
    pub bfq: bool,
    /// The limit of memory and swap together, in bytes, where it is counted.
    pub memory_and_swap: Option<u64>,
}

/// Whether device rules are written: they cannot be changed once there are groups below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Devices {
    Set,
    Left,
}

/// The shares that the kernel has; others it takes and makes one of these of (`MIN_SHARES`, `MAX_SHARES`).
const SHARES: RangeInclusive<u64> = 2..=262_144;

/// Refuses what the kernel would silently make something else of. v2 has no shares: there the nearest weight is taken.
pub fn check(resources: &LinuxResources) -> Result<(), LimitError> {
    match resources.cpu().as_ref().and_then(LinuxCpu::shares) {
        None | Some(0) => Ok(()),
        Some(shares) if shares < *SHARES.start() => Err(LimitError::FewShares(*SHARES.start())),
        Some(shares) if shares > *SHARES.end() => Err(LimitError::ManyShares(*SHARES.end())),
        Some(_) => Ok(()),
    }
}

/// The writes that set `resources`, in order.
pub fn settings(resources: &LinuxResources, present: Present, devices: Devices) -> Vec<Setting> {
    let mut all = Settings::default();
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        all.add("pids", "pids.max", limit);
    }
    if let Some(memory) = resources.memory() {
        all.memory(memory, present.memory_and_swap);
    }
    if let Some(cpu) = resources.cpu() {
        all.cpu(cpu);
    }
    if let Some(io) = resources.block_io() {
        all.io(io, present.bfq);
    }
    if devices == Devices::Set {
        resources.devices().iter().flatten().for_each(|rule| all.device(rule));
    }
    all.0
}

#[derive(Default)]
struct Settings(Vec<Setting>);

impl Settings {
    fn add(&mut self, controller: &'static str, file: &'static str, value: impl ToString) {
        self.0.push(Setting { controller, file, value: value.to_string(), missing: Missing::Fails });
    }

    fn add_if<T: ToString>(&mut self, controller: &'static str, file: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.add(controller, file, value);
        }
    }

    /// A limit must never be above that of memory and swap together, at no moment.
    fn memory(&mut self, memory: &LinuxMemory, now: Option<u64>) {
        let limit = memory.limit().filter(|limit| *limit != 0);
        let both = memory.swap().filter(|swap| *swap != 0);
        let both = both.or(limit.filter(|limit| *limit < 0));
        let grows =
            both.is_some_and(|both| u64::try_from(both).is_ok_and(|both| Some(both) > now) || both < 0);
        let first = self.0.len();
        self.add_if("memory", "memory.limit_in_bytes", limit);
        if let Some(both) = both {
            // Where swap is not counted there is no limit of it.
            let missing = if both < 0 { Missing::Ignored } else { Missing::Fails };
            let file = "memory.memsw.limit_in_bytes";
            self.0.push(Setting { controller: "memory", file, value: both.to_string(), missing });
        }
        if grows && now.is_some() {
            self.0[first..].reverse();
        }
        self.add_if("memory", "memory.soft_limit_in_bytes", memory.reservation().filter(|soft| *soft != 0));
        self.add_if("memory", "memory.swappiness", memory.swappiness());
        if memory.disable_oom_killer() == Some(true) {
            self.add("memory", "memory.oom_control", 1);
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        let positive = |value: &u64| *value > 0;
        self.add_if("cpu", "cpu.shares", cpu.shares().filter(positive));
        self.add_if("cpu", "cpu.cfs_period_us", cpu.period().filter(positive));
        self.add_if("cpu", "cpu.cfs_quota_us", cpu.quota().filter(|quota| *quota != 0));
        self.add_if("cpu", "cpu.rt_period_us", cpu.realtime_period().filter(positive));
        self.add_if("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime().filter(|runtime| *runtime != 0));
        self.add_if("cpuset", "cpuset.cpus", named(cpu.cpus()));
        self.add_if("cpuset", "cpuset.mems", named(cpu.mems()));
    }

    fn io(&mut self, io: &LinuxBlockIo, bfq: bool) {
        let (whole, single) = match bfq {
            true => ("blkio.bfq.weight", "blkio.bfq.weight_device"),
            false => ("blkio.weight", "blkio.weight_device"),
        };
        self.add_if("blkio", whole, io.weight().filter(|weight| *weight > 0));
        for (device, weight) in device_weights(io) {
            self.add("blkio", single, format!("{device} {weight}"));
        }
        let files = [
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ];
        for (file, device, rate) in throttles(io, files) {
            self.add("blkio", file, format!("{device} {rate}"));
        }
    }

    fn device(&mut self, rule: &LinuxDeviceCgroup) {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        self.add("devices", file, rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, present: Present) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        let all = settings(&resources, present, Devices::Set);
        all.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn every_limit_goes_to_its_file() {
        for (json, expected) in [
            ("{}", vec![]),
            (r#"{"pids":{"limit":50}}"#, vec!["pids.max=50"]),
            (r#"{"pids":{"limit":-1}}"#, vec!["pids.max=max"]),
            (
                r#"{"memory":{"limit":100,"reservation":50,"swappiness":0,"disableOOMKiller":true}}"#,
                vec![
                    "memory.limit_in_bytes=100",
                    "memory.soft_limit_in_bytes=50",
                    "memory.swappiness=0",
                    "memory.oom_control=1",
                ],
            ),
            (
                r#"{"cpu":{"shares":5,"quota":-1,"period":1000,"realtimeRuntime":7,"realtimePeriod":9,
                    "cpus":"0-1","mems":"0"}}"#,
                vec![
                    "cpu.shares=5",
                    "cpu.cfs_period_us=1000",
                    "cpu.cfs_quota_us=-1",
                    "cpu.rt_period_us=9",
                    "cpu.rt_runtime_us=7",
                    "cpuset.cpus=0-1",
                    "cpuset.mems=0",
                ],
            ),
            (
                r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}],
                    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":9}]}}"#,
                vec![
                    "blkio.weight=500",
                    "blkio.weight_device=8:0 10",
                    "blkio.throttle.read_bps_device=8:0 7",
                    "blkio.throttle.write_iops_device=8:16 9",
                ],
            ),
            (
                r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"access":"rw"}]}"#,
                vec!["devices.deny=a *:* rwm", "devices.allow=c 1:* rw"],
            ),
        ] {
            assert_eq!(written(json, Present::default()), expected, "{json}");
        }
        let bfq = Present { bfq: true, ..Present::default() };
        assert_eq!(written(r#"{"blockIO":{"weight":500}}"#, bfq), ["blkio.bfq.weight=500"]);
    }

    #[test]
    fn shares_that_the_kernel_does_not_have_are_refused() {
        let checked = |shares: u64| {
            let resources = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
            check(&serde_json::from_str(&resources).unwrap())
        };
        for shares in [0, 2, 262_144] {
            assert_eq!(checked(shares), Ok(()), "{shares}");
        }
        assert_eq!(checked(1), Err(LimitError::FewShares(2)));
        assert_eq!(checked(262_145), Err(LimitError::ManyShares(262_144)));
    }

    #[test]
    fn memory_never_gets_above_memory_and_swap() {
        const BOTH: &str = "memory.memsw.limit_in_bytes";
        for (now, limit, swap, first) in [
            (Some(200), 300, 600, BOTH),
            (Some(200), 300, -1, BOTH),
            (Some(200), -1, 0, BOTH),
            (Some(900), 300, 600, "memory.limit_in_bytes"),
            // A new group's is as large as can be, and a host may count none.
            (Some(u64::MAX), 300, 600, "memory.limit_in_bytes"),
            (None, 300, -1, "memory.limit_in_bytes"),
        ] {
            let json = format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#);
            let present = Present { memory_and_swap: now, ..Present::default() };
            let all = settings(&serde_json::from_str(&json).unwrap(), present, Devices::Set);
            assert_eq!((all.len(), all[0].file), (2, first), "{now:?} {json}");
        }
    }

    #[test]
    fn rules_of_devices_are_left_where_asked() {
        let resources = serde_json::from_str(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
        assert_eq!(settings(&resources, Present::default(), Devices::Left), []);
    }
}
