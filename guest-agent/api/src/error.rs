//! Where a failure becomes a status. Keep status codes of failures out of every other file.

use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use lighter_engine::{Error, Kind};
use serde::Serialize;

use crate::body::{Body, full};

/// A failure on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// The text for the client.
    pub(crate) message: String,
    plain: bool,
}

impl ApiError {
    /// The request is wrong in itself.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            plain: false,
        }
    }

    /// No such route.
    pub(crate) fn page_not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: "page not found".into(),
            plain: false,
        }
    }

    /// Answer in plain text instead of JSON.
    pub(crate) fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The whole response.
    pub(crate) fn into_response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct Shape<'a> {
            message: &'a str,
        }
        let mut response = Response::new(full(Vec::new()));
        *response.status_mut() = self.status;
        if self.status == StatusCode::NOT_MODIFIED {
            return response;
        }
        let (kind, body) = if self.plain {
            (
                "text/plain; charset=utf-8",
                format!("{}\n", self.message).into_bytes(),
            )
        } else {
            let mut body = serde_json::to_vec(&Shape {
                message: &self.message,
            })
            .unwrap_or_else(|_| b"{\"message\":\"\"}".to_vec());
            body.push(b'\n');
            ("application/json", body)
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.plain {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        *response.body_mut() = full(body);
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::InvalidArgument => StatusCode::BAD_REQUEST,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = error.text();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(%message, "a request failed");
        }
        Self {
            status,
            message,
            plain: false,
        }
    }
}
