//! What the options `labels`, `labels-regex`, `env`, `env-regex` and `tag` add to each line of a log.

use std::collections::BTreeMap;

use regex::Regex;

/// An option that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    #[error("{0}")]
    Regex(#[from] regex::Error),
    #[error("template: log-tag: invalid tag {0:?}: only fields such as {{{{.Name}}}} are supported")]
    Tag(String),
}

/// What the attributes of a container's log are made from.
#[derive(Clone, Default)]
pub struct Subject<'a> {
    pub id: &'a str,
    /// Without the leading slash.
    pub name: &'a str,
    pub image_id: &'a str,
    pub image_name: &'a str,
    pub command: &'a str,
    /// When the container was created (RFC 3339).
    pub created: &'a str,
    /// `NAME=value`.
    pub env: &'a [String],
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// The attributes that `options` ask for: of lines in files.
pub fn of(
    options: &BTreeMap<String, String>,
    subject: &Subject<'_>,
) -> Result<BTreeMap<String, String>, AttributeError> {
    let mut found = chosen_of(options, subject)?;
    if options.get("tag").is_some_and(|tag| !tag.is_empty()) {
        found.insert("tag".to_owned(), tag(options, subject)?);
    }
    Ok(found)
}

/// The labels and variables that `options` ask for.
pub fn chosen_of(
    options: &BTreeMap<String, String>,
    subject: &Subject<'_>,
) -> Result<BTreeMap<String, String>, AttributeError> {
    let labels =
        subject.labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let env = subject.env.iter().filter_map(|variable| variable.split_once('=')).collect();
    let mut found = chosen(options, "labels", &labels)?;
    found.extend(chosen(options, "env", &env)?);
    Ok(found)
}

/// The tag: the container's short id unless an option says otherwise.
pub fn tag(options: &BTreeMap<String, String>, subject: &Subject<'_>) -> Result<String, AttributeError> {
    match options.get("tag").filter(|tag| !tag.is_empty()) {
        Some(tag) => expand(tag, subject),
        None => Ok(short_id(subject).to_owned()),
    }
}

/// The first 12 digits of the container's id.
pub fn short_id<'a>(subject: &Subject<'a>) -> &'a str {
    subject.id.get(..12).unwrap_or(subject.id)
}

/// Picks by the list in option `key` and the pattern in option `KEY-regex`.
fn chosen(
    options: &BTreeMap<String, String>,
    key: &str,
    values: &BTreeMap<&str, &str>,
) -> Result<BTreeMap<String, String>, AttributeError> {
    let listed: Vec<&str> = options.get(key).map(|list| list.split(',').collect()).unwrap_or_default();
    let pattern = options.get(&format!("{key}-regex")).filter(|pattern| !pattern.is_empty());
    let pattern = pattern.map(|pattern| Regex::new(pattern)).transpose()?;
    let wanted = |name: &str| listed.contains(&name) || pattern.as_ref().is_some_and(|p| p.is_match(name));
    Ok(values
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect())
}

/// Replaces the fields of a tag. dockerd takes a whole Go template; what people write is fields.
fn expand(tag: &str, subject: &Subject<'_>) -> Result<String, AttributeError> {
    let invalid = || AttributeError::Tag(tag.to_owned());
    let mut expanded = String::new();
    let mut rest = tag;
    while let Some((text, after)) = rest.split_once("{{") {
        let (field, after) = after.split_once("}}").ok_or_else(invalid)?;
        expanded.push_str(text);
        expanded.push_str(value(field.trim(), subject).ok_or_else(invalid)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value<'a>(field: &str, subject: &Subject<'a>) -> Option<&'a str> {
    let short = |id: &'a str| {
        let id = id.strip_prefix("sha256:").unwrap_or(id);
        id.get(..12).unwrap_or(id)
    };
    Some(match field {
        ".ID" => short(subject.id),
        ".FullID" | ".ContainerID" => subject.id,
        ".Name" | ".ContainerName" => subject.name,
        ".ImageID" => short(subject.image_id),
        ".ImageFullID" | ".ContainerImageID" => subject.image_id,
        ".ImageName" | ".ContainerImageName" => subject.image_name,
        ".Command" => subject.command,
        ".DaemonName" => "docker",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_variables_and_tag_are_chosen_by_list_and_pattern() {
        let labels =
            [("a", "1"), ("b", "2"), ("team.x", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let env = ["PATH=/bin".to_owned(), "X=y=z".to_owned()];
        let id = "0123456789abcdef";
        let subject = Subject { id, name: "web", env: &env, labels: Some(&labels), ..Subject::default() };
        let options =
            [("labels", "a,none"), ("labels-regex", "^team"), ("env", "X"), ("tag", "{{.Name}}/{{ .ID }}!")];
        let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let found = of(&options, &subject).unwrap();
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, [("X", "y=z"), ("a", "1"), ("tag", "web/0123456789ab!"), ("team.x", "3")]);
        assert!(of(&[("tag".to_owned(), "{{.Nope}}".to_owned())].into(), &subject).is_err());
    }
}
