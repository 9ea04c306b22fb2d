//! The OpenAPI document: generated from the handlers, so that it cannot tell of a
//! route that is not there, nor keep silent about one that is.
//!
//! A handler's annotation says what is its own: parameters, body, answers. What
//! holds for all of them is added here by one rule each ([`complete`]), as the code
//! that does it is in one place too: who must sign in, which errors can come, which
//! headers are taken and given. `sluice openapi` prints the document, a committed
//! copy shows its changes in reviews, `/docs` shows it to people without needing a
//! network.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ContactBuilder, ContentBuilder, HeaderBuilder, InfoBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa_swagger_ui::Config;

use super::error::{ApiError, FieldError, Problem};
use crate::server::App;

/// Name of the security scheme.
const BEARER: &str = "bearer";
/// Media type of errors.
const PROBLEM: &str = "application/problem+json";

/// Paths that are shown with the slash that documentation of this API has always
/// given them; both forms answer alike.
const COLLECTIONS: [&str; 5] =
    ["/v1/api-keys", "/v1/signing-keys", "/v1/projects", "/v1/git-uploads", "/v1/sessions"];

/// What the groups are about, in the order in which they are shown.
const TAGS: [(&str, &str); 14] = [
    ("Health", "Is the server there, and can it work? No authentication."),
    ("Authentication", "Sign in, stay signed in, sign out."),
    ("API keys", "Long-lived tokens for scripts and for `git push`."),
    ("Signing keys", "Whose signature a push carries."),
    ("Projects", "Repositories that belong together."),
    ("Repositories", "Code by push, by URL or by archive, and what is known about it."),
    ("Source", "The ingested files."),
    ("Scans", "Looking for what is dangerous."),
    ("Findings", "What was found, and what people decided about it."),
    ("Git uploads", "Remotes to push to."),
    ("Webhooks", "Being told."),
    ("Billing", "What was used, and what it costs."),
    ("Operations", "For those who run the server: members of the group `ops`."),
    ("Sessions", "An older way to send an archive. Deprecated."),
];

const ABOUT: &str = "\
sluice takes source code by `git push`, by URL or as an archive, and tells what is dangerous in it.

* Sign in with `POST /v1/auth/login`, or make an API key; send either as `Authorization: Bearer …`.
* Every path answers with and without a slash at its end.
* Errors are `application/problem+json` (RFC 9457) with a stable `code`. What belongs to another \
account is 404. A body larger than the limit is 413, a method that an address does not know is 405 \
with `Allow`.
* Unknown fields are refused with 422, and so are unknown parameters where there are any, and a \
NUL character in either.
* Lists come in pages: follow `next_cursor` or the header `Link` until it is null or absent.
* Every POST that creates something takes an `Idempotency-Key`, which is remembered for 24 hours.
* Times are RFC 3339 in UTC; ids are UUIDs.";

/// The document before the routes are known.
pub fn base() -> OpenApi {
    let mut components = Components::new();
    components.add_security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("An access token or an API key."))
                .build(),
        ),
    );
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    components.schemas.insert("FieldError".to_owned(), FieldError::schema());
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("sluice")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(ABOUT))
                .contact(Some(ContactBuilder::new().name(Some("sluice")).build()))
                .license(Some(utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").build())),
        )
        .tags(Some(
            TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()),
        ))
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])]))
        .build()
}

/// Adds to every operation what holds by construction.
pub fn complete(mut api: OpenApi) -> OpenApi {
    for (path, item) in &mut api.paths.paths {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete_operation(path, &method, operation);
            }
        }
    }
    for path in COLLECTIONS {
        if let Some(at) = api.paths.paths.keys().position(|known| known == path)
            && let Some((_, item)) = api.paths.paths.shift_remove_index(at)
        {
            api.paths.paths.shift_insert(at, format!("{path}/"), item);
        }
    }
    api
}

fn complete_operation(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let public = operation.security.as_ref().is_some_and(|all| {
        // `security(())` is the empty requirement: nothing is needed.
        all.iter().all(|one| *one == SecurityRequirement::default())
    });
    if public {
        operation.security = Some(Vec::new());
    }
    let parameters = operation.parameters.get_or_insert_default();
    for name in path_parameters(path) {
        if !inside(parameters, ParameterIn::Path).any(|known| known == name) {
            parameters.push(id_parameter(name).into());
        }
    }
    for parameter in parameters.iter_mut() {
        // `Option<T>` is a parameter that may be left out, not one that may be `null`.
        if let RefOr::T(parameter) = parameter
            && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
            && let SchemaType::Array(types) = &mut schema.schema_type
        {
            types.retain(|one| *one != Type::Null);
            if let [one] = types.as_slice() {
                schema.schema_type = SchemaType::Type(one.clone());
            }
        }
    }
    let query = inside(parameters, ParameterIn::Query).next().is_some();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        // `Option<T>` is a body that may be absent, not one that may be `null`.
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content
                && let Some(RefOr::T(Schema::OneOf(choice))) = &mut content.schema
                && choice.items.len() == 2
            {
                content.schema = Some(choice.items.remove(0));
                body.required = Some(Required::False);
            }
        }
    }
    let body = operation.request_body.is_some();
    let creates = *method == HttpMethod::Post
        && !public
        && ["201", "202"].iter().any(|made| operation.responses.responses.contains_key(*made));
    if creates {
        parameters.push(
            ParameterBuilder::new()
                .name("Idempotency-Key")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(
                    "Sent again with the same request, the first answer is given again.",
                ))
                .schema(Some(
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .min_length(Some(1))
                        .max_length(Some(255))
                        .pattern(Some("^[!-~]+$")),
                ))
                .build()
                .into(),
        );
    }

    let mut errors: Vec<(&str, &str)> = Vec::new();
    if !public {
        errors.push(("401", "No token, or one that is unknown, expired or withdrawn."));
        errors
            .push(("403", "A group or a scope of the API key is missing, or a quota is used up."));
    }
    if path.contains('{') {
        errors.push(("404", "There is none, or it belongs to somebody else."));
    }
    if query {
        errors.push(("414", "The address is longer than this server takes."));
    }
    if body {
        errors.push(("400", "The body cannot be read."));
        errors.push(("408", "The body did not come in time."));
        errors.push(("413", "The body is larger than this server takes."));
        errors.push(("415", "The body has another media type."));
    }
    if creates {
        errors.push(("409", "A request with this `Idempotency-Key` is still running."));
    }
    if body || query || creates {
        errors.push(("422", "A field or a parameter is not as it should be; `errors` names it."));
    }
    errors.push(("429", "Too many requests; `Retry-After` tells how long to wait."));
    if !public || path == "/v1/auth/login" || path == "/v1/auth/refresh" {
        errors.push(("503", "A part of the server cannot be reached right now."));
    }
    for (status, text) in errors {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(problem(status, text)));
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            answer.headers.entry("X-Request-Id".to_owned()).or_insert_with(|| {
                HeaderBuilder::new()
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                    .description(Some("The id by which the server's log knows the request."))
                    .build()
                    .into()
            });
        }
    }
}

/// Names of the parameters in one place.
fn inside(parameters: &[RefOr<Parameter>], place: ParameterIn) -> impl Iterator<Item = &str> {
    parameters.iter().filter_map(move |parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == place => Some(parameter.name.as_str()),
        _ => None,
    })
}

fn problem(status: &str, text: &str) -> utoipa::openapi::Response {
    let mut answer = ResponseBuilder::new().description(text).content(
        PROBLEM,
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
    );
    if matches!(status, "429" | "503") {
        answer = answer.header(
            "Retry-After",
            HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                .description(Some("Seconds to wait."))
                .build(),
        );
    }
    answer.build()
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn id_parameter(name: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))),
        ))
        .build()
}

/// The document as JSON text with a line end, as it is printed and committed.
pub fn text() -> String {
    let (_, api) = super::routes().split_for_parts();
    // Strings, numbers and maps always serialize.
    let mut text = serde_json::to_string_pretty(&complete(api)).unwrap_or_default();
    text.push('\n');
    text
}

/// `/openapi.json` and `/docs`.
pub fn serve(api: OpenApi) -> Router<App> {
    let text = serde_json::to_string(&complete(api)).unwrap_or_default();
    let json = axum::body::Bytes::from(text);
    let assets = Arc::new(Config::new(["/openapi.json"]));
    Router::new()
        .route("/openapi.json", get(async move || document(json.clone())))
        .route("/docs", get(page))
        .route(
            "/docs/{file}",
            get(async move |uri: Uri| {
                let file = uri.path().rsplit('/').next().unwrap_or_default();
                asset(file, &assets)
            }),
        )
}

/// The page itself is ours: its links are absolute, so that it is the same with and
/// without a slash at the end of its address, and its script is a file, so that the
/// policy can forbid every other.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sluice API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;
const START: &str = r##"SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true,
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis],
});
"##;
/// Nothing from elsewhere; the library sets styles and small images inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

/// A file of the library, which is part of the binary.
fn asset(file: &str, config: &Arc<Config<'static>>) -> Result<Response, ApiError> {
    let no_cache = (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if file == "start.js" {
        let script = HeaderValue::from_static("text/javascript");
        return Ok(([(header::CONTENT_TYPE, script), no_cache], START).into_response());
    }
    // Its own page and its settings would be another door to the same.
    let known = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
    if !known.contains(&file) {
        return Err(ApiError::not_found("address"));
    }
    let found = utoipa_swagger_ui::serve(file, Arc::clone(config))
        .map_err(|error| ApiError::internal(anyhow::anyhow!("{error}")))?
        .ok_or_else(|| ApiError::not_found("address"))?;
    let kind = HeaderValue::try_from(found.content_type).map_err(ApiError::internal)?;
    let headers = [(header::CONTENT_TYPE, kind), no_cache];
    let mut response = (headers, found.bytes.into_owned()).into_response();
    if found.gzpipped {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    Ok(response)
}

fn document(json: axum::body::Bytes) -> Response {
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests;
