//! The older way, over a socket.

use serde_json::json;

use crate::accounts::testing::{answer, both};
use crate::api::repositories::upload::tests::{form, part, small_zip};

#[tokio::test]
async fn a_session_is_a_repository() {
    for server in both().await {
        let name = server.name;
        server.user("ada@example.org").await;
        server.user("eve@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        let (eve, _) = server.login("eve@example.org").await;
        let sent =
            form(&server, "/v1/sessions/", &ada, &[part("file", Some("shop.zip"), &small_zip())]);
        let response = sent.send().await.unwrap();
        assert_eq!(response.status(), 201, "{name}");
        assert_eq!(response.headers()["deprecation"], "@1795392000");
        assert!(response.headers()["link"].to_str().unwrap().contains("deprecation"));
        let session: serde_json::Value = response.json().await.unwrap();
        assert_eq!(session["status"], "uploaded");
        assert_eq!(session["name"], "shop");
        let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
        let repository = format!("/v1/repositories/{}", session["id"].as_str().unwrap());
        assert_eq!(server.get(&path, &ada).await.1, session, "{name}");
        assert_eq!(server.get(&repository, &ada).await.0, 200, "{name}");
        for wrong in ["", "/events"] {
            assert_eq!(server.get(&format!("{path}{wrong}"), &eve).await.0, 404, "{name}");
        }
        let analyze = format!("{path}/analyze");
        assert_eq!(server.post(&analyze, &eve, &json!({})).await.0, 404, "{name}");
        assert_eq!(server.get(&format!("{path}/events"), &ada).await.1["items"], json!([]));
        let refused = answer(
            server
                .request(reqwest::Method::POST, "/v1/sessions")
                .bearer_auth(&ada)
                .json(&json!({})),
        )
        .await;
        assert_eq!((refused.0, &refused.1["code"]), (415, &json!("unsupported_media_type")));
        // Another kind of repository is no session.
        let (_, project) = server.post("/v1/projects", &ada, &json!({"name": "p"})).await;
        let (_, pushed) = server
            .post(
                &format!("/v1/projects/{}/repositories", project["id"].as_str().unwrap()),
                &ada,
                &json!({"name": "r", "source_type": "git_upload"}),
            )
            .await;
        let wrong = format!("/v1/sessions/{}", pushed["id"].as_str().unwrap());
        assert_eq!(server.get(&wrong, &ada).await.0, 404, "{name}");
    }
}
