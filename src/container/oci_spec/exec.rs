//! The process of an exec: the container's own, with what the exec asks for in place of what the image said.

use ::oci_spec::runtime::Process;
use serde_json::json;

use super::{Security, SpecError, SpecInput, bounding_set, environment, process, process_capabilities};
use crate::container::exec::ExecConfig;
use crate::container::host_config::HostConfig;

/// Builds it. `input.user` is the exec's user already.
pub fn exec_process(input: &SpecInput<'_>, config: &ExecConfig) -> Result<Process, SpecError> {
    let security = Security::read(input)?;
    let capabilities = if config.privileged {
        bounding_set(&HostConfig { privileged: true, ..HostConfig::default() })?
    } else {
        bounding_set(&input.record.host_config)?
    };
    let mut made = process(input, &capabilities, &security);
    made["args"] = json!(config.cmd);
    made["terminal"] = json!(config.tty);
    made["capabilities"] = process_capabilities(&capabilities, input.user.uid);
    made["env"] = json!(environment::of_exec(input, config));
    if !config.working_dir.is_empty() {
        made["cwd"] = json!(config.working_dir);
    }
    Ok(serde_json::from_value(made)?)
}
