//! Changing a container's limits and restart policy while it exists (`docker update`).

use super::create::Invalid;
use super::create::check;
use super::create::limits::{self, Occasion};
use super::error::ContainerError;
use super::host_config::HostConfig;
use super::oci_spec;
use super::owner::Owner;
use super::record::Record;
use super::state::Phase;
use super::storage;
use crate::base::host::Host;
use crate::runtime::ShimError;

/// Why a container stays as it is; the texts are dockerd's.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("{0}")]
    Conflict(&'static str),
    #[error("container is marked for removal and cannot be \"update\"")]
    Removing,
    #[error("{0}")]
    Limits(#[source] ShimError),
    #[error(transparent)]
    Spec(#[from] oci_spec::SpecError),
}

/// Checks what is wished; the warnings that go with it. What this host cannot enforce is taken out.
pub fn check(wanted: &mut HostConfig, host: &Host) -> Result<Vec<String>, Invalid> {
    let mut warnings = Vec::new();
    limits::check(wanted, host, Occasion::Update, &mut warnings)?;
    // None given is no wish.
    if !wanted.restart_policy.name.is_empty() || wanted.restart_policy.maximum_retry_count != 0 {
        check::restart_policy(wanted)?;
    }
    Ok(warnings)
}

impl Owner {
    /// Changes what `wanted` says: in the kernel if the container runs, then in the record.
    pub(super) async fn update(&mut self, wanted: &HostConfig) -> Result<(), ContainerError> {
        let id = self.shared.id.clone();
        let failed = |source| ContainerError::Update { id, source };
        if matches!(self.now.state.phase, Phase::Removing | Phase::Dead) {
            return Err(failed(UpdateError::Removing));
        }
        let old = self.now.record.clone();
        let record = match merged(&old.host_config, wanted) {
            Ok(host_config) => Record { host_config, ..(*old).clone() },
            Err(error) => return Err(failed(error)),
        };
        if let Err(error) = self.set_limits(&record.host_config).await {
            // Some may have been set before the one that cannot be.
            let _ = self.set_limits(&old.host_config).await;
            return Err(failed(error));
        }
        storage::save_record(&self.parts.paths, &record)
            .await
            .map_err(|source| self.io("saving its record", source))?;
        self.now.record = record.into();
        self.publish();
        self.report().plain("update");
        Ok(())
    }

    async fn set_limits(&self, host_config: &HostConfig) -> Result<(), UpdateError> {
        let Some((shim, _)) = self.shim.as_ref().filter(|_| self.now.is_running()) else { return Ok(()) };
        shim.update(oci_spec::limits(host_config)?).await.map_err(UpdateError::Limits)
    }
}

/// What is not given, or zero, stays as it is.
fn merged(now: &HostConfig, wanted: &HostConfig) -> Result<HostConfig, UpdateError> {
    conflicts(now, wanted)?;
    let mut merged = now.clone();
    macro_rules! take {
        ($($field:ident),+) => { $(replace(&mut merged.$field, &wanted.$field);)+ };
    }
    take!(
        blkio_weight,
        cpu_shares,
        nano_cpus,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime
    );
    take!(cpuset_cpus, cpuset_mems, memory, memory_swap, memory_reservation, pids_limit, blkio_weight_device);
    take!(blkio_device_read_bps, blkio_device_write_bps, blkio_device_read_iops, blkio_device_write_iops);
    // Whatever says "no limit" is told as 0.
    merged.pids_limit = merged.pids_limit.map(|limit| limit.max(0));
    if !wanted.restart_policy.name.is_empty() {
        merged.restart_policy = wanted.restart_policy.clone();
    }
    Ok(merged)
}

fn replace<T: Clone + Default + PartialEq>(now: &mut T, wanted: &T) {
    if *wanted != T::default() {
        now.clone_from(wanted);
    }
}

fn conflicts(now: &HostConfig, wanted: &HostConfig) -> Result<(), UpdateError> {
    let policy = wanted.restart_policy.name.as_str();
    for (conflict, text) in [
        (
            wanted.nano_cpus > 0 && now.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            wanted.nano_cpus > 0 && now.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            wanted.cpu_period > 0 && now.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            wanted.cpu_quota > 0 && now.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            wanted.memory != 0 && wanted.memory > now.memory_swap && wanted.memory_swap == 0,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            now.auto_remove && !matches!(policy, "" | "no"),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ] {
        if conflict {
            return Err(UpdateError::Conflict(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host_config(value: serde_json::Value) -> HostConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_given_stays() {
        let now = json!({ "Memory": 100, "MemorySwap": 200, "CpusetCpus": "0", "PidsLimit": 5,
                          "RestartPolicy": { "Name": "always" }, "BlkioDeviceReadBps": [{"Path": "/x", "Rate": 1}] });
        let now = host_config(now);
        assert_eq!(merged(&now, &HostConfig::default()).unwrap(), now);
        let wanted = json!({ "Memory": 150, "CpusetCpus": "1", "PidsLimit": -1, "RestartPolicy": { "Name": "no" },
                             "BlkioDeviceReadBps": [] });
        let merged = merged(&now, &host_config(wanted)).unwrap();
        assert_eq!((merged.memory, merged.memory_swap, merged.pids_limit), (150, 200, Some(0)));
        assert_eq!((merged.cpuset_cpus.as_str(), merged.restart_policy.name.as_str()), ("1", "no"));
        assert_eq!(merged.blkio_device_read_bps, Some(vec![]));
    }

    #[test]
    fn conflicts_are_told() {
        for (now, wanted, said) in [
            (json!({ "CpuPeriod": 5 }), json!({ "NanoCpus": 5 }), "as CPU Period has"),
            (json!({ "CpuQuota": 5 }), json!({ "NanoCpus": 5 }), "as CPU Quota has"),
            (json!({ "NanoCpus": 5 }), json!({ "CpuPeriod": 5 }), "CPU Period cannot"),
            (json!({ "NanoCpus": 5 }), json!({ "CpuQuota": 5 }), "CPU Quota cannot"),
            (json!({ "MemorySwap": 9 }), json!({ "Memory": 10 }), "update the memoryswap"),
            (json!({}), json!({ "Memory": 10 }), "update the memoryswap"),
            (json!({ "AutoRemove": true }), json!({ "RestartPolicy": { "Name": "always" } }), "AutoRemove"),
        ] {
            let error = merged(&host_config(now), &host_config(wanted)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let both = host_config(json!({ "Memory": 10, "MemorySwap": -1 }));
        assert_eq!(merged(&HostConfig::default(), &both).unwrap().memory_swap, -1);
    }
}
