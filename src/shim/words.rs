//! What libcontainer says of a container that it cannot make, in runc's words: those are what clients know, and they
//! say what to mend where the library shows its own data.

use std::any::Any;
use std::io;

use nix::errno::Errno;

use super::sysctl;
use crate::base::errno::{in_gos_words, told_in_gos_words};

/// What the library's debug output is searched for.
const NUMBERS: [Errno; 8] = [
    Errno::EINVAL,
    Errno::ENOENT,
    Errno::EACCES,
    Errno::EPERM,
    Errno::ENOTDIR,
    Errno::EBUSY,
    Errno::ENODEV,
    Errno::ENOSPC,
];

/// Why a kernel parameter is none for a container.
const REFUSALS: [&str; 4] = [
    "not allowed in host network namespace",
    "is not allowed in the hosts ipc namespace",
    "is not in a separate kernel namespace",
    "is not allowed as it conflicts with the OCI hostname field",
];

/// A failure to start, as runc would put it.
pub fn failure(text: &str) -> String {
    format!(
        "runc create failed: unable to start container process: error during container init: {text}: unknown"
    )
}

/// What the library says of a kernel parameter that a container of such namespaces cannot have, which it sees before
/// it makes anything; none of another failure.
pub fn of_refusal(text: &str) -> Option<String> {
    let parameter = text.strip_prefix("sysctl ")?;
    REFUSALS.into_iter().find_map(|why| {
        let name = parameter.strip_suffix(why)?.strip_suffix(' ')?;
        let why = why.replace("OCI hostname", "OCI \"hostname\"");
        Some(format!("runc create failed: sysctl {name:?} {why}: unknown"))
    })
}

/// What a panic says: in the library, for what it did not expect to find.
pub fn of_panic(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    failure(&format!("the runtime found what it did not expect: {}", said.unwrap_or("it does not say what")))
}

/// What the library's errors come to, the cause first; none if they are none of those known here.
pub fn of_hints(hints: &[String]) -> Option<String> {
    let named = |errno: &Errno| hints.iter().any(|hint| hint.contains(&format!("{errno:?}")));
    let errno = NUMBERS.into_iter().find(named);
    hints.iter().find_map(|hint| {
        let known = of_mount(hint, errno).or_else(|| of_null(hint)).or_else(|| of_sysctl(hint));
        known.or_else(|| of_profile(hint))
    })
}

/// Such as `failed to mount Mount { destination: "/x", typ: Some("tmpfs"), source: Some("tmpfs"), … }: syscall`.
fn of_mount(hint: &str, errno: Option<Errno>) -> Option<String> {
    let mount = hint.strip_prefix("failed to mount Mount { destination: \"")?;
    let (destination, rest) = mount.split_once('"')?;
    let (_, source) = rest.split_once("source: Some(\"")?;
    let (source, _) = source.split_once('"')?;
    let errno = in_gos_words(errno?);
    Some(failure(&format!(
        "error mounting {source:?} to rootfs at {destination:?}: mount {source}:{destination}: {errno}"
    )))
}

/// Such as `failed to set sysctl kernel.shmmax=x: Invalid argument (os error 22)`.
fn of_sysctl(hint: &str) -> Option<String> {
    let (name, _) = hint.strip_prefix("failed to set sysctl ")?.split_once('=')?;
    // A value may be of any text.
    let (_, why) = hint.rsplit_once(": ")?;
    let why = told_in_gos_words(why.to_owned());
    Some(failure(&format!("write {}: {why}", sysctl::file(name).display())))
}

/// Such as `failed to apply apparmor profile err=ActivateProfile { …, source: Os { code: 2, … } }`.
fn of_profile(hint: &str) -> Option<String> {
    let error = hint.strip_prefix("failed to apply apparmor profile err=")?;
    let (_, code) = error.split_once("Os { code: ")?;
    let code = code.split_once(',')?.0.parse().ok()?;
    Some(failure(&refused_profile(&io::Error::from_raw_os_error(code))))
}

/// Why the kernel does not confine a process as asked.
pub fn refused_profile(error: &io::Error) -> String {
    let why = told_in_gos_words(error.to_string());
    format!(
        "unable to apply apparmor profile: apparmor failed to apply profile: write \
         /proc/self/attr/apparmor/exec: {why}"
    )
}

fn of_null(hint: &str) -> Option<String> {
    let error = hint.strip_prefix("failed to open /dev/null inside the container err=")?;
    let why = match error {
        denied if denied.contains("PermissionDenied") => "permission denied",
        missing if missing.contains("NotFound") => "no such file or directory",
        _ => return None,
    };
    Some(failure(&format!("error reopening /dev/null inside container: open /dev/null: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_logs_is_told_in_runc_s_words() {
        let mount = "failed to mount Mount { destination: \"/x\", typ: Some(\"tmpfs\"), source: \
                     Some(\"tmpfs\"), options: Some([\"size=abc\"]) }: syscall";
        let rootfs = "failed to prepare rootfs err=Mount(Syscall(Nix(EINVAL)))";
        let null = "failed to open /dev/null inside the container err=Os { code: 13, kind: PermissionDenied, \
                    message: \"Permission denied\" }";
        for (hints, words) in [
            (
                vec![mount, rootfs],
                Some("error mounting \"tmpfs\" to rootfs at \"/x\": mount tmpfs:/x: invalid argument"),
            ),
            (vec![mount], None),
            (
                vec![null, "failed to reopen /dev/null err=EACCES"],
                Some("error reopening /dev/null inside container: open /dev/null: permission denied"),
            ),
            (
                vec!["failed to set sysctl net.ipv4.a=b: c=d: Invalid argument (os error 22)"],
                Some("write /proc/sys/net/ipv4/a: invalid argument"),
            ),
            (vec!["failed to set sysctl net.ipv4.a"], None),
            (
                vec![
                    "failed to apply apparmor profile err=ActivateProfile { path: \"/proc/self/attr/exec\", profile: \
                     \"own, x\", source: Os { code: 2, kind: NotFound, message: \"No such file or directory\" } }",
                ],
                Some(
                    "unable to apply apparmor profile: apparmor failed to apply profile: write \
                     /proc/self/attr/apparmor/exec: no such file or directory",
                ),
            ),
            (
                vec!["failed to open /dev/null inside the container err=Os { code: 2, kind: NotFound }"],
                Some("error reopening /dev/null inside container: open /dev/null: no such file or directory"),
            ),
            (vec!["failed to open /dev/null inside the container err=Os { code: 5 }"], None),
            (vec!["failed to mount Mount { destination: \"/x", rootfs], None),
            (vec!["something else"], None),
            (vec![], None),
        ] {
            let owned: Vec<String> = hints.iter().map(|&hint| hint.to_owned()).collect();
            assert_eq!(of_hints(&owned), words.map(failure), "{hints:?}");
        }
    }

    #[test]
    fn a_refused_kernel_parameter_is_named_in_quotes() {
        for (text, words) in [
            (
                "sysctl net.a not allowed in host network namespace",
                Some("\"net.a\" not allowed in host network namespace"),
            ),
            (
                "sysctl a b is not in a separate kernel namespace",
                Some("\"a b\" is not in a separate kernel namespace"),
            ),
            (
                "sysctl a is not allowed as it conflicts with the OCI hostname field",
                Some("\"a\" is not allowed as it conflicts with the OCI \"hostname\" field"),
            ),
            ("sysctl a is something else", None),
            ("not a sysctl not allowed in host network namespace", None),
        ] {
            let expected = words.map(|words| format!("runc create failed: sysctl {words}: unknown"));
            assert_eq!(of_refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn a_panic_says_what_it_was() {
        let ends = |payload: Box<dyn Any + Send>| of_panic(&*payload);
        assert!(ends(Box::new("a str")).ends_with("did not expect: a str: unknown"));
        assert!(ends(Box::new("a String".to_owned())).ends_with("did not expect: a String: unknown"));
        assert!(ends(Box::new(1)).ends_with("it does not say what: unknown"));
    }
}
