//! `/containers/…` and `/exec/…`.

use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(_call: Call) -> Answer {
    Err(ApiError::page_not_found())
}
