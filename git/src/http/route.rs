//! What a request is for: its path, its service and its credentials.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use crate::remote::Credentials;

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `…/info/refs`, with the service of its query.
    InfoRefs { repository: String, service: Option<String> },
    /// `…/git-receive-pack`
    ReceivePack { repository: String },
    /// `…/git-upload-pack`
    UploadPack { repository: String },
    /// A file of the repository itself, as a dumb client fetches it.
    Dumb,
    /// Nothing that is served here.
    Unknown,
}

/// Reads the path and the query of a request. The service of a POST is decided by the path alone.
pub(crate) fn route(path: &str, query: Option<&str>) -> Route {
    let split = |suffix: &str| path.strip_suffix(suffix).map(repository);
    if let Some(repository) = split("/info/refs") {
        return match repository {
            Some(repository) => Route::InfoRefs { repository, service: service(query) },
            None => Route::Unknown,
        };
    }
    if let Some(repository) = split("/git-receive-pack") {
        return repository.map_or(Route::Unknown, |repository| Route::ReceivePack { repository });
    }
    if let Some(repository) = split("/git-upload-pack") {
        return repository.map_or(Route::Unknown, |repository| Route::UploadPack { repository });
    }
    if path.ends_with("/HEAD") || path.contains("/objects/") {
        return Route::Dumb;
    }
    Route::Unknown
}

fn service(query: Option<&str>) -> Option<String> {
    query?.split('&').find_map(|pair| pair.strip_prefix("service=")).map(str::to_owned)
}

/// The decoded path of a repository, or `None` if it cannot be one.
fn repository(path: &str) -> Option<String> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    // `/.git` is how the repository inside a working tree is often named.
    let path = path.strip_suffix("/.git").or(path.strip_suffix(".git")).unwrap_or(path);
    let mut decoded = String::with_capacity(path.len());
    for component in path.split('/') {
        let component = percent_decode_str(component).decode_utf8().ok()?;
        // A slash may not come in by way of its code: it would be a component that is not one.
        let separator = component.contains(['/', '\\']);
        let control = component.chars().any(char::is_control);
        if matches!(&*component, "" | "." | "..") || separator || control {
            return None;
        }
        if !decoded.is_empty() {
            decoded.push('/');
        }
        decoded.push_str(&component);
    }
    (decoded.len() <= 1024).then_some(decoded)
}

/// The credentials of a request; `None` if there are none or they cannot be read, which comes to the
/// same: the client is asked for them.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        return Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() });
    }
    (scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty())
        .then(|| Credentials::Bearer(rest.to_owned()))
}

/// Whether the body is gzip; an error names an encoding that is not known.
pub(crate) fn gzip(headers: &HeaderMap) -> Result<bool, String> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?")) {
        None => Ok(false),
        Some(value) => match value.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Ok(true),
            "identity" | "" => Ok(false),
            other => Err(other.chars().filter(|c| !c.is_control()).take(40).collect()),
        },
    }
}

/// Whether the body has the type that git sends. Parameters behind a semicolon are ignored.
pub(crate) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(expected))
}

/// Whether the user of this client reads an `ERR` packet, but not the body of an error. So it is
/// with everything that calls itself git and is not git: libgit2 (`git/2.0 (libgit2 …)`), dulwich
/// (`git/dulwich/…`), go-git (`git/1.0`), hg-git, JGit. Git's own versions have three numbers.
pub(crate) fn reads_only_packets(user_agent: Option<&str>) -> bool {
    let Some(agent) = user_agent else { return false };
    if agent.starts_with("JGit/") {
        return true;
    }
    let Some(version) = agent.strip_prefix("git/") else { return false };
    let version = version.split(' ').next().unwrap_or_default();
    let is_number = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
    version.split('.').take_while(|part| is_number(part)).count() < 3
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn info_refs(path: &str) -> Option<String> {
        match route(path, Some("service=git-receive-pack")) {
            Route::InfoRefs { repository, .. } => Some(repository),
            _ => None,
        }
    }

    #[test]
    fn a_repository_has_many_spellings() {
        for path in [
            "/a/b.git/info/refs",
            "/a/b/info/refs",
            "/a/b.git//info/refs",
            "/a/%62.git/info/refs",
            "/a/b/.git/info/refs",
        ] {
            assert_eq!(info_refs(path).as_deref(), Some("a/b"), "{path}");
        }
    }

    #[test]
    fn paths_do_not_leave_their_root() {
        for path in [
            "/../a/info/refs",
            "/a/%2e%2e/info/refs",
            "/a%2fb/info/refs",
            "/a//b/info/refs",
            "/a%00/info/refs",
            "/a%5cb/info/refs",
            "/.git/info/refs",
            "/info/refs",
            "/%ff/info/refs",
        ] {
            assert_eq!(info_refs(path), None, "{path}");
        }
    }

    #[test]
    fn the_path_decides_the_service_of_a_post() {
        let receive = Route::ReceivePack { repository: "a".into() };
        assert_eq!(route("/a/git-receive-pack", Some("service=git-upload-pack")), receive);
        let upload = Route::UploadPack { repository: "a".into() };
        assert_eq!(route("/a/git-upload-pack", Some("service=git-receive-pack")), upload);
        assert_eq!(route("/a/HEAD", None), Route::Dumb);
        assert_eq!(route("/a/objects/info/packs", None), Route::Dumb);
        assert_eq!(route("/a", None), Route::Unknown);
        let dumb = Route::InfoRefs { repository: "a".into(), service: None };
        assert_eq!(route("/a/info/refs", None), dumb);
    }

    #[test]
    fn credentials_in_both_schemes() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            credentials(&headers)
        };
        let basic = Credentials::Basic { user: "x".into(), password: "to:ken".into() };
        assert_eq!(read("Basic eDp0bzprZW4="), Some(basic.clone()));
        assert_eq!(read("basic eDp0bzprZW4="), Some(basic.clone()));
        assert_eq!(read("Bearer abc"), Some(Credentials::Bearer("abc".into())));
        for bad in ["Basic", "Basic !!!", "Basic eA==", "Bearer ", "Digest x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(!format!("{basic:?}").contains("ken"), "no secret in a log");
    }

    #[test]
    fn types_and_encodings() {
        let with = |name, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        assert!(has_type(&with(header::CONTENT_TYPE, "A/B; charset=utf-8"), "a/b"));
        assert!(!has_type(&with(header::CONTENT_TYPE, "a/bc"), "a/b"));
        assert!(!has_type(&HeaderMap::new(), "a/b"));
        assert_eq!(gzip(&with(header::CONTENT_ENCODING, "x-gzip")), Ok(true));
        assert_eq!(gzip(&with(header::CONTENT_ENCODING, "br")), Err("br".into()));
    }

    #[test]
    fn git_is_told_from_what_calls_itself_git() {
        for packets in [
            "git/2.0 (libgit2 1.9.7)",
            "git/dulwich/1.2.21",
            "git/1.0",
            "git/20x6 (hg-git ; uses dulwich and hg ; like git-core)",
            "JGit/4.11.9.201909030838-r",
            "git/",
        ] {
            assert!(reads_only_packets(Some(packets)), "{packets}");
        }
        for bodies in [
            "git/2.39.5",
            "git/2.39.5 (Apple Git-154)",
            "git/2.47.3.windows.1",
            "git/2.54.0-rc0",
            "git-lfs/3.3.0",
            "curl/8.0.1",
            "",
        ] {
            assert!(!reads_only_packets(Some(bodies)), "{bodies}");
        }
        assert!(!reads_only_packets(None));
    }
}
