//! `POST /auth`: are these credentials any good?

use http::StatusCode;
use serde_json::json;

use crate::api::auth_header::RegistryAuth;
use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;

/// `POST /auth`
pub async fn auth(mut call: Call<params::SystemAuth>) -> Outcome {
    let auth: RegistryAuth = call.json_or_default().await?;
    let address = auth.serveraddress.clone();
    let login = call.engine.registry.login(&address, &auth.unpacked().into()).await?;
    let reply = json!({ "Status": "Login Succeeded", "IdentityToken": login.identity_token });
    Ok(respond::json(StatusCode::OK, &reply))
}
