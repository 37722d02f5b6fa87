//! What was counted before need not be bounded by its bytes again: an agent sends the same conversation with a
//! little more each turn, and of a request that was answered the provider has said how many tokens went in.
//!
//! Invariant: a bound is never lower than what the provider will count. It is taken from an earlier request only
//! where that one's conversation is the whole beginning of this one's, for the same model and under the same
//! terms, so that all that is new is at the end. Providers that drop parts of a conversation (thinking of past
//! turns) drop no fewer when it goes on; where they might, by what a request says, nothing is taken over.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hash, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::HeaderMap;

use crate::body::{
    Request,
    outline::{Outline, Part},
};

/// Tokens that a provider adds to what it is sent: the template, the preamble of tools.
pub const INPUT_OVERHEAD: u64 = 1_024;
/// Tokens that a provider adds at most for a tool of its own design, such as `bash_20250124`
/// (<https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview>: 700 for the longest).
pub const TYPED_TOOL_TOKENS: u64 = 1_024;
/// Requests of a task that are remembered: its agent's conversation, and those of the agents that it starts.
const REMEMBERED: usize = 16;
/// Tasks that are remembered; of more, those that asked longest ago are forgotten.
const TASKS: usize = 2_048;

/// What was counted, by task.
#[derive(Debug, Default)]
pub struct Counted {
    hashes: RandomState,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    known: HashMap<Arc<str>, Known>,
    /// Goes up with every request.
    clock: u64,
}

#[derive(Debug, Default)]
struct Known {
    requests: VecDeque<Seen>,
    used: u64,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    what: Fingerprint,
    tokens: u64,
}

/// What of a request decides whether another goes on from it. Hashes are keyed anew in each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    terms: u64,
    system: u64,
    tools: u64,
    elements: usize,
    conversation: u64,
}

impl Counted {
    /// Hashes for [`Outline`]s.
    #[must_use]
    pub fn hashes(&self) -> &RandomState {
        &self.hashes
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most tokens that can go in with a request; `image` is what an image counts at most.
    #[must_use]
    pub fn bound(&self, task: &Arc<str>, outline: &Outline, terms: u64, image: u64) -> u64 {
        let worst = outline.worst(image);
        let tasks = self.tasks();
        let Some(known) = tasks.known.get(task) else { return worst };
        known.requests.iter().filter_map(|seen| after(seen, outline, terms, image)).fold(worst, u64::min)
    }

    /// Remembers what was counted for a request.
    pub fn learn(&self, task: &Arc<str>, what: Fingerprint, tokens: u64) {
        let mut tasks = self.tasks();
        tasks.clock += 1;
        let clock = tasks.clock;
        if tasks.known.len() >= TASKS && !tasks.known.contains_key(task) {
            let oldest =
                tasks.known.iter().min_by_key(|(_, known)| known.used).map(|(task, _)| Arc::clone(task));
            if let Some(oldest) = oldest {
                tasks.known.remove(&oldest);
            }
        }
        let known = tasks.known.entry(Arc::clone(task)).or_default();
        known.used = clock;
        known.requests.retain(|seen| seen.what != what);
        known.requests.truncate(REMEMBERED - 1);
        known.requests.push_front(Seen { what, tokens });
    }

    /// The terms of a request beside its conversation: its API and model, what else of it may change how it is counted,
    /// and what its headers switch on.
    #[must_use]
    pub fn terms(&self, request: &Request<'_>, headers: &HeaderMap) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        (request.api.path(), &request.model, request.outline.frame).hash(&mut hasher);
        for name in ["anthropic-beta", "anthropic-version", "openai-beta"] {
            hasher.write(name.as_bytes());
            for value in headers.get_all(name) {
                value.as_bytes().hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

impl Outline {
    /// What another request may go on from, if this one's count says anything about another's.
    #[must_use]
    pub fn fingerprint(&self, terms: u64) -> Option<Fingerprint> {
        (!self.volatile).then(|| Fingerprint {
            terms,
            system: self.system.hash,
            tools: self.tools.hash,
            elements: self.elements.len(),
            conversation: self.elements.last().map_or(0, |element| element.hash),
        })
    }

    /// A token is at least a byte of the body, but for those of images and those that the provider adds.
    #[must_use]
    pub fn worst(&self, image: u64) -> u64 {
        let images = self.elements.iter().chain([&self.system]).fold(0, |sum: u64, part| sum + part.images);
        INPUT_OVERHEAD + self.bytes + images * image + self.typed_tools * TYPED_TOOL_TOKENS
    }
}

/// The bound of a request that goes on from one that was counted; `None` where it does not.
fn after(seen: &Seen, outline: &Outline, terms: u64, image: u64) -> Option<u64> {
    let same_beginning = match seen.what.elements.checked_sub(1) {
        Some(last) => outline.elements.get(last)?.hash == seen.what.conversation,
        None => true,
    };
    if seen.what.terms != terms || !same_beginning {
        return None;
    }
    let cost = |part: &Part| part.bytes + part.images * image;
    let mut bound = seen.tokens + INPUT_OVERHEAD;
    bound += outline.elements[seen.what.elements..].iter().map(cost).sum::<u64>();
    if seen.what.system != outline.system.hash {
        bound += cost(&outline.system);
    }
    if seen.what.tools != outline.tools.hash {
        bound += cost(&outline.tools) + outline.typed_tools * TYPED_TOOL_TOKENS;
    }
    Some(bound)
}

#[cfg(test)]
mod tests;
