//! Limits as cgroup v2 has them, from those of the specification, which are cgroup v1's. Pure.
//!
//! What v2 knows nothing of (kernel memory, swappiness, real-time budgets, leaf weights) is left out, as runc does;
//! whoever creates a container is warned of that.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

/// The kernel's and runc's, for a quota without a period (microseconds).
const DEFAULT_PERIOD: u64 = 100_000;

/// Limits that cannot be; texts as runc's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("unable to set swap limit without memory limit")]
    SwapWithoutMemory,
    #[error("memory+swap limit should be >= memory limit")]
    SwapBelowMemory,
    #[error("the minimum allowed cpu-shares is {0}")]
    FewShares(u64),
    #[error("the maximum allowed cpu-shares is {0}")]
    ManyShares(u64),
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Unlimited,
    At(u64),
}

/// How block devices are shared out: BFQ has weights of its own, which are v1's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    Bfq,
    Cost,
}

/// Whether a file may be missing: swap is in no file where the kernel does not count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Fails,
    Ignored,
}

/// One write into the group's directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    pub file: &'static str,
    pub value: String,
    pub missing: Missing,
}

/// What is asked for; `None` leaves the kernel's default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: Option<Bound>,
    pub memory_low: Option<Bound>,
    pub swap: Option<Bound>,
    pub pids: Option<Bound>,
    pub cpu_weight: Option<u64>,
    /// Microseconds of each period.
    pub cpu_quota: Option<Bound>,
    pub cpu_period: u64,
    pub cpus: Option<String>,
    pub mems: Option<String>,
    io: Option<LinuxBlockIo>,
}

impl Limits {
    /// Converts them.
    pub fn of(resources: &LinuxResources) -> Result<Self, LimitError> {
        let mut limits = Self { io: resources.block_io().clone(), ..Self::default() };
        if let Some(memory) = resources.memory() {
            limits.memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            limits.cpu(cpu);
        }
        limits.pids = resources.pids().as_ref().and_then(|pids| bound(pids.limit()));
        Ok(limits)
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), LimitError> {
        let limit = memory.limit().unwrap_or(0);
        self.memory = bound(limit);
        self.memory_low = memory.reservation().and_then(bound);
        // The specification counts memory and swap together; v2 counts swap alone.
        self.swap = match memory.swap().unwrap_or(0) {
            0 if limit < 0 => Some(Bound::Unlimited),
            0 => None,
            ..0 => Some(Bound::Unlimited),
            _ if limit <= 0 => return Err(LimitError::SwapWithoutMemory),
            both => match u64::try_from(both - limit) {
                Ok(swap) => Some(Bound::At(swap)),
                Err(_) => return Err(LimitError::SwapBelowMemory),
            },
        };
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        self.cpu_weight = cpu.shares().filter(|shares| *shares > 0).map(weight_of_shares);
        let period = cpu.period().filter(|period| *period > 0);
        self.cpu_quota = cpu.quota().and_then(bound).or(period.map(|_| Bound::Unlimited));
        self.cpu_period = period.unwrap_or(DEFAULT_PERIOD);
        (self.cpus, self.mems) = (named(cpu.cpus()), named(cpu.mems()));
    }

    /// The writes that set them, in order.
    pub fn settings(&self, weights: Weights) -> Vec<Setting> {
        let mut all = Vec::new();
        let mut add = |file, value: Option<String>| {
            all.extend(value.map(|value| Setting { file, value, missing: Missing::Fails }));
        };
        add("pids.max", self.pids.map(text));
        add("memory.max", self.memory.map(text));
        add("memory.low", self.memory_low.map(text));
        add("cpu.weight", self.cpu_weight.map(|weight| weight.to_string()));
        add("cpu.max", self.cpu_quota.map(|quota| format!("{} {}", text(quota), self.cpu_period)));
        add("cpuset.cpus", self.cpus.clone());
        add("cpuset.mems", self.mems.clone());
        if let Some(swap) = self.swap {
            let none = matches!(swap, Bound::Unlimited | Bound::At(0));
            let missing = if none { Missing::Ignored } else { Missing::Fails };
            all.push(Setting { file: "memory.swap.max", value: text(swap), missing });
        }
        all.extend(self.io.iter().flat_map(|io| io_settings(io, weights)));
        all
    }
}

/// 0 is not asked for, a negative number is without limit.
fn bound(value: i64) -> Option<Bound> {
    match value {
        0 => None,
        value => Some(u64::try_from(value).map_or(Bound::Unlimited, Bound::At)),
    }
}

fn text(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => "max".to_owned(),
        Bound::At(value) => value.to_string(),
    }
}

/// 2 to 262144 shares, 1024 by default, are a weight of 1 to 10000, 100 by default: the curve through these three
/// points that runc (1.4), crun and systemd's documentation have.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// 10 to 1000 become 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

fn io_settings(io: &LinuxBlockIo, weights: Weights) -> Vec<Setting> {
    let (file, convert): (_, fn(u16) -> u64) = match weights {
        Weights::Bfq => ("io.bfq.weight", u64::from),
        Weights::Cost => ("io.weight", io_weight),
    };
    let set = |file, value| Setting { file, value, missing: Missing::Fails };
    let whole = io.weight().filter(|weight| *weight > 0);
    let mut all: Vec<_> = whole.map(|weight| set(file, convert(weight).to_string())).into_iter().collect();
    let single = device_weights(io);
    all.extend(single.map(|(device, weight)| set(file, format!("{device} {}", convert(weight)))));
    let rates = throttles(io, ["rbps", "wbps", "riops", "wiops"]);
    all.extend(rates.map(|(key, device, rate)| set("io.max", format!("{device} {key}={rate}"))));
    all
}

/// The weights of single block devices that are asked for, each after its device's number.
pub fn device_weights(io: &LinuxBlockIo) -> impl Iterator<Item = (String, u16)> {
    let asked = io.weight_device().iter().flatten();
    asked.filter_map(|device| {
        let weight = device.weight().filter(|weight| *weight > 0)?;
        Some((format!("{}:{}", device.major(), device.minor()), weight))
    })
}

/// The rates of single block devices: the name of what is limited (bytes read, bytes written, reads, writes), the
/// device's number and the rate.
pub fn throttles<'a>(
    io: &'a LinuxBlockIo,
    names: [&'static str; 4],
) -> impl Iterator<Item = (&'static str, String, u64)> + 'a {
    let lists = [
        io.throttle_read_bps_device(),
        io.throttle_write_bps_device(),
        io.throttle_read_iops_device(),
        io.throttle_write_iops_device(),
    ];
    names.into_iter().zip(lists).flat_map(|(name, devices)| {
        let number = |device: &LinuxThrottleDevice| format!("{}:{}", device.major(), device.minor());
        devices.iter().flatten().map(move |device| (name, number(device), device.rate()))
    })
}

/// A list of processors or memory nodes, if one is given.
pub fn named(set: &Option<String>) -> Option<String> {
    set.clone().filter(|set| !set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        let settings = Limits::of(&resources).unwrap().settings(Weights::Cost);
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn every_limit_goes_to_its_file() {
        for (json, expected) in [
            ("{}", vec![]),
            (r#"{"pids":{"limit":50}}"#, vec!["pids.max=50"]),
            (r#"{"pids":{"limit":-1}}"#, vec!["pids.max=max"]),
            (
                r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#,
                vec!["memory.max=100", "memory.low=50", "memory.swap.max=200"],
            ),
            (r#"{"memory":{"limit":100,"swap":100}}"#, vec!["memory.max=100", "memory.swap.max=0"]),
            (r#"{"memory":{"limit":100,"swap":-1}}"#, vec!["memory.max=100", "memory.swap.max=max"]),
            (r#"{"memory":{"limit":-1}}"#, vec!["memory.max=max", "memory.swap.max=max"]),
            (r#"{"cpu":{"quota":50000,"period":100000}}"#, vec!["cpu.max=50000 100000"]),
            (r#"{"cpu":{"quota":-1}}"#, vec!["cpu.max=max 100000"]),
            (r#"{"cpu":{"period":50000}}"#, vec!["cpu.max=max 50000"]),
            (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#, vec!["cpuset.cpus=0-1", "cpuset.mems=0"]),
            (
                r#"{"blockIO":{"weight":505,"weightDevice":[{"major":8,"minor":0,"weight":10}],
                    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":9}]}}"#,
                vec!["io.weight=5000", "io.weight=8:0 1", "io.max=8:0 rbps=7", "io.max=8:16 wiops=9"],
            ),
        ] {
            assert_eq!(settings(json), expected, "{json}");
        }
    }

    #[test]
    fn shares_become_weights_that_keep_minimum_default_and_maximum() {
        for (shares, weight) in
            [(1, 1), (2, 1), (300, 39), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn swap_without_or_below_memory_is_refused() {
        let of = |json: &str| Limits::of(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert_eq!(of(r#"{"memory":{"swap":300}}"#), LimitError::SwapWithoutMemory);
        assert_eq!(of(r#"{"memory":{"limit":100,"swap":50}}"#), LimitError::SwapBelowMemory);
    }

    #[test]
    fn no_swap_need_not_be_set_where_there_is_none() {
        let missing = |json: &str| {
            let limits = Limits::of(&serde_json::from_str(json).unwrap()).unwrap();
            limits.settings(Weights::Cost).pop().unwrap().missing
        };
        assert_eq!(missing(r#"{"memory":{"limit":100,"swap":100}}"#), Missing::Ignored);
        assert_eq!(missing(r#"{"memory":{"limit":100,"swap":101}}"#), Missing::Fails);
    }

    #[test]
    fn bfq_takes_the_weights_as_they_are() {
        let resources = serde_json::from_str(r#"{"blockIO":{"weight":505}}"#).unwrap();
        let settings = Limits::of(&resources).unwrap().settings(Weights::Bfq);
        assert_eq!((settings[0].file, settings[0].value.as_str()), ("io.bfq.weight", "505"));
    }
}
