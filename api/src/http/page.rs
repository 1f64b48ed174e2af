//! The dashboard, embedded in the binary; or, in a binary that was built without it, a page that says how.
//!
//! Promises: nothing of it comes from another host, and the policy that says so goes out with it; files whose names
//! carry their hash may be kept for ever, all others are asked for again. Knows nothing of what the page shows.

use std::io::Read;

use flate2::read::GzDecoder;
use warp::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::problem::Reply;

/// A file of the built page.
struct File {
    path: &'static str,
    kind: &'static str,
    /// Its `ETag`.
    tag: &'static str,
    gzip: &'static [u8],
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// For the pages of this crate, which bring no style of their own.
const PLAIN_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";
/// For the dashboard. The hash is that of the empty text: its style sheets are made empty and filled by script, which
/// the policy allows; a style element with text in it is refused. `blob:` and `data:` images are what a drawing is
/// turned into when a panel is saved as a picture.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; img-src 'self' blob: data:; font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Answers the files of the page; `None` for everything else.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Option<Reply> {
    let wanted = if path == "/" { "/index.html" } else { path };
    match FILES.iter().find(|file| file.path == wanted) {
        Some(file) => Some(embedded(file, headers)),
        None if path == "/" => Some(plain(include_str!("../page/index.html"))),
        None => None,
    }
}

fn embedded(file: &File, headers: &HeaderMap) -> Reply {
    let says = |name: header::HeaderName, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|part| part.trim().starts_with(word)))
    };
    let fresh = says(header::IF_NONE_MATCH, file.tag);
    let packed = says(header::ACCEPT_ENCODING, "gzip");
    let body = match (fresh, packed) {
        (true, _) => Vec::new(),
        (false, true) => file.gzip.to_vec(),
        (false, false) => {
            let mut whole = Vec::new();
            // What the build packed can be unpacked.
            let _ = GzDecoder::new(file.gzip).read_to_end(&mut whole);
            whole
        }
    };
    let mut response = Response::new(body.into());
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let cache = if file.path.starts_with("/assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let set = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        (header::CACHE_CONTROL, cache),
        (header::ETAG, file.tag),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        set.insert(name, HeaderValue::from_static(value));
    }
    if packed && !fresh {
        set.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A page without a script or style of its own.
pub(super) fn plain(body: &str) -> Reply {
    let mut response = Response::new(body.to_owned().into());
    let set = response.headers_mut();
    set.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    set.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PLAIN_POLICY),
    );
    response
}
