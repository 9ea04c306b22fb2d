use clap::Parser as _;

use super::*;
use crate::accounts::testing::both;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    user: UserArgs,
}

async fn sluice(db: &Db, line: &[&str]) -> anyhow::Result<ExitCode> {
    let args = std::iter::once("user").chain(line.iter().copied());
    run(db, Cli::try_parse_from(args)?.user).await
}

fn given(text: &str) -> Password {
    Password { text: text.into(), generated: false }
}

#[tokio::test]
async fn accounts_are_made_changed_and_disabled() {
    for server in both().await {
        let db = &server.app.db;
        let groups = ["ops".to_owned(), "ops".to_owned()];
        add(db, "Ada@Example.org", &groups, " Ada ", given("password one")).await.unwrap();
        let (status, _) = server.try_login("ada@example.org", "password one").await;
        assert_eq!(status, 200, "{}", server.name);
        let user = users::by_email(db, "ada@example.org").await.unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups.0), ("Ada", vec!["ops".to_owned()]));

        let (_, body) = server.try_login("ada@example.org", "password one").await;
        let access = body["access_token"].as_str().unwrap();
        assert_eq!(server.get("/v1/auth/me", access).await.0, 200);
        passwd(db, "ADA@example.org", given("password two")).await.unwrap();
        assert_eq!(server.get("/v1/auth/me", access).await.0, 401);
        assert_eq!(server.try_login("ada@example.org", "password one").await.0, 401);
        assert_eq!(server.try_login("ada@example.org", "password two").await.0, 200);

        sluice(db, &["list"]).await.unwrap();
        sluice(db, &["disable", "ada@example.org"]).await.unwrap();
        sluice(db, &["disable", "ada@example.org"]).await.unwrap();
        assert_eq!(server.try_login("ada@example.org", "password two").await.0, 401);
    }
}

#[tokio::test]
async fn mistakes_are_told() {
    for server in both().await {
        let db = &server.app.db;
        sluice(db, &["add", "ada@x.org", "--group", "ops"]).await.unwrap();
        for (line, words) in [
            (&["add", "ADA@x.org"][..], "already"),
            (&["add", "nobody"], "name@domain"),
            (&["add", "b@x.org", "--group", "Ops!"], "group"),
            (&["add", "b@x.org", "--name", "a\u{7}b"], "name"),
            (&["passwd", "b@x.org"], "no account b@x.org"),
            (&["disable", "b@x.org"], "no account b@x.org"),
        ] {
            let error = sluice(db, line).await.unwrap_err().to_string();
            assert!(error.contains(words), "{}: {line:?}: {error}", server.name);
        }
        let error = passwd(db, "ada@x.org", given("short")).await.unwrap_err().to_string();
        assert!(error.contains("8 to 1024"), "{error}");
        assert_eq!(users::list(db).await.unwrap().len(), 1);
    }
}

#[test]
fn a_password_is_one_line() {
    for (input, password) in
        [("secret word\n", "secret word"), ("a\r\nb\n", "a"), ("no end", "no end"), ("", "")]
    {
        assert_eq!(read_line(input.as_bytes()).unwrap(), password);
    }
    let endless = io::BufReader::new(io::repeat(b'x'));
    assert_eq!(read_line(endless).unwrap().len(), 8192);
    assert!(read_line(&b"\xff\xfe\n"[..]).is_err());
}
