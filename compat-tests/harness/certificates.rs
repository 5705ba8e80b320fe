//! Certificates made by the openssl command, as operators make theirs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// For its files.
    pub file: &'a str,
    /// Like `DNS:a.example,IP:10.0.0.1`.
    pub names: &'a str,
    /// From now on; a negative number makes one that has expired.
    pub days: i32,
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

impl Pair {
    /// Its own authority (CA:TRUE), made by one command as in most instructions for private registries.
    pub fn self_signed(dir: &Path, file: &str, names: &str) -> Self {
        let name = names.trim_start_matches("DNS:");
        openssl(
            dir,
            &format!(
                "req -x509 {KEY} -keyout {file}.key -out {file}.pem -days 2 -subj /CN={name} -addext subjectAltName={names}"
            ),
        );
        Self::named(dir, file)
    }

    /// A certificate that this one signs.
    pub fn sign(&self, terms: Terms<'_>) -> Self {
        let dir = self.certificate.parent().unwrap();
        let Terms { file, names, days } = terms;
        openssl(dir, &format!("req {KEY} -keyout {file}.key -out {file}.csr -subj /CN={file}"));
        let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n");
        std::fs::write(dir.join(format!("{file}.ext")), extensions).unwrap();
        openssl(
            dir,
            &format!(
                "x509 -req -in {file}.csr -CA {} -CAkey {} -CAcreateserial -days {days} -extfile {file}.ext -out {file}.pem",
                self.certificate.display(),
                self.key.display(),
            ),
        );
        Self::named(dir, file)
    }

    fn named(dir: &Path, file: &str) -> Self {
        Self { certificate: dir.join(format!("{file}.pem")), key: dir.join(format!("{file}.key")) }
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
