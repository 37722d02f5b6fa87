//! (later)
use crate::child::Plan;
pub(crate) async fn sweep(_plan: &Plan) {}
