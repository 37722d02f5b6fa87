//! What the model billed and what the ledger says, over random mixes of requests at once, of every way in which
//! one can end, and of kills. In nano-dollars.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use protocol::{
    Usd,
    keys::{BudgetScope, MintKey, SetBudget},
};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::house::{
    Gateway, House, MODEL,
    billing::{BillingModel, Kind, OUTPUT, Plan},
    key_for, soon,
};

/// A request, and what its client does.
#[derive(Debug, Clone)]
struct Asked {
    plan: Plan,
    /// The second of the two tasks of the repository.
    second: bool,
    max_tokens: u64,
    /// It goes after so many pieces of the answer; at 0 before there is any.
    leaves: Option<u8>,
}

#[derive(Debug, Clone)]
struct Mix {
    /// Of the two tasks, their repository, and the day.
    limits: [u64; 4],
    requests: Vec<Asked>,
    /// After so many events at the model.
    kill: Option<usize>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let kind = prop_oneof![
        4 => Just(Kind::Stream),
        3 => Just(Kind::Whole),
        1 => Just(Kind::Cut),
        1 => Just(Kind::Error),
        1 => prop_oneof![Just(400), Just(429), Just(500), Just(529)].prop_map(Kind::Status),
    ];
    let size = (0..4_000_u64, 0..60_u16, 0..3_000_u16);
    (kind, size, any::<bool>(), 1..4_000_u64, option::weighted(0.2, 0..20_u8)).prop_map(
        |(kind, (tokens, pieces, padding), second, max_tokens, leaves)| {
            let plan = Plan { id: 0, kind, tokens, pieces, padding };
            Asked { plan, second, max_tokens, leaves }
        },
    )
}

fn mix(kills: bool) -> impl Strategy<Value = Mix> {
    let kill = if kills { (1..200_usize).prop_map(Some).boxed() } else { Just(None).boxed() };
    (proptest::array::uniform4(5_000_000..120_000_000_u64), vec(asked(), 1..24), kill)
        .prop_map(|(limits, requests, kill)| Mix { limits, requests, kill })
}

/// What an account may have been charged.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    billed: u64,
    least: u64,
    most: u64,
}

/// How a request has ended, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With an answer, or one that broke off.
    Whole,
    /// The gateway refused.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// The most that can be held for a request.
fn most(request: &Asked) -> u64 {
    // A byte is a token at most, at twice the usual price; and what a provider may add.
    (request.plan.text().len() as u64 + 8_192) * 2_000 + request.max_tokens * OUTPUT
}

struct Bench {
    model: BillingModel,
    house: House,
    gateway: Gateway,
    number: AtomicU64,
}

impl Bench {
    async fn start() -> Self {
        let model = BillingModel::start().await;
        let house = House::before(&model.url);
        let gateway = house.open().await;
        Self { model, house, gateway, number: AtomicU64::new(0) }
    }

    fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    async fn mint(&self, task: &str, queue: &str, limit: u64) -> String {
        let key = MintKey {
            queue: queue.parse().unwrap(),
            budget_usd: Usd::from_nanos(limit),
            ..key_for(task, "0")
        };
        self.gateway.admin.mint(&key).await.unwrap().key.expose().to_owned()
    }

    async fn limit(&self, scope: BudgetScope, nanos: u64) {
        let set = SetBudget { scope, limit_usd: Some(Usd::from_nanos(nanos)) };
        self.gateway.admin.set_budget(&set).await.unwrap();
    }

    /// What an account has spent.
    async fn says(&self, account: &str) -> u64 {
        let budgets = self.gateway.admin.budgets().await.unwrap().budgets;
        budgets.iter().find(|budget| budget.account == account).map_or(0, |budget| budget.spent_usd.nanos())
    }

    /// Asks, and says how it ended.
    fn ask(&self, key: &str, request: &Asked) -> impl Future<Output = End> + use<> {
        let stream = !matches!(request.plan.kind, Kind::Whole);
        let body = json!({"model": MODEL, "max_tokens": request.max_tokens, "stream": stream,
                          "messages": [{"role": "user", "content": request.plan.text()}]});
        let asking = self.gateway.post("/v1/messages", key, &body).send();
        let (leaves, mut told) = (request.leaves, self.model.told.subscribe());
        let id = request.plan.id;
        async move {
            let answer = match leaves {
                Some(0) => tokio::select! {
                    answer = asking => answer,
                    _ = told.wait_for(|told| told.bills.contains_key(&id)) => return End::Unknown,
                },
                _ => asking.await,
            };
            let Ok(mut answer) = answer else { return End::Unknown };
            if answer.status() == 402 {
                return End::Refused;
            }
            let mut left = leaves.map_or(u32::MAX, u32::from);
            while left > 0 {
                match answer.chunk().await {
                    Ok(Some(_)) => left -= 1,
                    Ok(None) => return End::Whole,
                    Err(_) => return End::Unknown,
                }
            }
            End::Unknown
        }
    }

    /// Runs a mix, and compares.
    async fn run(&mut self, mix: &Mix) -> Result<(), String> {
        let number = self.number();
        let (tasks, repo) = ([format!("a{number}"), format!("b{number}")], format!("q{number}"));
        let day_before = self.says("day").await;
        let accounts = [
            format!("task:{}", tasks[0]),
            format!("task:{}", tasks[1]),
            format!("repo:{repo}"),
            "day".to_owned(),
        ];
        let keys = [
            self.mint(&tasks[0], &repo, mix.limits[0]).await,
            self.mint(&tasks[1], &repo, mix.limits[1]).await,
        ];
        self.limit(BudgetScope::Repo(repo.parse().unwrap()), mix.limits[2]).await;
        self.limit(BudgetScope::Day, day_before + mix.limits[3]).await;
        let mut requests = mix.requests.clone();
        requests.iter_mut().for_each(|request| request.plan.id = self.number());

        let asking: Vec<_> = requests
            .iter()
            .map(|request| tokio::spawn(self.ask(&keys[usize::from(request.second)], request)))
            .collect();
        if let Some(after) = mix.kill {
            let mut told = self.model.told.subscribe();
            let start = told.borrow().events;
            let all = async {
                while asking.iter().any(|asking| !asking.is_finished()) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = told.wait_for(|told| told.events >= start + after) => {}
                () = all => {}
            }
            self.gateway.process.kill().await.unwrap();
        }
        let mut ends = Vec::new();
        for asking in asking {
            ends.push(soon(asking).await.unwrap());
        }
        if mix.kill.is_some() {
            self.gateway = self.house.open().await;
            for (task, limit) in tasks.iter().zip(mix.limits) {
                self.mint(task, &repo, limit).await;
            }
        }
        for key in &keys {
            self.gateway.settled(key).await;
        }
        let sums = self.sums(&requests, &ends, mix.kill.is_some());
        for (at, account) in accounts.iter().enumerate() {
            let before = if at == 3 { day_before } else { 0 };
            let (says, sum, limit) = (self.says(account).await - before, sums[at], mix.limits[at]);
            let told = format!("{account}: says {says}, {sum:?}, of {limit}; {ends:?}");
            if sum.billed > limit || says > limit {
                return Err(format!("overspent: {told}"));
            }
            if !(sum.least..=sum.most).contains(&says) || says < sum.billed {
                return Err(format!("wrong: {told}"));
            }
        }
        Ok(())
    }

    fn sums(&self, requests: &[Asked], ends: &[End], killed: bool) -> [Sum; 4] {
        let mut sums = [Sum::default(); 4];
        for (request, end) in requests.iter().zip(ends) {
            let billed = self.model.bill(request.plan.id);
            let (least, most) = match end {
                End::Refused => (0, 0),
                // Exact for every end, but one that nobody was there to see.
                End::Unknown if killed => (billed, most(request)),
                End::Whole | End::Unknown => (billed, billed),
            };
            for at in [usize::from(request.second), 2, 3] {
                sums[at].billed += billed;
                sums[at].least += least;
                sums[at].most += most;
            }
        }
        sums
    }
}

fn check(kills: bool, cases: u32) {
    let runtime = Runtime::new().unwrap();
    let bench = std::sync::Mutex::new(runtime.block_on(Bench::start()));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let ran = runner.run(&mix(kills), |mix| {
        let mut bench = bench.lock().unwrap();
        runtime.block_on(bench.run(&mix)).map_err(TestCaseError::fail)
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, mix)) => panic!("{why}\n{mix:#?}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_ledger_says_what_was_billed_however_requests_end() {
    check(false, 40);
}

#[test]
fn a_kill_charges_no_less_than_was_billed_and_no_more_than_was_held() {
    check(true, 16);
}
