//! The engine's own id, which clients show and telemetry counts by. Made at the first start, kept ever after.

use std::fs;
use std::io;
use std::path::Path;

use crate::base::durable;
use crate::base::id::random_hex_id;

const FILE: &str = "engine-id";

/// Reads the id kept in `data_root`, or makes one. Blocking.
pub fn read_or_create(data_root: &Path) -> io::Result<String> {
    let path = data_root.join(FILE);
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = random_uuid();
    durable::write_config(&path, id.as_bytes())?;
    Ok(id)
}

/// A random UUID (RFC 9562, version 4).
fn random_uuid() -> String {
    let hex = random_hex_id();
    [&hex[..8], &hex[8..12], &format!("4{}", &hex[13..16]), &format!("a{}", &hex[17..20]), &hex[20..32]]
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let id = read_or_create(dir.path()).unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert_eq!(read_or_create(dir.path()).unwrap(), id);
        fs::write(dir.path().join(FILE), "  \n").unwrap();
        assert_eq!(read_or_create(dir.path()).unwrap().len(), 36);
    }
}
