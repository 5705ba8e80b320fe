//! Who we say we are: credentials, the challenges of registries (RFC 7235) and the tokens they hand out
//! (distribution: "Token Authentication Specification").

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What a client gave for a registry. All empty means anonymous.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// Given by a token server at login in place of a password.
    pub identity_token: String,
    /// A bearer token, to be sent as it is.
    pub registry_token: String,
}

impl Credentials {
    /// True if there is nothing to prove who we are.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::default()
    }

    fn basic(&self) -> Option<Authorization> {
        let given = !self.username.is_empty() && !self.password.is_empty();
        given.then(|| {
            let pair = format!("{}:{}", self.username, self.password);
            Authorization(format!("Basic {}", STANDARD.encode(pair)))
        })
    }
}

impl fmt::Debug for Credentials {
    /// Never shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", if self.is_anonymous() { "anonymous" } else { &self.username })
    }
}

/// The value of an `Authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(pub String);

impl fmt::Debug for Authorization {
    /// Never shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// What a registry asks for with 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

impl Challenge {
    /// Reads the challenges of one `WWW-Authenticate` header; unknown schemes are passed over.
    pub fn parse(header: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut rest = header.trim();
        while !rest.is_empty() {
            let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
            let (parameters, next) = parameters(after);
            rest = next;
            let get = |key: &str| parameters.get(key).cloned().unwrap_or_default();
            match scheme.trim_end_matches(',').to_ascii_lowercase().as_str() {
                "basic" => found.push(Self::Basic),
                "bearer" if !get("realm").is_empty() => {
                    found.push(Self::Bearer {
                        realm: get("realm"),
                        service: get("service"),
                        scope: get("scope"),
                    });
                }
                _ => {}
            }
        }
        found
    }
}

/// `key="value"` pairs up to what must be the next scheme, and the rest.
fn parameters(text: &str) -> (HashMap<String, String>, &str) {
    let mut pairs = HashMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let Some((key, after)) = rest.split_once('=') else { return (pairs, "") };
        if key.contains(' ') {
            return (pairs, rest);
        }
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        pairs.insert(key.to_ascii_lowercase(), value);
        rest = next;
    }
}

fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// A token server's answer.
#[derive(Deserialize)]
pub struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    pub refresh_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl TokenAnswer {
    /// The bearer token, under either of its names.
    pub fn bearer(&self) -> Option<&str> {
        [&self.token, &self.access_token].into_iter().map(String::as_str).find(|token| !token.is_empty())
    }
}

/// How a token server is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenRequest {
    /// With the password in the header, or anonymously.
    Get { query: Vec<(&'static str, String)>, authorization: Option<Authorization> },
    /// With an identity token in the form (OAuth 2).
    Post { form: Vec<(&'static str, String)> },
}

/// What a token is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Pull,
    /// The identity token that comes with it is wanted too.
    Login,
}

impl TokenRequest {
    /// The request that suits the credentials.
    pub fn new(credentials: &Credentials, service: &str, scope: &str, purpose: Purpose) -> Self {
        let mut fields = vec![("service", service.to_owned())];
        if !scope.is_empty() {
            fields.push(("scope", scope.to_owned()));
        }
        if !credentials.identity_token.is_empty() {
            fields.extend([
                ("client_id", "docker".to_owned()),
                ("grant_type", "refresh_token".to_owned()),
                ("refresh_token", credentials.identity_token.clone()),
            ]);
            return Self::Post { form: fields };
        }
        if purpose == Purpose::Login {
            fields.extend([("offline_token", "true".to_owned()), ("client_id", "docker".to_owned())]);
        }
        if !credentials.username.is_empty() {
            fields.push(("account", credentials.username.clone()));
        }
        Self::Get { query: fields, authorization: credentials.basic() }
    }
}

/// What can be answered to a challenge without asking a token server.
pub fn direct(challenges: &[Challenge], credentials: &Credentials) -> Option<Authorization> {
    let bearer = challenges.iter().any(|c| matches!(c, Challenge::Bearer { .. }));
    if bearer && !credentials.registry_token.is_empty() {
        return Some(Authorization(format!("Bearer {}", credentials.registry_token)));
    }
    let basic = challenges.contains(&Challenge::Basic) && !bearer;
    basic.then(|| credentials.basic()).flatten()
}

/// Tokens that are still good, by what they are for and who asked.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<TokenKey, (Authorization, Instant)>>);

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    pub realm: String,
    pub service: String,
    pub scope: String,
    pub credentials: Credentials,
}

impl Tokens {
    /// What the specification says a token without a lifetime lives.
    const LIFETIME: u64 = 60;
    /// A token this close to its end counts as gone.
    const MARGIN: Duration = Duration::from_secs(5);

    /// A token that is still good.
    pub fn get(&self, key: &TokenKey) -> Option<Authorization> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = tokens.get(key)?;
        (*until > Instant::now() + Self::MARGIN).then(|| token.clone())
    }

    /// Keeps the token of an answer; nothing if it has none.
    pub fn keep(&self, key: TokenKey, answer: &TokenAnswer) -> Option<Authorization> {
        let token = Authorization(format!("Bearer {}", answer.bearer()?));
        let seconds = answer.expires_in.clamp(Self::LIFETIME, 24 * 3600);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| *until > Instant::now());
        tokens.insert(key, (token.clone(), Instant::now() + Duration::from_secs(seconds)));
        Some(token)
    }

    /// Drops a token that a registry would not take.
    pub fn forget(&self, key: &TokenKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() }
    }

    #[test]
    fn challenges_are_read_in_every_form_seen() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        for (header, expected) in [
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    "repository:a/b:pull,push",
                )],
            ),
            ("Basic realm=\"a, b\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            ("Bearer realm=https://x/t, service=s", vec![bearer("https://x/t", "s", "")]),
            ("Negotiate, Basic realm=\"x\"", vec![Challenge::Basic]),
            (r#"Bearer realm="r\"x", Basic realm="y""#, vec![bearer("r\"x", "", ""), Challenge::Basic]),
            ("Bearer service=\"no realm\"", vec![]),
            ("", vec![]),
            ("Bearer realm=\"unterminated", vec![bearer("unterminated", "", "")]),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn secrets_go_where_they_belong() {
        let user = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
        let token = Credentials { identity_token: "t".into(), ..Credentials::default() };
        let basic = Some(Authorization("Basic dTpw".into()));
        assert_eq!(direct(&[Challenge::Basic], &user), basic);
        assert_eq!(direct(&[bearer("r", "", "")], &user), None);
        assert_eq!(direct(&[Challenge::Basic], &token), None);
        let TokenRequest::Get { query, authorization } = TokenRequest::new(&user, "s", "", Purpose::Login)
        else {
            panic!("a password is sent with GET");
        };
        assert_eq!(authorization, basic);
        assert!(
            query.contains(&("offline_token", "true".into())) && query.contains(&("account", "u".into()))
        );
        let TokenRequest::Post { form } = TokenRequest::new(&token, "s", "x", Purpose::Pull) else {
            panic!("an identity token is sent with POST");
        };
        assert!(form.contains(&("refresh_token", "t".into())));
        assert_eq!(format!("{user:?}{token:?}"), "Credentials(u)Credentials()");
    }

    #[test]
    fn a_token_is_used_again_until_it_ends() {
        let tokens = Tokens::default();
        let key = TokenKey {
            realm: "r".into(),
            service: "s".into(),
            scope: "x".into(),
            credentials: Credentials::default(),
        };
        let answer: TokenAnswer = serde_json::from_str(r#"{"access_token":"abc","expires_in":300}"#).unwrap();
        assert_eq!(tokens.keep(key.clone(), &answer), Some(Authorization("Bearer abc".into())));
        assert!(tokens.get(&key).is_some());
        let other = TokenKey { scope: "y".into(), ..key.clone() };
        assert!(tokens.get(&other).is_none());
        tokens.forget(&key);
        assert!(tokens.get(&key).is_none());
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    fn quoted(text: &str) -> String {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }

    fn challenge() -> impl Strategy<Value = Challenge> {
        let text = || any::<String>();
        prop_oneof![
            Just(Challenge::Basic),
            ("https?://.{1,20}", text(), text()).prop_map(|(realm, service, scope)| Challenge::Bearer {
                realm,
                service,
                scope
            }),
        ]
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn challenges_are_read_as_they_were_written(
            challenges in prop::collection::vec(challenge(), 0..4),
            separator in "[ ]?,[ ]?",
            scheme in prop::bool::ANY,
        ) {
            let write = |challenge: &Challenge| match challenge {
                Challenge::Basic => "BASIC realm=\"a, b=c\"".to_owned(),
                Challenge::Bearer { realm, service, scope } => {
                    let scheme = if scheme { "Bearer" } else { "bearer" };
                    let [realm, service, scope] = [realm, service, scope].map(|text| quoted(text));
                    format!("{scheme} realm={realm}{separator}service={service}{separator}Scope={scope}")
                }
            };
            let header = challenges.iter().map(write).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(Challenge::parse(&header), challenges, "{}", header);
        }

        #[test]
        fn any_header_is_read_to_its_end(header in r#"([Bb]asic|Bearer |realm="?|[ ,="\\é]|[a-z]){0,30}"#) {
            for challenge in Challenge::parse(&header) {
                prop_assert!(challenge == Challenge::Basic || header.contains("realm"));
            }
        }
    }
}
