//! Turns requests of older versions into what they mean in the newest. With `versions`, the place of all differences.

use crate::api::error::ApiError;
use crate::api::versions::{ApiVersion, Feature};
use crate::base::host::CgroupVersion;
use crate::container::create::CreateBody;
use crate::container::host_config::{HostConfig, Mount, MountType};

/// Adapts a request to create a container; the warnings that go with it.
pub fn create(
    body: &mut CreateBody,
    version: ApiVersion,
    cgroups: CgroupVersion,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    one_endpoint(body, version)?;
    mac_address(body, version, &mut warnings)?;
    if !version.has(Feature::HealthStartInterval)
        && let Some(health) = &mut body.config.healthcheck
    {
        health.start_interval = 0;
    }
    if let Some(host_config) = &mut body.host_config {
        of_host(host_config, version, cgroups)?;
        if version.has(Feature::VolumeDriverWarning) && !host_config.volume_driver.is_empty() {
            warnings.push(VOLUME_DRIVER.to_owned());
        }
    }
    Ok(warnings)
}

/// Adapts a request to update a container.
pub fn update(wanted: &mut HostConfig, version: ApiVersion) {
    if !version.has(Feature::UpdatePidsLimit) {
        wanted.pids_limit = None;
    }
    if !version.has(Feature::UpdateBlkioDevices) {
        wanted.blkio_weight_device = None;
        wanted.blkio_device_read_bps = None;
        wanted.blkio_device_write_bps = None;
        wanted.blkio_device_read_iops = None;
        wanted.blkio_device_write_iops = None;
    }
}

const VOLUME_DRIVER: &str = "WARNING: the container-wide volume driver configuration is ignored for volumes specified via 'mount'. Use '--mount \
     type=volume,volume-driver=...' instead";

fn one_endpoint(body: &CreateBody, version: ApiVersion) -> Result<(), ApiError> {
    let endpoints = body.networking.as_ref().and_then(|networking| networking.endpoints.as_ref());
    let Some(endpoints) = endpoints.filter(|endpoints| endpoints.len() > 1) else { return Ok(()) };
    if version.has(Feature::CreateWithSeveralNetworks) {
        return Ok(());
    }
    let names = endpoints.keys().cloned().collect::<Vec<_>>().join(", ");
    Err(ApiError::invalid(format!("Container cannot be created with multiple network endpoints: {names}")))
}

/// Before 1.44 the address was the container's, since 1.52 it is only the endpoint's; between, either is taken.
fn mac_address(
    body: &mut CreateBody,
    version: ApiVersion,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Some(address) = body.config.mac_address.take().filter(|address| !address.is_empty()) else {
        return Ok(());
    };
    if version.has(Feature::NoConfigMacAddress) {
        return Ok(());
    }
    let mode = body.host_config.as_ref().map(|host| host.network_mode.clone()).unwrap_or_default();
    if mode.starts_with("container:") {
        return Err(ApiError::invalid("conflicting options: mac-address and the network mode"));
    }
    if mode == "host" || mode == "none" {
        return Ok(());
    }
    let network = if matches!(mode.as_str(), "" | "default") { "bridge".to_owned() } else { mode };
    let endpoints = body.networking.get_or_insert_default().endpoints.get_or_insert_default();
    let endpoint = endpoints.entry(network).or_default().get_or_insert_default();
    match &endpoint.mac_address {
        Some(other) if !other.is_empty() && *other != address => {
            return Err(ApiError::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or \
                 should be left empty",
            ));
        }
        _ => endpoint.mac_address = Some(address),
    }
    if version.has(Feature::EndpointMacAddress) {
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .to_owned(),
        );
    }
    Ok(())
}

fn of_host(host: &mut HostConfig, version: ApiVersion, cgroups: CgroupVersion) -> Result<(), ApiError> {
    if !version.has(Feature::PrivateIpcDefault) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    let shares_cgroups = !version.has(Feature::CgroupnsMode) && cgroups == CgroupVersion::V1;
    if shares_cgroups && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".to_owned();
    }
    if !version.has(Feature::ConsoleSize) {
        host.console_size = [0, 0];
    }
    if version.has(Feature::NoKernelMemory) {
        host.kernel_memory = 0;
    }
    if !version.has(Feature::Annotations) {
        host.annotations.clear();
    }
    host.mounts.iter_mut().try_for_each(|mount| of_mount(mount, version))
}

fn of_mount(mount: &mut Mount, version: ApiVersion) -> Result<(), ApiError> {
    let named = |since: Feature, what: &str| match version.has(since) {
        true => Ok(()),
        false => Err(ApiError::invalid(format!("{what} needs API v1.{} or newer", since.since()))),
    };
    if mount.kind == MountType::Image.as_str() {
        named(Feature::ImageMounts, "mount of type image")?;
    }
    if mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) {
        named(Feature::VolumeSubpath, "VolumeOptions.Subpath")?;
    }
    if mount.kind != MountType::Bind.as_str() {
        return Ok(());
    }
    if !version.has(Feature::BindNonRecursive)
        && let Some(options) = &mut mount.bind_options
    {
        options.non_recursive = false;
    }
    if !version.has(Feature::RecursiveReadOnlyBinds) && mount.read_only {
        // Read-only was so for the topmost mount alone.
        let options = mount.bind_options.get_or_insert_default();
        options.read_only_non_recursive = true;
        options.read_only_force_recursive = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn adapted(body: serde_json::Value, minor: u16) -> Result<(CreateBody, Vec<String>), String> {
        let mut body: CreateBody = serde_json::from_value(body).unwrap();
        let warnings = create(&mut body, ApiVersion::of_minor(minor), CgroupVersion::V1)
            .map_err(|error| error.message)?;
        Ok((body, warnings))
    }

    #[test]
    fn on_cgroup_v2_containers_of_old_clients_see_their_own_groups_too() {
        let mut host = HostConfig::default();
        of_host(&mut host, ApiVersion::of_minor(40), CgroupVersion::V2).unwrap();
        assert_eq!(host.cgroupns_mode, "");
    }

    #[test]
    fn defaults_are_those_of_the_requests_version() {
        let modes = |minor| {
            let host = adapted(json!({"HostConfig": {}}), minor).unwrap().0.host_config.unwrap();
            (host.ipc_mode, host.cgroupns_mode)
        };
        assert_eq!(modes(39), ("shareable".to_owned(), "host".to_owned()));
        assert_eq!(modes(40), (String::new(), "host".to_owned()));
        assert_eq!(modes(41), (String::new(), String::new()));
    }

    #[test]
    fn read_only_binds_are_recursive_from_1_44_on() {
        let options = |minor| {
            let mount = json!({"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true,
                               "BindOptions": {"NonRecursive": true}});
            let host = adapted(json!({"HostConfig": {"Mounts": [mount]}}), minor).unwrap().0.host_config;
            let options = host.unwrap().mounts[0].bind_options.clone().unwrap();
            (options.non_recursive, options.read_only_non_recursive)
        };
        assert_eq!(options(39), (false, true));
        assert_eq!(options(43), (true, true));
        assert_eq!(options(44), (true, false));
    }

    #[test]
    fn several_networks_need_1_44() {
        let body = || json!({"NetworkingConfig": {"EndpointsConfig": {"a": null, "b": {}}}});
        assert!(adapted(body(), 44).is_ok());
        let refused = adapted(body(), 43).unwrap_err();
        assert_eq!(refused, "Container cannot be created with multiple network endpoints: a, b");
    }

    #[test]
    fn the_containers_mac_address_becomes_its_endpoints() {
        let body = || json!({"MacAddress": "02:00:00:00:00:01"});
        let of = |minor| {
            let (body, warnings) = adapted(body(), minor).unwrap();
            let endpoints = body.networking.and_then(|networking| networking.endpoints).unwrap_or_default();
            let address =
                endpoints.get("bridge").cloned().flatten().and_then(|endpoint| endpoint.mac_address);
            (address, warnings.len())
        };
        assert_eq!(of(43), (Some("02:00:00:00:00:01".to_owned()), 0));
        assert_eq!(of(44), (Some("02:00:00:00:00:01".to_owned()), 1));
        assert_eq!(of(52), (None, 0));
        let differing = json!({
            "MacAddress": "02:00:00:00:00:01",
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:00:00:00:00:02"}}},
        });
        assert!(adapted(differing, 50).is_err());
        let of_other =
            json!({"MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "container:x"}});
        let refused = adapted(of_other, 50).unwrap_err();
        assert_eq!(refused, "conflicting options: mac-address and the network mode");
    }
}
