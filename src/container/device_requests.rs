//! Devices that a driver picks (`--gpus`, CDI): which driver, and what it changes of the container. Known only when the
//! container starts: drivers and their files come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cdi::{Catalogue, DeviceNode, Edits, Hook, Unresolvable};
use super::error::ContainerError;
use super::host_config::DeviceRequest;
use super::parts::Parts;
use super::record::Record;
use crate::base::errno::in_gos_words;
use ::oci_spec::runtime::Spec;

/// A request that cannot be met; the texts are dockerd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RequestError {
    #[error("could not select device driver {driver:?} with capabilities: {}", go_lists(.capabilities))]
    NoDriver { driver: String, capabilities: Vec<Vec<String>> },
    #[error("unexpected count in CDI device request")]
    Count,
    #[error("unexpected options in CDI device request")]
    Options,
    #[error("cannot set both Count and DeviceIDs on device request")]
    CountAndIds,
    #[error("CDI device injection failed: {0}")]
    Unresolvable(#[from] Unresolvable),
    #[error("CDI device injection failed: failed to inject devices: {0}")]
    Node(NodeError),
}

/// A device node that the host does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NodeError {
    #[error("failed to stat CDI host device {path:?}: {reason}")]
    Missing { path: String, reason: String },
    #[error("CDI device ({path:?}, {host:?}), host type mismatch ({asked}, {found})")]
    Type { path: String, host: String, asked: String, found: &'static str },
}

/// As Go prints `[][]string`.
fn go_lists(lists: &[Vec<String>]) -> String {
    let lists: Vec<_> = lists.iter().map(|list| format!("[{}]", list.join(" "))).collect();
    format!("[{}]", lists.join(" "))
}

const NVIDIA: [&str; 8] = ["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"];
const AMD: [&str; 2] = ["gpu", "amd"];
const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";
/// No machine has more; a number in a request must not become a list of any length.
const MOST_DEVICES: i64 = 1024;

/// What the container's requests change of its specification.
pub(super) async fn edits(parts: &Arc<Parts>, record: &Arc<Record>) -> Result<Edits, ContainerError> {
    if record.host_config.device_requests.iter().flatten().next().is_none() {
        return Ok(Edits::default());
    }
    let (parts, record) = (parts.clone(), record.clone());
    let found = tokio::task::spawn_blocking(move || {
        let available = Available::look(&parts.config.cdi_spec_dirs);
        let mut edits = Edits::default();
        for request in record.host_config.device_requests.iter().flatten() {
            edits.append(&available.answer(request)?);
        }
        edits.device_nodes.iter_mut().try_for_each(complete).map_err(RequestError::Node)?;
        Ok::<_, RequestError>(edits)
    });
    let found = found.await.map_err(|error| ContainerError::system(&error))?;
    // An error of the request could have been told when the container was created; dockerd does not either.
    found.map_err(|error| ContainerError::system(&error))
}

/// The groups that the program of a running container has, which are the image's and the record's and those of its
/// devices, as these were when it started. `bundle` is its directory; `None` if it cannot be read.
pub(super) fn groups_of_program(bundle: &Path) -> Option<Vec<u32>> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).ok()?).ok()?;
    spec.process().as_ref()?.user().additional_gids().clone()
}

/// What drivers there are for.
struct Available {
    /// `None`: turned off.
    cdi: Option<Catalogue>,
    nvidia_hook: Option<PathBuf>,
    nvidia_cdi: bool,
    amd_runtime: bool,
}

/// Who meets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Cdi,
    NvidiaHook,
    NvidiaCdi,
    AmdCdi,
    AmdRuntime,
}

impl Available {
    fn look(dirs: &[PathBuf]) -> Self {
        let cdi = (!dirs.is_empty()).then(|| Catalogue::read(dirs));
        let has = |vendor| cdi.as_ref().is_some_and(|cdi| cdi.has_vendor(vendor));
        Self {
            nvidia_hook: program(NVIDIA_HOOK),
            nvidia_cdi: has("nvidia.com") || (cdi.is_some() && program("nvidia-cdi-hook").is_some()),
            amd_runtime: program("amd-container-runtime").is_some(),
            cdi,
        }
    }

    fn answer(&self, request: &DeviceRequest) -> Result<Edits, RequestError> {
        let (driver, capabilities) = self.select(request)?;
        match driver {
            Driver::Cdi if request.count != 0 => Err(RequestError::Count),
            Driver::Cdi if !request.options.is_empty() => Err(RequestError::Options),
            Driver::Cdi => self.inject(request.device_ids.as_deref().unwrap_or_default()),
            Driver::NvidiaCdi => self.inject(&full_names(&ids(request)?, "nvidia.com/gpu")),
            Driver::AmdCdi => self.inject(&full_names(&ids(request)?, "amd.com/gpu")),
            Driver::NvidiaHook => self.nvidia_hook(request, &capabilities),
            Driver::AmdRuntime => {
                let ids = ids(request)?.join(",");
                let shown = if ids.is_empty() { "void" } else { ids.as_str() };
                Ok(Edits { env: vec![format!("AMD_VISIBLE_DEVICES={shown}")], ..Edits::default() })
            }
        }
    }

    /// The driver of a name, or the first that has all capabilities of one of the lists; and those.
    fn select(&self, request: &DeviceRequest) -> Result<(Driver, Vec<String>), RequestError> {
        let wanted = request.capabilities.clone().unwrap_or_default();
        let matching = |set: &[&str]| {
            wanted.iter().find(|list| list.iter().all(|word| set.contains(&word.as_str()))).cloned()
        };
        let nvidia_cdi = self.nvidia_cdi.then_some(Driver::NvidiaCdi);
        let nvidia_hook = self.nvidia_hook.as_ref().map(|_| Driver::NvidiaHook);
        let nvidia = nvidia_hook.or(nvidia_cdi);
        let amd_cdi = self.cdi.as_ref().is_some_and(|cdi| cdi.has_vendor("amd.com"));
        let amd = if amd_cdi { Some(Driver::AmdCdi) } else { self.amd_runtime.then_some(Driver::AmdRuntime) };
        // Where there are both, what asks for no vendor gets the first.
        let amd = amd.filter(|_| nvidia.is_none());
        let selected = match request.driver.as_str() {
            "" => [(nvidia, &NVIDIA[..]), (amd, &AMD[..])]
                .into_iter()
                .find_map(|(driver, set)| Some((driver?, matching(set)?))),
            "cdi" => self.cdi.as_ref().map(|_| (Driver::Cdi, vec![])),
            "nvidia" => nvidia.map(|driver| (driver, matching(&NVIDIA).unwrap_or_default())),
            "nvidia.cdi" => nvidia_cdi.map(|driver| (driver, vec![])),
            "nvidia.runtime-hook" => nvidia_hook.map(|driver| (driver, vec![])),
            "amd" => amd.map(|driver| (driver, vec![])),
            _ => None,
        };
        let none = || RequestError::NoDriver { driver: request.driver.clone(), capabilities: wanted.clone() };
        selected.ok_or_else(none)
    }

    fn inject(&self, names: &[String]) -> Result<Edits, RequestError> {
        let Some(cdi) = self.cdi.as_ref().filter(|_| !names.is_empty()) else { return Ok(Edits::default()) };
        Ok(cdi.edits(names).inspect_err(|_| {
            for problem in cdi.problems() {
                tracing::warn!(path = %problem.path.display(), problem = problem.text, "CDI specification");
            }
        })?)
    }

    fn nvidia_hook(&self, request: &DeviceRequest, capabilities: &[String]) -> Result<Edits, RequestError> {
        let ids = ids(request)?;
        let Some(hook) = self.nvidia_hook.as_ref().filter(|_| !ids.is_empty()) else {
            return Ok(Edits::default());
        };
        let mut env = vec![format!("NVIDIA_VISIBLE_DEVICES={}", ids.join(","))];
        let of_driver = |word: &&String| NVIDIA[2..].contains(&word.as_str());
        let capabilities: Vec<_> = capabilities.iter().filter(of_driver).map(String::as_str).collect();
        if !capabilities.is_empty() {
            env.push(format!("NVIDIA_DRIVER_CAPABILITIES={}", capabilities.join(",")));
        }
        let hook = Hook {
            hook_name: "prestart".to_owned(),
            path: hook.to_string_lossy().into_owned(),
            args: vec![NVIDIA_HOOK.to_owned(), "prestart".to_owned()],
            env: std::env::vars().map(|(name, value)| format!("{name}={value}")).collect(),
            timeout: None,
        };
        Ok(Edits { env, hooks: vec![hook], ..Edits::default() })
    }
}

/// Which devices of its kind a request wants.
fn ids(request: &DeviceRequest) -> Result<Vec<String>, RequestError> {
    let ids = request.device_ids.clone().unwrap_or_default();
    match request.count {
        0 => Ok(ids),
        _ if !ids.is_empty() => Err(RequestError::CountAndIds),
        count if count < 0 => Ok(vec!["all".to_owned()]),
        count => Ok((0..count.min(MOST_DEVICES)).map(|number| number.to_string()).collect()),
    }
}

fn full_names(ids: &[String], kind: &str) -> Vec<String> {
    let full = |id: &String| if id.contains('=') { id.clone() } else { format!("{kind}={id}") };
    ids.iter().map(full).collect()
}

/// A program in the daemon's `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(executable)
}

/// Fills in what the specification leaves to the host's node.
fn complete(node: &mut DeviceNode) -> Result<(), NodeError> {
    if node.host_path.is_empty() {
        node.host_path = node.path.clone();
    }
    if !node.kind.is_empty() && (node.major != 0 || node.kind == "p") {
        return Ok(());
    }
    let missing = |reason: String| NodeError::Missing { path: node.host_path.clone(), reason };
    let stat =
        nix::sys::stat::lstat(Path::new(&node.host_path)).map_err(|errno| missing(in_gos_words(errno)))?;
    let found = match stat.st_mode & libc::S_IFMT {
        libc::S_IFBLK => "b",
        libc::S_IFCHR => "c",
        libc::S_IFIFO => "p",
        _ => return Err(missing("not a device node".to_owned())),
    };
    if node.kind.is_empty() {
        node.kind = found.to_owned();
    } else if node.kind != found {
        let (path, host, asked) = (node.path.clone(), node.host_path.clone(), node.kind.clone());
        return Err(NodeError::Type { path, host, asked, found });
    }
    if node.major == 0 && node.kind != "p" {
        node.major = i64::try_from(nix::sys::stat::major(stat.st_rdev)).unwrap_or_default();
        node.minor = i64::try_from(nix::sys::stat::minor(stat.st_rdev)).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Available {
        let cdi = Some(Catalogue::default());
        Available { cdi, nvidia_hook: None, nvidia_cdi: false, amd_runtime: false }
    }

    fn request(driver: &str, count: i64, ids: &[&str], capabilities: &[&[&str]]) -> DeviceRequest {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        DeviceRequest {
            driver: driver.to_owned(),
            count,
            device_ids: Some(words(ids)),
            capabilities: Some(capabilities.iter().map(|list| words(list)).collect()),
            ..DeviceRequest::default()
        }
    }

    #[test]
    fn drivers_are_chosen_by_name_or_by_what_they_can() {
        let hook = || Available { nvidia_hook: Some("/h".into()), ..nothing() };
        let both = Available { nvidia_cdi: true, ..hook() };
        let amd = Available { amd_runtime: true, ..nothing() };
        let off = Available { cdi: None, ..nothing() };
        let chosen = |available: &Available, driver: &str, capabilities: &[&[&str]]| {
            available.select(&request(driver, 0, &[], capabilities)).ok()
        };
        let with = |driver, words: &[&str]| {
            Some((driver, words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(chosen(&nothing(), "", &[&["gpu"]]), None);
        assert_eq!(chosen(&nothing(), "cdi", &[]), with(Driver::Cdi, &[]));
        assert_eq!(chosen(&off, "cdi", &[]), None);
        assert_eq!(chosen(&nothing(), "nvidia", &[&["gpu"]]), None);
        assert_eq!(chosen(&hook(), "", &[&["gpu"]]), with(Driver::NvidiaHook, &["gpu"]));
        let capabilities: &[&[&str]] = &[&["tpu"], &["gpu", "utility"], &["gpu"]];
        assert_eq!(chosen(&hook(), "", capabilities), with(Driver::NvidiaHook, &["gpu", "utility"]));
        assert_eq!(chosen(&hook(), "", &[&["gpu", "tpu"]]), None);
        assert_eq!(chosen(&hook(), "", &[]), None);
        assert_eq!(chosen(&hook(), "nvidia", &[]), with(Driver::NvidiaHook, &[]));
        assert_eq!(chosen(&hook(), "nvidia.cdi", &[]), None);
        assert_eq!(chosen(&both, "nvidia.cdi", &[]), with(Driver::NvidiaCdi, &[]));
        assert_eq!(chosen(&amd, "", &[&["gpu"]]), with(Driver::AmdRuntime, &["gpu"]));
        assert_eq!(chosen(&amd, "", &[&["gpu", "utility"]]), None);
    }

    #[test]
    fn refusals_are_in_dockerds_words() {
        let nvidia = Available { nvidia_cdi: true, ..nothing() };
        let mut optional = request("cdi", 0, &["v/c=x"], &[]);
        optional.options.insert("a".to_owned(), "b".to_owned());
        for (available, request, text) in [
            (
                nothing(),
                request("", -1, &[], &[&["gpu"]]),
                "could not select device driver \"\" with capabilities: [[gpu]]",
            ),
            (
                nothing(),
                request("x", 0, &[], &[&["a", "b"], &["c"]]),
                "could not select device driver \"x\" with capabilities: [[a b] [c]]",
            ),
            (nothing(), request("cdi", 1, &[], &[]), "unexpected count in CDI device request"),
            (nothing(), optional, "unexpected options in CDI device request"),
            (
                nothing(),
                request("cdi", 0, &["v.com/c=x", "y"], &[]),
                "CDI device injection failed: unresolvable CDI devices v.com/c=x, y",
            ),
            (
                nvidia,
                request("", -1, &[], &[&["gpu"]]),
                "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
            ),
        ] {
            assert_eq!(available.answer(&request).unwrap_err().to_string(), text);
        }
        let both = request("", 1, &["0"], &[&["gpu"]]);
        let hook = Available { nvidia_hook: Some("/h".into()), ..nothing() };
        assert_eq!(hook.answer(&both), Err(RequestError::CountAndIds));
    }

    #[test]
    fn a_request_names_devices_or_their_number() {
        let names = |count, list: &[&str]| {
            full_names(&ids(&request("", count, list, &[])).unwrap(), "nvidia.com/gpu").join(" ")
        };
        assert_eq!(names(-1, &[]), "nvidia.com/gpu=all");
        assert_eq!(names(2, &[]), "nvidia.com/gpu=0 nvidia.com/gpu=1");
        assert_eq!(names(0, &["GPU-1", "v.com/c=x"]), "nvidia.com/gpu=GPU-1 v.com/c=x");
        assert_eq!(names(0, &[]), "");
        assert_eq!(ids(&request("", i64::MAX, &[], &[])).unwrap().len(), MOST_DEVICES as usize);
    }

    #[test]
    fn nvidias_hook_is_told_what_to_show() {
        let hook = Available { nvidia_hook: Some("/usr/bin/hook".into()), ..nothing() };
        let edits = hook.answer(&request("", 2, &[], &[&["gpu", "utility"]])).unwrap();
        assert_eq!(edits.env, ["NVIDIA_VISIBLE_DEVICES=0,1", "NVIDIA_DRIVER_CAPABILITIES=utility"]);
        assert_eq!(
            (edits.hooks[0].hook_name.as_str(), edits.hooks[0].args[1].as_str()),
            ("prestart", "prestart")
        );
    }

    #[test]
    fn what_a_node_leaves_out_is_the_hosts() {
        let node = |path: &str, kind: &str| DeviceNode {
            path: path.to_owned(),
            kind: kind.to_owned(),
            ..DeviceNode::default()
        };
        let mut null = node("/dev/null", "");
        complete(&mut null).unwrap();
        assert_eq!((null.kind.as_str(), null.major, null.minor), ("c", 1, 3));
        let mut other = DeviceNode { host_path: "/dev/zero".to_owned(), ..node("/dev/x", "c") };
        complete(&mut other).unwrap();
        assert_eq!((other.path.as_str(), other.major, other.minor), ("/dev/x", 1, 5));
        let text = |mut node: DeviceNode| complete(&mut node).unwrap_err().to_string();
        assert_eq!(
            text(node("/dev/none", "")),
            "failed to stat CDI host device \"/dev/none\": no such file or directory"
        );
        assert_eq!(
            text(node("/dev/null", "b")),
            "CDI device (\"/dev/null\", \"/dev/null\"), host type mismatch (b, c)"
        );
    }
}
