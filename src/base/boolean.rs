//! Booleans as people write them for programs in Go.

/// Reads a Boolean as Go's `strconv.ParseBool` does; `None` is what that refuses.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
