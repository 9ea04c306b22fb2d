//! The API on a real socket and a real database, for tests.

use axum::Router;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::password::Slot;
use crate::config::{Config, Secret, Sources};
use crate::db;
use crate::db::testing::TestDb;
use crate::db::users::{self, NewUser};
use crate::server::{self, App};

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A server that listens; it ends with the test's runtime.
pub(crate) struct TestServer {
    pub name: &'static str,
    pub app: App,
    pub url: String,
    client: reqwest::Client,
    _db: TestDb,
}

/// One on each database.
pub(crate) async fn both() -> Vec<TestServer> {
    let mut servers = Vec::new();
    for db in db::testing::both().await {
        servers.push(TestServer::start(db, |_| (), Router::new()).await);
    }
    servers
}

impl TestServer {
    /// Serves the API and `more` on a free port.
    pub(crate) async fn start(
        test: TestDb,
        change: impl FnOnce(&mut Config),
        more: Router<App>,
    ) -> Self {
        let mut config = Config::from_sources(Sources::default()).unwrap();
        change(&mut config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        config.data_dir = test.dir().join("data");
        config.storage = format!("file://{}", test.dir().join("objects").display());
        config.jwt_secret = Some(Secret("a secret of the tests, and of nobody else".into()));
        config.database_url.clone_from(&test.url);
        let app = App::open(config, url.clone(), false).await.unwrap();
        tokio::spawn(server::serve_with(app.clone(), listener, more));
        Self { name: test.name, app, url, client: reqwest::Client::new(), _db: test }
    }

    /// Makes an account with [`PASSWORD`].
    pub(crate) async fn user(&self, email: &str) -> Uuid {
        let slot = Slot::acquire().await.unwrap();
        let password_hash = slot.hash(PASSWORD.into()).await.unwrap();
        let mut tx = self.app.db.begin().await.unwrap();
        let user = NewUser { email, name: "Ada", password_hash: &password_hash, groups: &[] };
        let id = users::insert(&mut tx, &user).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).bearer_auth(token).json(body)).await
    }

    pub(crate) async fn try_login(&self, email: &str, password: &str) -> (u16, Value) {
        let body = json!({"email": email, "password": password});
        answer(self.request(Method::POST, "/v1/auth/login").json(&body)).await
    }

    /// Signs in with [`PASSWORD`]; answers access and refresh token.
    pub(crate) async fn login(&self, email: &str) -> (String, String) {
        let (status, body) = self.try_login(email, PASSWORD).await;
        assert_eq!(status, 200, "{}: {body}", self.name);
        tokens(&body)
    }
}

/// Access and refresh token of an answer.
pub(crate) fn tokens(body: &Value) -> (String, String) {
    let text = |key: &str| body[key].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

/// Status and body of an answer; null if it has no JSON.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
