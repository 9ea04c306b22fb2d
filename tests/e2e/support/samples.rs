//! Code to push.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{Git, Work};

/// A made-up key of a mail service, alike for the same label. It is put together
/// here so that nothing in the source of the tests looks like a key.
pub fn mail_key(label: &str) -> String {
    let draw = |part: &str, length: usize| {
        let text = URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{label}/{part}")));
        text.replace(['-', '_'], "x")[..length].to_owned()
    };
    format!("SG.{}.{}", draw("a", 22), draw("b", 43))
}

/// A file with such a key on its only line.
pub fn env_file(label: &str) -> String {
    format!("SENDGRID_API_KEY={}\n", mail_key(label))
}

/// A handler of a web application with a query put together from its input.
pub fn injectable(name: &str) -> String {
    format!(
        "import sqlite3\n\
         from flask import Flask, request\n\
         \n\
         app = Flask(__name__)\n\
         \n\
         \n\
         @app.route(\"/{name}\")\n\
         def {name}():\n    \
             wanted = request.args.get(\"name\")\n    \
             connection = sqlite3.connect(\"app.db\")\n    \
             cursor = connection.cursor()\n    \
             cursor.execute(\"SELECT * FROM {name} WHERE name = '\" + wanted + \"'\")\n    \
             return str(cursor.fetchall())\n"
    )
}

/// The same without the weakness.
pub fn careful(name: &str) -> String {
    injectable(name).replace(
        &format!("\"SELECT * FROM {name} WHERE name = '\" + wanted + \"'\""),
        &format!("\"SELECT * FROM {name} WHERE name = ?\", (wanted,)"),
    )
}

/// A lock file that names a package with known advisories.
pub const LOCK: &str = "lodash@^4.17.0:\n  version \"4.17.20\"\n";

/// A repository with one finding of each engine and a few files without any.
pub async fn small(git: &Git) -> Work {
    let work = Work::new(git).await;
    work.write("README.md", "# Parcels\n");
    work.write("service/users.py", injectable("users"));
    work.write("service/config/.env", env_file("head"));
    work.write("web/yarn.lock", LOCK);
    work.write("web/index.js", "export const answer = 42;\n");
    work.commit("begin").await;
    work
}

/// The sample repository with its whole history.
pub async fn demo(git: &Git) -> Work {
    let work = Work::new(git).await;
    let commits = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo/commits");
    let mut folders: Vec<_> =
        std::fs::read_dir(&commits).expect("the sample").flatten().map(|e| e.path()).collect();
    folders.sort();
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("commit.toml")).expect("a commit");
        let commit: toml::Table = toml::from_str(&text).expect("TOML");
        let root = folder.join("files");
        for file in super::server::files_below(&root) {
            let path = file.strip_prefix(&root).expect("below the root");
            work.write(path.to_str().expect("UTF-8"), std::fs::read(&file).expect("a file"));
        }
        for path in commit.get("delete").and_then(toml::Value::as_array).into_iter().flatten() {
            let path = path.as_str().expect("a path");
            std::fs::remove_file(work.path().join(path)).expect("removed");
        }
        work.commit(commit["message"].as_str().expect("a message")).await;
    }
    work
}

/// A form with an archive of one file.
pub fn form(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(8);
    archive.append_data(&mut header, "README.md", &b"# A tree"[..]).expect("a tar");
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; \
                     filename=\"a.tar\"\r\n\r\n"
        .to_vec();
    body.extend(archive.into_inner().expect("a tar"));
    body.extend(b"\r\n--b--\r\n");
    request.header("content-type", "multipart/form-data; boundary=b").body(body)
}
