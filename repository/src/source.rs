//! Where a repository comes from: a folder of this machine, or a URL.

use std::path::{Path, PathBuf};

use crate::limits::MAX_SOURCE_BYTES;
use crate::{Code, RepositoryError};

/// A source that git may be pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder, absolute.
    Local(PathBuf),
    /// Something behind a network.
    Remote(RemoteSource),
}

/// A URL, with the credential that was in it held apart: an argument list can be read by everyone on the machine,
/// and git passes a URL on in the arguments of its own children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteSource {
    /// The URL without user and password (over HTTP), fit for an argument list and a message.
    pub(crate) url: String,
    /// What stood in it before the `@`, still percent-encoded.
    pub(crate) credential: Option<UrlCredential>,
}

/// User and perhaps password of an HTTP URL, percent-encoded as they stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlCredential {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
}

/// The transports that a remote source may use; `ext::` and its like run commands.
pub(crate) const REMOTE_PROTOCOLS: &str = "https:http:ssh:git";

impl Source {
    /// Reads what somebody typed or registered. A relative path counts from the current folder.
    pub(crate) fn parse(text: &str) -> Result<Self, RepositoryError> {
        if text.is_empty()
            || text.len() > MAX_SOURCE_BYTES
            || text.starts_with('-')
            || text.chars().any(char::is_control)
        {
            return Err(invalid(
                "a source is a path or a URL: not empty, at most 4096 bytes, without a leading `-` or control characters",
            ));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Local(path.into()))
            } else {
                Err(invalid("a file:// URL holds an absolute path"))
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return remote_of(scheme, rest).map(Self::Remote);
        }
        // git's own rule: `host:path` is remote when no slash stands before the colon; `name::` names a helper.
        match text.split_once(':') {
            Some((host, path)) if !host.contains('/') => {
                if host.is_empty() || path.starts_with(':') || host.starts_with('-') {
                    return Err(invalid("the source names no transport that is fetched from"));
                }
                Ok(Self::Remote(RemoteSource { url: text.to_owned(), credential: None }))
            }
            _ => std::path::absolute(text)
                .map(Self::Local)
                .map_err(|error| RepositoryError::io("cannot make the source's path absolute", &error)),
        }
    }

    /// The source for a message and an argument list: without a credential.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote(remote) => remote.url.clone(),
        }
    }

    /// A local source's folder has to be there before git is asked.
    pub(crate) fn require_present(&self) -> Result<(), RepositoryError> {
        let Self::Local(path) = self else { return Ok(()) };
        match Path::metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(RepositoryError::new(
                Code::NotARepository,
                format!("{} is a file, not a repository's folder", path.display()),
                "name the folder of a git repository",
            )),
            Err(error) => Err(RepositoryError::new(
                Code::SourceMissing,
                format!("the source {} cannot be opened: {error}", path.display()),
                "check the path, and register the repository again if it has moved",
            )),
        }
    }
}

fn remote_of(scheme: &str, rest: &str) -> Result<RemoteSource, RepositoryError> {
    if !REMOTE_PROTOCOLS.split(':').any(|known| known == scheme) {
        return Err(invalid("a source's URL begins with https://, http://, ssh://, git:// or file://"));
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user_info, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() || host.starts_with('-') {
        return Err(invalid("the source's URL names no host"));
    }
    let whole = format!("{scheme}://{rest}");
    let Some(user_info) = user_info else { return Ok(RemoteSource { url: whole, credential: None }) };
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (user_info, None),
    };
    match (scheme, password) {
        ("http" | "https", _) => Ok(RemoteSource {
            url: format!("{scheme}://{host}{path}"),
            credential: Some(UrlCredential { user: user.to_owned(), password: password.map(str::to_owned) }),
        }),
        // ssh takes no password from a URL, and would show it in its argument list.
        (_, Some(_)) => {
            Err(invalid("a password in the URL is of no use with this transport: use a key or an agent"))
        }
        (_, None) => Ok(RemoteSource { url: whole, credential: None }),
    }
}

fn invalid(why: &'static str) -> RepositoryError {
    RepositoryError::new(
        Code::SourceInvalid,
        format!("the source cannot be used: {why}"),
        "give the path of a git repository, or a URL such as https://host/project.git",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteSource {
        match Source::parse(text).unwrap() {
            Source::Remote(remote) => remote,
            Source::Local(path) => panic!("{} is local", path.display()),
        }
    }

    #[test]
    fn a_credential_is_taken_out_of_an_http_url() {
        for (text, url, user, password) in [
            (
                "https://user:p%40ss@host:8443/a/b@c.git",
                "https://host:8443/a/b@c.git",
                "user",
                Some("p%40ss"),
            ),
            ("https://user:p@ss@host/a", "https://host/a", "user", Some("p@ss")),
            ("https://token@host", "https://host", "token", None),
            ("http://:secret@host/a", "http://host/a", "", Some("secret")),
        ] {
            let found = remote(text);
            assert_eq!(found.url, url);
            let wanted = UrlCredential { user: user.to_owned(), password: password.map(str::to_owned) };
            assert_eq!(found.credential, Some(wanted));
        }
        for plain in ["https://host/a", "ssh://git@host/a", "git@host:a/b.git", "host:a"] {
            assert_eq!(remote(plain), RemoteSource { url: plain.to_owned(), credential: None });
        }
    }

    #[test]
    fn what_has_no_host_before_its_colon_is_a_path() {
        for path in ["/a/b", "/a:b", "file:///a/b"] {
            assert!(matches!(Source::parse(path).unwrap(), Source::Local(_)), "{path}");
        }
        assert_eq!(
            Source::parse("./a:b").unwrap(),
            Source::Local(std::env::current_dir().unwrap().join("a:b"))
        );
    }
}
