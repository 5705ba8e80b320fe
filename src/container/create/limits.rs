//! The limits that dockerd refuses, or discards with a warning, when a container is created or updated; in its words.

use super::check::{Checked, refuse};
use crate::base::host::{BlockIo, CgroupVersion, Host};
use crate::container::host_config::HostConfig;

/// Bytes; a process cannot start with less.
const LEAST_MEMORY: i64 = 6 << 20;

/// What the limits are for. An update says only what is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::container) enum Occasion {
    Create,
    Update,
}

/// Checks them; those that this host cannot enforce are taken out.
pub(in crate::container) fn check(
    host_config: &mut HostConfig,
    host: &Host,
    occasion: Occasion,
    warnings: &mut Vec<String>,
) -> Checked {
    memory(host_config, host, occasion, warnings)?;
    if host_config.pids_limit.is_some_and(|limit| limit > 0) && !host.cgroups.pids {
        host_config.pids_limit = None;
        warnings.push(discarded("pids limit", "PIDs limit"));
    }
    cpu(host_config, host, warnings)?;
    block_io(host_config, host.cgroups.block_io, warnings)
}

fn memory(
    host_config: &mut HostConfig,
    host: &Host,
    occasion: Occasion,
    warnings: &mut Vec<String>,
) -> Checked {
    if host_config.memory > 0 && !host.cgroups.memory {
        warnings.push(discarded("memory limit capabilities or the cgroup is not mounted", "Limitation"));
        (host_config.memory, host_config.memory_swap) = (0, -1);
    }
    let (memory, swap) = (host_config.memory, host_config.memory_swap);
    if memory != 0 && memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap != -1 && !host.cgroups.swap {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
             without swap."
                .to_owned(),
        );
        host_config.memory_swap = -1;
    }
    if memory > 0 && swap > 0 && swap < memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 && occasion == Occasion::Create {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host_config.memory_swappiness.is_some() && host.cgroups.version == CgroupVersion::V2 {
        warnings.push(discarded(
            "memory swappiness capabilities or the cgroup is not mounted",
            "Memory swappiness",
        ));
        host_config.memory_swappiness = None;
    }
    if let Some(value) = host_config.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return refuse(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    let reservation = host_config.memory_reservation;
    if reservation > 0 && reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host_config.oom_kill_disable == Some(true) && !host.cgroups.oom_kill_disable {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        host_config.oom_kill_disable = None;
    }
    if host_config.oom_kill_disable.is_none() && host.cgroups.oom_kill_disable {
        host_config.oom_kill_disable = Some(false);
    }
    if host_config.oom_kill_disable == Some(true) && memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .to_owned(),
        );
    }
    Ok(())
}

fn cpu(host_config: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Checked {
    let nano = host_config.nano_cpus;
    if nano != 0 && host_config.cpu_period != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano != 0 && host_config.cpu_quota != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if nano < 0 || nano > host.processors as i64 * 1_000_000_000 {
        let most = host.processors;
        return refuse(format!(
            "range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"
        ));
    }
    if host_config.cpu_shares < 0 {
        let shares = host_config.cpu_shares;
        return refuse(format!("invalid CPU shares ({shares}): value must be a positive integer"));
    }
    if host_config.cpu_shares > 0 && !host.cgroups.cpu_shares {
        warnings.push(discarded("CPU shares or the cgroup is not mounted", "Shares"));
        host_config.cpu_shares = 0;
    }
    let period = host_config.cpu_period;
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host_config.cpu_quota > 0 && host_config.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if (period != 0 || host_config.cpu_quota != 0) && !host.cgroups.cpu_quota {
        warnings.push(discarded("CPU CFS scheduler", "CPU period/quota"));
        (host_config.cpu_period, host_config.cpu_quota) = (0, 0);
    }
    if host_config.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        host_config.cpu_percent = 0;
    }
    realtime(host_config, host)?;
    cpuset(host_config, host, warnings)
}

fn realtime(host_config: &HostConfig, host: &Host) -> Checked {
    let (period, runtime) = (host_config.cpu_realtime_period, host_config.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !host.cgroups.cpu_realtime {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    match period != 0 && runtime > period {
        true => refuse("cpu real-time runtime cannot be higher than cpu real-time period"),
        false => Ok(()),
    }
}

fn cpuset(host_config: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Checked {
    let given = !host_config.cpuset_cpus.is_empty() || !host_config.cpuset_mems.is_empty();
    if given && !host.cgroups.cpuset {
        warnings.push(discarded("cpuset or the cgroup is not mounted", "Cpuset"));
        host_config.cpuset_cpus.clear();
        host_config.cpuset_mems.clear();
    }
    for (given, what, many, count) in [
        (&host_config.cpuset_cpus, "cpus", "CPUs", host.processors),
        (&host_config.cpuset_mems, "mems", "memory nodes", host.memory_nodes),
    ] {
        let Some(wanted) = numbers(given) else {
            return refuse(format!("Invalid value {given} for cpuset {what}: invalid format: {given}"));
        };
        if wanted.iter().any(|number| *number >= count) {
            let available = if count > 1 { format!("0-{}", count - 1) } else { "0".to_owned() };
            return refuse(format!(
                "Requested {many} are not available - requested {given}, available: {available}"
            ));
        }
    }
    Ok(())
}

/// `0-2,4`; `None` for what is no such list.
fn numbers(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last > 8192 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

fn block_io(host_config: &mut HostConfig, able: BlockIo, warnings: &mut Vec<String>) -> Checked {
    let weight = host_config.blkio_weight;
    if weight > 0 && !able.weight {
        warnings.push(discarded("Block I/O weight or the cgroup is not mounted", "Weight"));
        host_config.blkio_weight = 0;
    } else if weight > 0 && !(10..=1000).contains(&weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if host_config.io_maximum_bandwidth != 0 || host_config.io_maximum_iops != 0 {
        return refuse(
            "Invalid QoS settings: Linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        );
    }
    if !able.weight && host_config.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()) {
        warnings.push(discarded("Block I/O weight_device or the cgroup is not mounted", "Weight-device"));
        host_config.blkio_weight_device = Some(Vec::new());
    }
    if able.throttle {
        return Ok(());
    }
    for (list, lacks, what) in [
        (&mut host_config.blkio_device_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit"),
        (&mut host_config.blkio_device_write_bps, "BPS Block I/O write limit", "Block I/O BPS write limit"),
        (&mut host_config.blkio_device_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit"),
        (&mut host_config.blkio_device_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit"),
    ] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            warnings.push(discarded(&format!("{lacks} or the cgroup is not mounted"), what));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

fn discarded(lacks: &str, what: &str) -> String {
    format!("Your kernel does not support {lacks}. {what} discarded.")
}
