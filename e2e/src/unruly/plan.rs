//! What goes wrong with which request: first each kind of trouble once for each verb, in an order that the seed
//! gives, then at random.

use std::collections::BTreeMap;

use fastrand::Rng;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `GET /tasks/lease/{queue}`
    Lease,
    /// `POST /tasks/{id}/start`
    Start,
    /// `POST /tasks/{id}/heartbeat`
    Heartbeat,
    /// `POST /tasks/{id}/events`
    Events,
    /// `PUT /tasks/{id}/artifacts/{name}`
    Artifact,
    /// `POST /tasks/{id}/result`
    Result,
    /// `POST /tasks/{id}/release`
    Release,
    /// `POST /workers`
    Register,
    /// `POST /workers/{id}/end`
    End,
}

impl Verb {
    /// Whose request it is; `None` for one that is never troubled.
    pub(crate) fn of(method: &http::Method, path: &str) -> Option<Self> {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        Some(match (method.as_str(), parts.as_slice()) {
            ("GET", ["tasks", "lease", _]) => Self::Lease,
            ("POST", ["tasks", _, "start"]) => Self::Start,
            ("POST", ["tasks", _, "heartbeat"]) => Self::Heartbeat,
            ("POST", ["tasks", _, "events"]) => Self::Events,
            ("PUT", ["tasks", _, "artifacts", _]) => Self::Artifact,
            ("POST", ["tasks", _, "result"]) => Self::Result,
            ("POST", ["tasks", _, "release"]) => Self::Release,
            ("POST", ["workers"]) => Self::Register,
            ("POST", ["workers", _, "end"]) => Self::End,
            _ => return None,
        })
    }
}

/// What a network may do to a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The request never arrives.
    LoseRequest,
    /// The request arrives, and its answer does not.
    LoseAnswer,
    /// The request is late.
    DelayRequest,
    /// The answer is late.
    DelayAnswer,
    /// It arrives again after it was answered; the first answer goes back.
    FirstOfTwo,
    /// The same, and the second answer goes back.
    SecondOfTwo,
    /// It arrives twice at the same time; the answer that is there first goes back.
    TwoAtOnce,
    /// It arrives again when others have arrived that were sent after its answer.
    CopyLater,
    /// Another request arrives before it that was sent after it.
    Overtaken,
    /// The connection breaks in the middle of the request's body.
    BreakRequest,
    /// The connection breaks in the middle of the answer's body.
    BreakAnswer,
    /// The connection breaks while the answer is waited for.
    BreakWait,
}

impl Trouble {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::LoseRequest,
        Self::LoseAnswer,
        Self::DelayRequest,
        Self::DelayAnswer,
        Self::FirstOfTwo,
        Self::SecondOfTwo,
        Self::TwoAtOnce,
        Self::CopyLater,
        Self::Overtaken,
        Self::BreakRequest,
        Self::BreakAnswer,
        Self::BreakWait,
    ];

    /// Whether there is such a thing: a body to break, a wait.
    #[must_use]
    pub fn befalls(self, verb: Verb) -> bool {
        match self {
            Self::BreakRequest => verb != Verb::Lease,
            Self::BreakAnswer => !matches!(verb, Verb::Release | Verb::End),
            Self::BreakWait => matches!(verb, Verb::Lease | Verb::Heartbeat),
            _ => true,
        }
    }

    /// Whether it shows only once there is an answer.
    #[must_use]
    pub const fn needs_answer(self) -> bool {
        matches!(
            self,
            Self::LoseAnswer | Self::DelayAnswer | Self::FirstOfTwo | Self::SecondOfTwo | Self::BreakAnswer
        )
    }
}

/// The troubles to come.
#[derive(Debug)]
pub struct Plan {
    random: Rng,
    walk: BTreeMap<Verb, Vec<Trouble>>,
    wanted: Vec<(Verb, Trouble)>,
}

/// The variable that repeats a run's plan.
const SEED: &str = "CODE_WORKERS_NETWORK_SEED";
/// Of so many requests one is troubled, once the walk is over.
const ONE_IN: usize = 3;

impl Plan {
    /// A plan with a new seed, which is told, or with that of `CODE_WORKERS_NETWORK_SEED`. `wanted` says what is to
    /// happen at least once; requests of other verbs pass.
    #[must_use]
    pub fn new(verbs: &[Verb], wanted: impl Fn(Verb, Trouble) -> bool) -> Self {
        let seed = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("{SEED}={seed} repeats this plan");
        let mut random = Rng::with_seed(seed);
        let walk = verbs.iter().map(|verb| {
            let befalls = |trouble: &Trouble| trouble.befalls(*verb) && wanted(*verb, *trouble);
            let mut troubles: Vec<_> = Trouble::ALL.into_iter().filter(befalls).collect();
            random.shuffle(&mut troubles);
            (*verb, troubles)
        });
        let walk: BTreeMap<Verb, Vec<Trouble>> = walk.collect();
        let of = |(verb, troubles): (&Verb, &Vec<Trouble>)| -> Vec<_> {
            troubles.iter().map(|trouble| (*verb, *trouble)).collect()
        };
        let wanted = walk.iter().flat_map(of).collect();
        Self { random, walk, wanted }
    }

    /// What befalls the next request of this verb.
    pub(crate) fn next(&mut self, verb: Verb) -> Option<Trouble> {
        let walk = self.walk.get_mut(&verb)?;
        if let Some(trouble) = walk.pop() {
            return Some(trouble);
        }
        let all: Vec<_> = Trouble::ALL.into_iter().filter(|trouble| trouble.befalls(verb)).collect();
        (self.random.usize(..ONE_IN) == 0).then(|| self.random.choice(all)).flatten()
    }

    /// There was no occasion this time. A wait comes when all is done; whoever overtakes is there before.
    pub(crate) fn again(&mut self, verb: Verb, trouble: Trouble) {
        let walk = self.walk.entry(verb).or_default();
        let place = if trouble == Trouble::BreakWait { 0 } else { walk.len() };
        walk.insert(place, trouble);
    }

    /// What is to happen at least once.
    pub(crate) fn wanted(&self) -> &[(Verb, Trouble)] {
        &self.wanted
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.random.shuffle(items);
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.random.u64(..end)
    }
}
