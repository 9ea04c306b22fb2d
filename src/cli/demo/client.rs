//! The API as a client sees it: JSON over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::scan::Severity;

/// How long the server may hold back an answer until something happens, in seconds.
const WAIT: u64 = 20;
/// Longest time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(WAIT + 40);

/// Somebody who is signed in.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A remote to push to.
#[derive(Debug, Deserialize)]
pub(super) struct Upload {
    pub(super) id: Uuid,
    /// With user name and token: a secret.
    pub(super) push_url: String,
    pub(super) remote_url: String,
}

/// Where a scan is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanAt {
    pub(super) repository_id: Uuid,
    pub(super) scan_id: Uuid,
}

/// What happened in a scan.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) seq: i64,
    pub(super) r#type: String,
    pub(super) message: String,
}

/// What went wrong with an upload or a scan.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    message: String,
}

/// How a scan ended.
#[derive(Debug, Deserialize)]
pub(super) struct ScanEnd {
    pub(super) status: String,
    error: Option<Failure>,
}

impl ScanEnd {
    /// Why there are no findings to rely on.
    pub(super) fn sentence(&self) -> String {
        match &self.error {
            Some(error) => format!("the scan {}: {}", self.status, error.message),
            None => format!("the scan was not completed but {}", self.status),
        }
    }
}

/// A weakness that was reported.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Finding {
    pub(super) engine: String,
    pub(super) rule_id: String,
    pub(super) title: String,
    pub(super) severity: Severity,
    pub(super) location: Option<Place>,
    #[serde(default)]
    pub(super) other_locations: Vec<Place>,
    pub(super) package: Option<Package>,
}

impl Finding {
    /// Everywhere it was seen.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.location.iter().chain(&self.other_locations)
    }
}

/// Where a weakness is.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) start_line: u32,
    pub(super) in_history: bool,
}

/// The package that has the weakness.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) purl: String,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    id: Uuid,
}

impl Client {
    /// Signs in to the server at `address`.
    pub(super) async fn sign_in(
        address: SocketAddr,
        email: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Tokens {
            access_token: String,
        }
        // A proxy that the user has for the world outside has no business here.
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let mut client = Self { http, base: format!("http://{address}"), token: String::new() };
        let body = json!({ "email": email, "password": password });
        let tokens: Tokens = client.post("/v1/auth/login", &body).await.context("signing in")?;
        client.token = tokens.access_token;
        Ok(client)
    }

    pub(super) async fn create_project(&self, name: &str) -> anyhow::Result<Uuid> {
        let created: Created = self.post("/v1/projects", &json!({ "name": name })).await?;
        Ok(created.id)
    }

    pub(super) async fn create_upload(&self, project: Uuid, name: &str) -> anyhow::Result<Upload> {
        self.post("/v1/git-uploads", &json!({ "project_id": project, "name": name })).await
    }

    /// A key for whoever looks at the findings later: an access token would expire.
    pub(super) async fn create_api_key(&self, name: &str) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        let key: Key = self.post("/v1/api-keys", &json!({ "name": name })).await?;
        Ok(key.key)
    }

    /// Waits for the scan that a push sets off. In the answer, the error says why there
    /// will be none.
    pub(super) async fn scan_of(&self, upload: Uuid) -> anyhow::Result<Result<ScanAt, String>> {
        #[derive(Deserialize)]
        struct State {
            status: String,
            repository_id: Option<Uuid>,
            scan_id: Option<Uuid>,
            error: Option<Failure>,
        }
        let path = format!("/v1/git-uploads/{upload}?wait={WAIT}");
        let mut known = None;
        loop {
            let mut request = self.http.get(self.url(&path));
            if let Some(tag) = &known {
                request = request.header(header::IF_NONE_MATCH, tag);
            } else {
                // Without a tag the server would wait for the next change.
                request = self.http.get(self.url(&format!("/v1/git-uploads/{upload}")));
            }
            let response = self.send(request).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                continue;
            }
            known = response.headers().get(header::ETAG).cloned();
            let state: State = body(response).await?;
            if let (Some(repository_id), Some(scan_id)) = (state.repository_id, state.scan_id) {
                return Ok(Ok(ScanAt { repository_id, scan_id }));
            }
            if matches!(state.status.as_str(), "failed" | "expired") {
                let why = state.error.map_or_else(String::new, |e| format!(": {}", e.message));
                return Ok(Err(format!("what was pushed could not be read{why}")));
            }
        }
    }

    /// The events behind the one with the number `after`. If there are none yet, the
    /// server may `wait` for the next.
    pub(super) async fn events(
        &self,
        scan: ScanAt,
        after: i64,
        wait: bool,
    ) -> anyhow::Result<Vec<Event>> {
        let wait = if wait { WAIT } else { 0 };
        let path = format!("{}/events?after={after}&limit=200&wait={wait}", path_of(scan));
        Ok(self.get::<Items<Event>>(&path).await?.items)
    }

    /// How the scan ended, if it has.
    pub(super) async fn scan_end(&self, scan: ScanAt) -> anyhow::Result<Option<ScanEnd>> {
        let end: ScanEnd = self.get(&path_of(scan)).await?;
        let goes_on = matches!(end.status.as_str(), "queued" | "running");
        Ok((!goes_on).then_some(end))
    }

    /// All that the scan found, the worst first.
    pub(super) async fn findings(&self, scan: ScanAt) -> anyhow::Result<Vec<Finding>> {
        let list = format!(
            "/v1/repositories/{}/findings?scan_id={}&sort=-severity&limit=100",
            scan.repository_id, scan.scan_id
        );
        let mut page: Items<Finding> = self.get(&list).await?;
        let mut findings = page.items;
        while let Some(cursor) = page.next_cursor {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("cursor", &cursor)
                .finish();
            page = self.get(&format!("{list}&{query}")).await?;
            findings.append(&mut page.items);
        }
        Ok(findings)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        body(self.send(self.http.get(self.url(path))).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        json: &serde_json::Value,
    ) -> anyhow::Result<T> {
        body(self.send(self.http.post(self.url(path)).json(json)).await?).await
    }

    /// Sends a request. An answer that is an error becomes one, in the server's words.
    async fn send(&self, mut request: RequestBuilder) -> anyhow::Result<Response> {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let response = request.send().await.context("the server does not answer")?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let path = response.url().path().to_owned();
            match response.json::<Problem>().await {
                Ok(problem) => bail!("{path} answers {status}: {}", problem.detail),
                Err(_) => bail!("{path} answers {status}"),
            }
        }
        Ok(response)
    }
}

fn path_of(scan: ScanAt) -> String {
    format!("/v1/repositories/{}/scans/{}", scan.repository_id, scan.scan_id)
}

async fn body<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let path = response.url().path().to_owned();
    response.json().await.with_context(|| format!("the answer of {path} cannot be read"))
}
