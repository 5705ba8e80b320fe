//! What a container uses: processor, memory, processes, block devices and network, as the kernel counts it now.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::parts::Parts;
use super::request;
use crate::base::sys::cgroup::Cgroup;
use crate::base::time::Timestamp;

/// Nanoseconds in a tick of /proc/stat and cpuacct.stat (`USER_HZ` is 100 on all Linux architectures we build for).
const TICK: u64 = 10_000_000;
/// Bytes; more than any of the files here has.
const ROOM: usize = 8 << 10;
/// How long the host's time is reckoned from the clock.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// All counters at one moment. Those that the kernel does not give are zero or absent.
#[derive(Clone, Debug)]
pub struct Sample {
    pub read: Timestamp,
    pub cpu: Cpu,
    pub memory: Memory,
    pub processes: Processes,
    pub devices: Vec<Device>,
    /// By interface; empty if the container shares the host's network.
    pub networks: BTreeMap<String, Interface>,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub total: u64,
    pub kernel: u64,
    pub user: u64,
    /// cgroup v1 only.
    pub each: Option<Vec<u64>>,
    /// Of the whole host, idle time included.
    pub system: u64,
    pub online: usize,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub usage: u64,
    /// cgroup v1 only.
    pub max_usage: Option<u64>,
    /// cgroup v1 only: how often the limit was hit.
    pub failures: Option<u64>,
    pub limit: u64,
    pub stats: BTreeMap<String, u64>,
}

/// How many there are and may be (without limit: 0 on cgroup v1, all bits set on v2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    pub current: u64,
    pub limit: u64,
}

/// One counter of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub major: u64,
    pub minor: u64,
    pub kind: DeviceCounter,
    /// `read`, `write`, … in the kernel's case.
    pub operation: String,
    pub value: u64,
}

/// What a device's counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceCounter {
    Bytes,
    Operations,
}

/// A network interface's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Reads a container's counters, time and again.
pub struct Sampler {
    handle: Handle,
    /// Of its present run.
    run: Option<Run>,
}

/// One run of a container: the kernel's files of its counters stay open, since to find them costs more than to read
/// them.
struct Run {
    pid: i32,
    started: Timestamp,
    cgroup: Cgroup,
    files: RefCell<HashMap<(&'static str, &'static str), File>>,
    text: RefCell<Vec<u8>>,
}

impl Sampler {
    /// Nothing is opened before the first sample.
    pub fn new(handle: Handle) -> Self {
        Self { handle, run: None }
    }

    /// The counters of this moment; `None` if it does not run.
    pub async fn sample(&mut self, parts: &Parts) -> Option<Sample> {
        let now = self.handle.snapshot();
        let before = self.run.take();
        let pid = now.state.pid.filter(|_| now.is_running())?;
        let started = now.state.started_at;
        let run = match before.filter(|run| (run.pid, run.started) == (pid, started)) {
            Some(run) => run,
            None => Run::new(pid, started, Cgroup::named(&request::cgroup_path(parts, &now.record)).ok()?),
        };
        let own_network = now.record.host_config.network_mode != "host";
        let (memory, processors) = (parts.host.memory, parts.host.processors);
        let read = move || {
            let mut sample = run.sample(memory);
            sample.cpu.system = host_time(processors);
            sample.cpu.online = processors;
            if own_network {
                sample.networks = interfaces(&run.network());
            }
            (sample, run)
        };
        let (sample, run) = tokio::task::spawn_blocking(read).await.ok()?;
        self.run = Some(run);
        Some(sample)
    }
}

impl Run {
    fn new(pid: i32, started: Timestamp, cgroup: Cgroup) -> Self {
        let (files, text) = (RefCell::default(), RefCell::new(vec![0; ROOM]));
        Self { pid, started, cgroup, files, text }
    }

    fn sample(&self, host_memory: u64) -> Sample {
        let file = |controller, name| self.counter(controller, name);
        let unified = self.cgroup.unified().is_some();
        let (cpu, mut memory, devices) = match unified {
            true => (cpu_v2(&file), memory_v2(&file), devices_v2(&file("io", "io.stat"))),
            false => (cpu_v1(&file), memory_v1(&file), devices_v1(&file)),
        };
        memory.limit = if memory.limit == 0 { host_memory } else { memory.limit.min(host_memory) };
        let processes = Processes {
            current: number(&file("pids", "pids.current")),
            limit: match file("pids", "pids.max").trim() {
                // What clients of either version know as no limit.
                "max" if unified => u64::MAX,
                limit => number(limit),
            },
        };
        Sample { read: Timestamp::now(), cpu, memory, processes, devices, networks: BTreeMap::new() }
    }

    /// A file of the control group; empty if it is not there.
    fn counter(&self, controller: &'static str, name: &'static str) -> String {
        self.read((controller, name), || Some(self.cgroup.dir(controller)?.join(name)))
    }

    fn network(&self) -> String {
        self.read(("", "net/dev"), || Some(format!("/proc/{}/net/dev", self.pid).into()))
    }

    fn read(&self, key: (&'static str, &'static str), path: impl FnOnce() -> Option<PathBuf>) -> String {
        let mut files = self.files.borrow_mut();
        let file = match files.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => match path().and_then(|path| File::open(path).ok()) {
                Some(file) => vacant.insert(file),
                None => return String::new(),
            },
        };
        let text = &mut *self.text.borrow_mut();
        let length = whole(file, text).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}

/// Reads a file from its start on; one read gives it whole if there is room. Returns its length.
fn whole(file: &File, text: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        length += file.read_at(&mut text[length..], length as u64)?;
        if length < text.len() {
            return Ok(length);
        }
        text.resize(2 * length, 0);
    }
}

/// Gives the text of a controller's file.
type Files<'a> = dyn Fn(&'static str, &'static str) -> String + 'a;

fn cpu_v1(file: &Files<'_>) -> Cpu {
    let stat = pairs(&file("cpuacct", "cpuacct.stat"));
    let quota = pairs(&file("cpu", "cpu.stat"));
    let each = file("cpuacct", "cpuacct.usage_percpu");
    let each: Vec<u64> = each.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    Cpu {
        // What cpuacct.usage tells.
        total: each.iter().fold(0, |sum, time| sum.saturating_add(*time)),
        kernel: get(&stat, "system").saturating_mul(TICK),
        user: get(&stat, "user").saturating_mul(TICK),
        each: Some(each),
        periods: get(&quota, "nr_periods"),
        throttled_periods: get(&quota, "nr_throttled"),
        throttled: get(&quota, "throttled_time"),
        ..Cpu::default()
    }
}

fn cpu_v2(file: &Files<'_>) -> Cpu {
    let stat = pairs(&file("cpu", "cpu.stat"));
    let nanos = |key: &str| get(&stat, key).saturating_mul(1000);
    Cpu {
        total: nanos("usage_usec"),
        kernel: nanos("system_usec"),
        user: nanos("user_usec"),
        periods: get(&stat, "nr_periods"),
        throttled_periods: get(&stat, "nr_throttled"),
        throttled: nanos("throttled_usec"),
        ..Cpu::default()
    }
}

fn memory_v1(file: &Files<'_>) -> Memory {
    Memory {
        usage: number(&file("memory", "memory.usage_in_bytes")),
        max_usage: Some(number(&file("memory", "memory.max_usage_in_bytes"))),
        failures: Some(number(&file("memory", "memory.failcnt"))),
        limit: number(&file("memory", "memory.limit_in_bytes")),
        stats: pairs(&file("memory", "memory.stat")),
    }
}

fn memory_v2(file: &Files<'_>) -> Memory {
    Memory {
        usage: number(&file("memory", "memory.current")),
        limit: number(&file("memory", "memory.max")),
        stats: pairs(&file("memory", "memory.stat")),
        ..Memory::default()
    }
}

fn devices_v1(file: &Files<'_>) -> Vec<Device> {
    let bytes = devices_of(&file("blkio", "blkio.throttle.io_service_bytes_recursive"), DeviceCounter::Bytes);
    let operations =
        devices_of(&file("blkio", "blkio.throttle.io_serviced_recursive"), DeviceCounter::Operations);
    bytes.into_iter().chain(operations).collect()
}

/// Lines of `8:0 Read 4096`.
fn devices_of(text: &str, kind: DeviceCounter) -> Vec<Device> {
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (operation, value) = (words.next()?.to_ascii_lowercase(), words.next()?.parse().ok()?);
        Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()?, kind, operation, value })
    };
    text.lines().filter_map(device).collect()
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn devices_v2(text: &str) -> Vec<Device> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (kind, operation) = match key {
                "rbytes" => (DeviceCounter::Bytes, "read"),
                "wbytes" => (DeviceCounter::Bytes, "write"),
                "rios" => (DeviceCounter::Operations, "read"),
                "wios" => (DeviceCounter::Operations, "write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            devices.push(Device { major, minor, kind, operation: operation.to_owned(), value });
        }
    }
    devices
}

/// Lines of /proc/PID/net/dev after its two headings; loopback does not count.
fn interfaces(text: &str) -> BTreeMap<String, Interface> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|text| text.parse().ok()).collect();
        let at = |index: usize| counters.get(index).copied().unwrap_or(0);
        let interface = Interface {
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        };
        (name.trim() != "lo").then(|| (name.trim().to_owned(), interface))
    };
    text.lines().skip(2).filter_map(interface).collect()
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq and steal time (proc(5)).
fn system_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().take(8).filter_map(|text| text.parse::<u64>().ok());
    ticks.fold(0, u64::saturating_add).saturating_mul(TICK)
}

/// Nanoseconds that all processors have spent, idle or not. They grow with the clock, so that the kernel, which sums up
/// all interrupts for it, is asked once a second and not once for each container.
fn host_time(processors: usize) -> u64 {
    static LAST: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, time) = match *last {
        Some((at, time)) if at.elapsed() < ASKED_AGAIN => (at, time),
        _ => {
            let text = fs::read_to_string("/proc/stat").unwrap_or_default();
            *last.insert((Instant::now(), system_time(&text)))
        }
    };
    let passed = u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
    time.saturating_add(passed.saturating_mul(processors as u64))
}

/// A lone number; `max` and whatever else is none is 0.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn get(pairs: &BTreeMap<String, u64>, key: &str) -> u64 {
    pairs.get(key).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_are_read_in_both_forms() {
        let device = |kind, operation: &str, value| Device {
            major: 8,
            minor: 16,
            kind,
            operation: operation.to_owned(),
            value,
        };
        let v1 = devices_of("8:16 Read 4096\n8:16 Write 0\nTotal 4096\n", DeviceCounter::Bytes);
        assert_eq!(
            v1,
            [device(DeviceCounter::Bytes, "read", 4096), device(DeviceCounter::Bytes, "write", 0)]
        );
        let v2 = devices_v2("8:16 rbytes=1 wios=2 dios=3\n");
        assert_eq!(
            v2,
            [device(DeviceCounter::Bytes, "read", 1), device(DeviceCounter::Operations, "write", 2)]
        );
    }

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 \
                    6 7 8 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        let eth0 = found["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (1, 4, 5, 8));
    }

    #[test]
    fn a_file_is_read_whole_however_long_it_is_and_again_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = vec![0; ROOM];
        for length in [0, 1, ROOM - 1, ROOM, ROOM + 1, 5 * ROOM, 1] {
            fs::write(dir.path().join("x"), "a".repeat(length)).unwrap();
            let file = File::open(dir.path().join("x")).unwrap();
            for _ in 0..2 {
                assert_eq!(whole(&file, &mut text).unwrap(), length);
            }
        }
    }

    #[test]
    fn the_hosts_time_grows_with_the_clock() {
        let processors = 4;
        let (before, first) = (Instant::now(), host_time(processors));
        std::thread::sleep(Duration::from_millis(50));
        let (second, passed) = (host_time(processors), before.elapsed().as_nanos() as u64);
        assert!(second > first && second - first <= passed * processors as u64, "{first} {second}");
    }

    #[test]
    fn the_hosts_time_is_the_sum_of_its_kinds() {
        assert_eq!(system_time("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), 36 * TICK);
    }

    #[test]
    fn counters_that_are_too_large_stop_at_the_largest() {
        let file = |_: &str, _: &str| format!("usage_usec {0}\nsystem {0}\n", u64::MAX);
        assert_eq!((cpu_v1(&file).kernel, cpu_v2(&file).total), (u64::MAX, u64::MAX));
        assert_eq!(system_time(&format!("cpu  {0} {0}\n", u64::MAX)), u64::MAX);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z_]{1,6}",
            "[0-9]{1,21}",
            "(rbytes|wios|usage_usec|system|user)",
            "[0-9]:[0-9]",
            "r?bytes=[0-9]{1,21}",
            "max|-1|é",
            "\n(system|user|usage_usec|nr_periods) [0-9]{1,20}\n",
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec((word(), "[ =:\n]"), 0..20)
            .prop_map(|words| words.into_iter().map(|(a, b)| a + &b).collect())
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn any_text_of_the_kernel_is_counted(text in text()) {
            let file = |_: &str, _: &str| text.clone();
            let lines = text.lines().count();
            prop_assert!(cpu_v1(&file).kernel >= get(&pairs(&text), "system"));
            prop_assert!(cpu_v2(&file).total >= get(&pairs(&text), "usage_usec"));
            let _ = (memory_v1(&file), memory_v2(&file), system_time(&format!("cpu {text}")));
            prop_assert!(devices_of(&text, DeviceCounter::Bytes).len() <= lines);
            prop_assert!(interfaces(&text).len() <= lines.saturating_sub(2));
            let _ = devices_v2(&text);
        }

        #[test]
        fn devices_are_counted_as_the_kernel_writes_them(
            numbers in any::<[u32; 2]>(),
            counts in any::<[u64; 4]>(),
        ) {
            let ([major, minor], [read, written, reads, writes]) = (numbers, counts);
            let bytes = format!("rbytes={read} wbytes={written} rios={reads} wios={writes}");
            let found = devices_v2(&format!("{major}:{minor} {bytes} dbytes=0 dios=0\n"));
            prop_assert!(found.iter().all(|device| (device.major, device.minor) == (major.into(), minor.into())));
            prop_assert_eq!(found.iter().map(|device| device.value).collect::<Vec<_>>(), counts);
        }

        #[test]
        fn the_time_of_the_system_is_the_sum_of_its_eight_parts(
            ticks in prop::collection::vec(0..1u64 << 35, 10),
        ) {
            let line = ticks.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(system_time(&format!("cpu  {line}\ncpu0 1 2 3\n")), ticks[..8].iter().sum::<u64>() * TICK);
        }
    }
}
