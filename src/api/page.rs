//! Lists: `?limit=` and `?cursor=` in, `items`, `next_cursor` and `Link` out.
//!
//! Pages are keysets, never offsets: the cursor holds the sort key of the last
//! row, so that a page never repeats or skips a row while others are written, and
//! the thousandth page costs what the first one does.

use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, Result};

/// Rows of a page where the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// Most rows of a page.
pub const MAX_LIMIT: u32 = 200;

/// The parameters of a list without filters.
#[derive(Debug, Clone, Deserialize, Default, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// From `next_cursor` of the page before, as it is.
    #[param(min_length = 1, max_length = 1024)]
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The checked number of rows.
    pub fn limit(&self) -> Result<u32> {
        check_limit(self.limit)
    }

    /// What the cursor holds.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>> {
        self.cursor.as_deref().map(decode_cursor).transpose()
    }
}

/// 1 to 200, or 50 if absent.
pub fn check_limit(limit: Option<u32>) -> Result<u32> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::invalid_field("limit", format!("must be 1 to {MAX_LIMIT}"))),
    }
}

/// The sort key in a cursor. Opaque to clients, but no secret.
pub fn decode_cursor<K: DeserializeOwned>(cursor: &str) -> Result<K> {
    let bad = || ApiError::invalid_field("cursor", "take it from `next_cursor` as it is");
    if cursor.is_empty() || cursor.len() > 1024 {
        return Err(bad());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    serde_json::from_slice(&bytes).map_err(|_| bad())
}

/// The other way.
pub fn encode_cursor<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

/// A page on its way out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins, or null behind the last row.
    pub next_cursor: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    link: Option<HeaderValue>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit` of the rows. Ask the database for `limit + 1`:
    /// the row too many tells that there is a next page. `key` gives the sort key
    /// of a row.
    pub fn new<R, K: Serialize>(
        uri: &Uri,
        mut rows: Vec<R>,
        limit: u32,
        key: impl Fn(&R) -> K,
        map: impl FnMut(R) -> T,
    ) -> Self {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = if more { rows.last().map(|row| encode_cursor(&key(row))) } else { None };
        Self::with_cursor(uri, rows.into_iter().map(map).collect(), next_cursor)
    }

    /// A page of a list that is not in the database and knows itself where its next
    /// page begins.
    pub fn with_cursor(uri: &Uri, items: Vec<T>, next_cursor: Option<String>) -> Self {
        let link = next_cursor.as_ref().and_then(|cursor| next_link(uri, cursor));
        Self { items, next_cursor, link }
    }
}

/// `Link: <…>; rel="next"` (RFC 8288): the same request with another cursor.
fn next_link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .filter(|(name, _)| name != "cursor"),
        )
        .append_pair("cursor", cursor)
        .finish();
    HeaderValue::try_from(format!("<{}?{query}>; rel=\"next\"", uri.path())).ok()
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.link.clone();
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}
