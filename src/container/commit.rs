//! What an image made of a container says of how it is run.

use super::config::{ContainerConfig, Empty, HealthConfig};
use super::create::with_image;
use crate::image::{Healthcheck, RunConfig};

/// The committer's own settings, and the container's where those say nothing: as a container is merged with its image.
pub fn config(own: RunConfig, container: &ContainerConfig) -> RunConfig {
    let mut merged = ContainerConfig::from(own);
    with_image(&mut merged, &RunConfig::from(container));
    RunConfig::from(&merged)
}

impl From<&ContainerConfig> for RunConfig {
    fn from(config: &ContainerConfig) -> Self {
        let keys = config.volumes.iter().flat_map(|volumes| volumes.keys().cloned());
        Self {
            args_escaped: config.args_escaped,
            cmd: config.cmd.clone(),
            entrypoint: config.entrypoint.clone(),
            env: config.env.clone().unwrap_or_default(),
            exposed_ports: config.exposed_ports.keys().map(ToString::to_string).collect(),
            healthcheck: config.healthcheck.as_ref().map(|health| Healthcheck {
                test: health.test.clone().unwrap_or_default(),
                interval: health.interval,
                timeout: health.timeout,
                start_period: health.start_period,
                start_interval: health.start_interval,
                retries: health.retries,
            }),
            labels: config.labels.clone(),
            on_build: config.on_build.clone().unwrap_or_default(),
            shell: config.shell.clone().unwrap_or_default(),
            stop_signal: config.stop_signal.clone().unwrap_or_default(),
            stop_timeout: config.stop_timeout,
            user: config.user.clone(),
            volumes: keys.collect(),
            working_dir: config.working_dir.clone(),
        }
    }
}

impl From<RunConfig> for ContainerConfig {
    fn from(run: RunConfig) -> Self {
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let volumes = run.volumes.into_iter().map(|path| (path, Empty {}));
        Self {
            args_escaped: run.args_escaped,
            cmd: run.cmd,
            entrypoint: run.entrypoint,
            env: some(run.env),
            exposed_ports: run
                .exposed_ports
                .iter()
                .filter_map(|port| Some((port.parse().ok()?, Empty {})))
                .collect(),
            healthcheck: run.healthcheck.map(|health| HealthConfig {
                test: some(health.test),
                interval: health.interval,
                timeout: health.timeout,
                start_period: health.start_period,
                start_interval: health.start_interval,
                retries: health.retries,
            }),
            labels: run.labels,
            on_build: some(run.on_build),
            shell: some(run.shell),
            stop_signal: (!run.stop_signal.is_empty()).then_some(run.stop_signal),
            stop_timeout: run.stop_timeout,
            user: run.user,
            volumes: Some(volumes.collect()),
            working_dir: run.working_dir,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committer_s_word_goes_before_the_container_s() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let container = ContainerConfig {
            cmd: Some(words(&["old"])),
            env: Some(words(&["A=1", "B=2"])),
            user: "1000".to_owned(),
            working_dir: "/w".to_owned(),
            ..ContainerConfig::default()
        };
        let own =
            RunConfig { entrypoint: Some(words(&["run"])), env: words(&["B=3"]), ..RunConfig::default() };
        let merged = config(own, &container);
        assert_eq!(merged.env, words(&["B=3", "A=1"]));
        assert_eq!((merged.user.as_str(), merged.working_dir.as_str()), ("1000", "/w"));
        // A new entrypoint drops the command that belonged to the old one.
        assert_eq!((merged.entrypoint, merged.cmd), (Some(words(&["run"])), None));
        let same = config(RunConfig::default(), &container);
        assert_eq!(same.cmd, Some(words(&["old"])));
    }
}
