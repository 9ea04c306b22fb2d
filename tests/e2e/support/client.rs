//! A client of the API, with the questions that many stories ask.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PATIENCE, until};

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
    pub refresh_token: Option<String>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    /// A problem (RFC 9457) with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{problem}");
        problem
    }
}

impl Client {
    pub fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { http, base: base.to_owned(), token: None, refresh_token: None }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller at another server.
    pub fn at(&self, server: &super::Server) -> Self {
        Self { base: server.address.clone(), ..self.clone() }
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Self {
        let body = json!({"email": email, "password": password});
        let answer = self.post("/v1/auth/login", body).await.expect(200).json();
        let mut signed_in = self.with_token(answer["access_token"].as_str().expect("a token"));
        signed_in.refresh_token = answer["refresh_token"].as_str().map(str::to_owned);
        signed_in
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    pub async fn send(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("a body").to_vec();
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    pub async fn get_if_none_match(&self, path: &str, tag: &str) -> Answer {
        Self::send(self.request(Method::GET, path).header("if-none-match", tag)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path)).await
    }

    /// All rows of a list, page by page.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => self.get(path).await,
                Some(cursor) => self.get(&format!("{path}{mark}cursor={cursor}")).await,
            };
            let page = page.expect(200).json();
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// A git upload.
    pub async fn upload(&self, body: Value) -> Value {
        self.post("/v1/git-uploads/", body).await.expect(201).json()
    }

    /// Waits until all pushes of an upload so far are ingested.
    pub async fn ingested(&self, upload: &str) -> Value {
        let path = format!("/v1/git-uploads/{upload}?wait=2");
        until("the upload is ready", async || {
            let now = self.get(&path).await.expect(200).json();
            matches!(now["status"].as_str(), Some("ready" | "failed")).then_some(now)
        })
        .await
    }

    /// Waits until a scan has ended, by `?wait=` and `If-None-Match` as a client does.
    pub async fn ended(&self, repository: &str, scan: &str) -> Value {
        let path = format!("/v1/repositories/{repository}/scans/{scan}?wait=5");
        until("the scan ends", async || {
            let now = self.get(&path).await.expect(200).json();
            let ended =
                matches!(now["status"].as_str(), Some("completed" | "failed" | "cancelled"));
            ended.then_some(now)
        })
        .await
    }

    /// Waits until what was pushed last is scanned; upload and scan.
    pub async fn scanned(&self, upload: &str) -> (Value, Value) {
        let upload = self.ingested(upload).await;
        let (repository, scan) = (text(&upload["repository_id"]), text(&upload["scan_id"]));
        let scan = self.ended(&repository, &scan).await;
        assert_eq!(scan["status"], "completed", "{scan}");
        (upload, scan)
    }

    /// All findings of a repository that are there, by fingerprint.
    pub async fn findings(&self, repository: &str) -> Vec<Value> {
        self.all(&format!("/v1/repositories/{repository}/findings?limit=200")).await
    }

    /// All events of a scan, whose numbers have no hole.
    pub async fn events(&self, repository: &str, scan: &str) -> Vec<Value> {
        let path = format!("/v1/repositories/{repository}/scans/{scan}/events?limit=200");
        let events = self.all(&path).await;
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], index + 1, "{event}");
        }
        events
    }

    /// Whether somebody listens.
    pub async fn reachable(&self) -> bool {
        self.request(Method::GET, "/v1/healthz")
            .timeout(Duration::from_secs(2))
            .send()
            .await
            .is_ok()
    }
}

/// The string in a JSON value.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}
