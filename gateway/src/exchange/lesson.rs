//! What one request's count says of those that go on from it.

use std::sync::Arc;

use http::HeaderMap;

use crate::{
    Gateway,
    body::Request,
    counted::{Counted, Fingerprint},
    meter::Meter,
};

/// To be learnt when the provider has said how many tokens went in.
#[derive(Debug)]
pub struct Lesson {
    counted: Arc<Counted>,
    task: Arc<str>,
    what: Option<Fingerprint>,
    bound: u64,
}

impl Lesson {
    /// Before a request is sent: the most tokens that can go in with it, and what is to be learnt.
    #[must_use]
    pub fn before(
        gateway: &Gateway,
        task: &Arc<str>,
        request: &Request<'_>,
        headers: &HeaderMap,
    ) -> (u64, Self) {
        let counted = Arc::clone(&gateway.counted);
        let terms = counted.terms(request, headers);
        let bound = counted.bound(task, &request.outline, terms, request.image_tokens());
        let what = request.outline.fingerprint(terms);
        (bound, Self { counted, task: Arc::clone(task), what, bound })
    }

    /// Remembers the count, where it came.
    pub fn learn(&self, meter: &Meter) {
        let tokens = meter.tokens().input_total();
        if !meter.is_final() || tokens == 0 {
            return;
        }
        if tokens > self.bound {
            tracing::warn!(task = %self.task, tokens, bound = self.bound, "the upstream counted more than can be");
            return;
        }
        if let Some(what) = self.what {
            self.counted.learn(&self.task, what, tokens);
        }
    }
}
