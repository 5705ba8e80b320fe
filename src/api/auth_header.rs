//! The `X-Registry-Auth` header: credentials for one registry as base64 of JSON.
//!
//! Clients use either alphabet, with padding and without; an empty header and `{}` both mean none.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::base::json;
use crate::registry::Credentials;

/// Credentials, of which a client gives a name and password or a token.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// Base64 of `name:password`, which some clients send instead.
    pub auth: String,
    pub serveraddress: String,
    /// To be exchanged for a bearer token.
    pub identitytoken: String,
    /// A bearer token.
    pub registrytoken: String,
}

// Secrets are not written to logs.
impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RegistryAuth {{ username: {:?}, serveraddress: {:?}, .. }}",
            self.username, self.serveraddress
        )
    }
}

/// A header that is not base64 of JSON, in dockerd's words.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAuth {
    #[error("invalid X-Registry-Auth header: must be a valid base64url-encoded string")]
    Base64,
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(serde_json::Error),
}

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);

impl RegistryAuth {
    /// Reads the header's value.
    pub fn parse(header: &str) -> Result<Self, InvalidAuth> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(Self::default());
        }
        let bytes =
            URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header)).map_err(|_| InvalidAuth::Base64)?;
        let read: Option<Self> = json::from_slice(&bytes).map_err(InvalidAuth::Json)?;
        Ok(read.unwrap_or_default().unpacked())
    }

    /// Fills name and password from `auth` where only that is given.
    pub fn unpacked(mut self) -> Self {
        if self.username.is_empty() && !self.auth.is_empty() {
            let bytes = STANDARD.decode(self.auth.trim()).or_else(|_| URL_SAFE.decode(self.auth.trim()));
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some((username, password)) = text.as_deref().and_then(|text| text.split_once(':')) {
                self.username = username.to_owned();
                self.password = password.trim_end_matches('\0').to_owned();
            }
        }
        self
    }
}

impl From<RegistryAuth> for Credentials {
    fn from(auth: RegistryAuth) -> Self {
        let RegistryAuth { username, password, identitytoken, registrytoken, .. } = auth;
        Self { username, password, identity_token: identitytoken, registry_token: registrytoken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_with_and_without_padding_are_read() {
        let json = r#"{"username":"ü>?","password":"p"}"#;
        for header in [URL_SAFE.encode(json), STANDARD.encode(json)] {
            for header in [header.as_str(), header.trim_end_matches('=')] {
                assert_eq!(RegistryAuth::parse(header).unwrap().username, "ü>?", "{header}");
            }
        }
        for nothing in ["", "e30=", "e30", "bnVsbA=="] {
            assert_eq!(RegistryAuth::parse(nothing).unwrap(), RegistryAuth::default(), "{nothing}");
        }
        assert!(RegistryAuth::parse("***").is_err());
        assert!(RegistryAuth::parse("eA==").is_err());
    }

    #[test]
    fn a_packed_pair_becomes_name_and_password() {
        let header = STANDARD.encode(format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("me:a:b")));
        let auth = RegistryAuth::parse(&header).unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "a:b"));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn name_and_password_arrive_in_each_encoding(
            username in "[^:\u{0}]{1,12}",
            password in "[^\u{0}]{0,12}",
            packed in any::<bool>(),
        ) {
            let json = match packed {
                true => json!({ "auth": STANDARD.encode(format!("{username}:{password}")) }),
                false => json!({ "username": username, "password": password }),
            };
            for header in [URL_SAFE.encode(json.to_string()), STANDARD.encode(json.to_string())] {
                for header in [header.as_str(), header.trim_end_matches('=')] {
                    let auth = RegistryAuth::parse(header).unwrap();
                    prop_assert_eq!((&auth.username, &auth.password), (&username, &password));
                }
            }
        }

        #[test]
        fn any_header_is_read_or_refused(
            header in any::<String>(),
            inside in any::<String>(),
            packed in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = RegistryAuth::parse(&header);
            let _ = RegistryAuth::parse(&URL_SAFE.encode(&inside));
            for auth in [inside, STANDARD.encode(&packed)] {
                let _ = RegistryAuth::parse(&URL_SAFE.encode(json!({ "auth": auth }).to_string()));
            }
        }
    }
}
