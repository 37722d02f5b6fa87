//! Random mixes of requests, kills and power failures, against what a model would bill.

use std::{path::Path, sync::Arc};

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use protocol::{
    Usd,
    keys::{BudgetScope, MintKey, SetBudget},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    Growth, Holder, Ledger, NoMoney, Reservation,
    tests::{ASK, holder, key_for, killed, open},
};
use crate::{account::Ask, tokens::Tokens};

/// A token of output costs so much, and nothing else does.
const TOKEN: u64 = 1_000;
const ACCOUNTS: [&str; 5] = ["task:a", "task:b", "repo:p", "repo:q", "day"];

#[derive(Debug, Clone)]
enum Step {
    /// A request of this key asks for so many tokens; the model will bill this part of them, in 255ths.
    Begin {
        key: usize,
        tokens: u64,
        part: u8,
    },
    /// It is sent.
    Send(usize),
    /// The model's answer is longer than was asked for, by so many tokens.
    Grow(usize, u64),
    /// It ends, and what it cost is known.
    Settle(usize),
    /// It ends, and nobody knows what it cost.
    Lose(usize),
    /// The model refuses it.
    Release(usize),
    Kill,
    Power,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, 1..400_u64, any::<u8>())
            .prop_map(|(key, tokens, part)| Step::Begin { key, tokens, part }),
        12 => any::<usize>().prop_map(Step::Send),
        8 => (any::<usize>(), 1..200_u64).prop_map(|(which, more)| Step::Grow(which, more)),
        8 => any::<usize>().prop_map(Step::Settle),
        2 => any::<usize>().prop_map(Step::Lose),
        2 => any::<usize>().prop_map(Step::Release),
        1 => proptest::strategy::Just(Step::Kill),
        2 => proptest::strategy::Just(Step::Power),
        1 => proptest::strategy::Just(Step::Stop),
    ]
}

/// A request under way.
struct Request {
    key: usize,
    reservation: Reservation,
    /// What the model bills, if it is ever sent.
    bill: u64,
    sent: bool,
}

/// What the accounts of a key are.
fn accounts(key: usize) -> [&'static str; 3] {
    // The second key is of the first one's task.
    [["task:a", "repo:p", "day"], ["task:a", "repo:p", "day"], ["task:b", "repo:q", "day"]][key]
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Sums(std::collections::BTreeMap<&'static str, u64>);

impl Sums {
    fn add(&mut self, key: usize, nanos: u64) {
        for account in accounts(key) {
            *self.0.entry(account).or_default() += nanos;
        }
    }

    fn of(&self, account: &str) -> u64 {
        self.0.get(account).copied().unwrap_or(0)
    }
}

struct World {
    runtime: Runtime,
    limits: [u64; 5],
    boots: u32,
    ledger: Option<Arc<Ledger>>,
    folder: TempDir,
    /// The files as they were flushed last.
    flushed: TempDir,
    flushes: u64,
    holders: Vec<Holder>,
    under_way: Vec<Request>,
    /// What the model bills.
    billed: Sums,
    /// What the ledger must say.
    known: Sums,
}

impl World {
    fn new(limits: [u64; 5]) -> Self {
        let mut world = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            limits,
            boots: 0,
            ledger: None,
            folder: tempfile::tempdir().unwrap(),
            flushed: tempfile::tempdir().unwrap(),
            flushes: 0,
            holders: Vec::new(),
            under_way: Vec::new(),
            billed: Sums::default(),
            known: Sums::default(),
        };
        world.open();
        world
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.ledger.as_ref().unwrap()
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("gateway.db")
    }

    fn open(&mut self) {
        let ledger = open(&self.file(), &self.boots.to_string());
        self.holders = self.runtime.block_on(async {
            let mut holders = Vec::new();
            for (task, attempt, queue, limit) in
                [("a", 1, "p", self.limits[0]), ("a", 2, "p", self.limits[0]), ("b", 1, "q", self.limits[1])]
            {
                let queue = queue.parse().unwrap();
                let key = MintKey { attempt, queue, ..key_for(task, Usd::from_nanos(limit)) };
                holders.push(holder(&ledger, &key).await);
            }
            let scopes = [
                BudgetScope::Repo("p".parse().unwrap()),
                BudgetScope::Repo("q".parse().unwrap()),
                BudgetScope::Day,
            ];
            for (scope, limit) in scopes.into_iter().zip(&self.limits[2..]) {
                let limit_usd = Some(Usd::from_nanos(*limit));
                ledger.set_budget(&SetBudget { scope, limit_usd }).await.unwrap().unwrap();
            }
            holders
        });
        self.ledger = Some(ledger);
        self.flushes = 0;
        self.look();
    }

    /// Keeps the files, where there was a flush.
    fn look(&mut self) {
        let flushes = self.ledger().shared.flushes();
        if flushes != self.flushes {
            self.flushes = flushes;
            self.flushed = killed(self.folder.path());
        }
    }

    fn begin(&mut self, key: usize, tokens: u64, part: u8) {
        let ask = Ask { output_wanted: tokens, output_floor: 1, rates: rates(), ..ASK };
        let ledger = Arc::clone(self.ledger());
        let holder = self.holders[key].clone();
        // What others hold may stand in the way; then it does not wait.
        let reserving = async {
            tokio::select! {
                biased;
                reserved = ledger.reserve(&holder, "m", &ask) => Some(reserved),
                () = waits(&ledger) => None,
            }
        };
        let reserved = self.runtime.block_on(reserving);
        match reserved {
            Some(Ok(reservation)) => {
                let bill = reservation.grant().output_tokens * TOKEN * u64::from(part) / 255;
                self.under_way.push(Request { key, reservation, bill, sent: false });
            }
            Some(Err(NoMoney::Spent { .. })) | None => {}
            Some(Err(other)) => panic!("{other}"),
        }
        self.look();
    }

    fn take(&mut self, which: usize) -> Option<Request> {
        let count = self.under_way.len();
        (count > 0).then(|| self.under_way.swap_remove(which % count))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin { key, tokens, part } => self.begin(*key, *tokens, *part),
            Step::Send(which) => {
                let count = self.under_way.len().max(1);
                if let Some(request) = self.under_way.get_mut(which % count).filter(|request| !request.sent) {
                    request.reservation.sending();
                    request.sent = true;
                    self.billed.add(request.key, request.bill);
                }
            }
            Step::Grow(which, more) => {
                let count = self.under_way.len().max(1);
                let Some(request) = self.under_way.get_mut(which % count).filter(|request| request.sent)
                else {
                    return;
                };
                let to = request.reservation.grant().amount.nanos() + more * TOKEN;
                let Growth::Granted(unflushed) = request.reservation.grow(Usd::from_nanos(to)) else {
                    return;
                };
                let (key, grown) = (request.key, to - std::mem::replace(&mut request.bill, to));
                if let Some(unflushed) = unflushed {
                    self.runtime.block_on(Arc::clone(self.ledger()).flushed(unflushed)).unwrap();
                    self.look();
                }
                // The model says more only after that.
                self.billed.add(key, grown);
            }
            Step::Settle(which) => {
                let Some(request) = self.take(*which) else { return };
                if request.sent {
                    self.known.add(request.key, request.bill);
                    request.reservation.settle(Usd::from_nanos(request.bill), Tokens::default());
                }
            }
            Step::Lose(which) => {
                let Some(request) = self.take(*which) else { return };
                if request.sent {
                    self.known.add(request.key, request.reservation.grant().amount.nanos());
                }
            }
            Step::Release(which) => {
                // Of what was sent the model would have billed.
                if self
                    .under_way
                    .get(which % self.under_way.len().max(1))
                    .is_some_and(|request| !request.sent)
                {
                    self.take(*which).unwrap().reservation.release();
                }
            }
            Step::Kill => self.end(false),
            Step::Power => self.end(true),
            Step::Stop => {
                for request in std::mem::take(&mut self.under_way) {
                    let amount = if request.sent { request.bill } else { 0 };
                    self.known.add(request.key, amount);
                    request.reservation.settle(Usd::from_nanos(amount), Tokens::default());
                }
                self.runtime.block_on(self.ledger().flush());
                self.ledger = None;
                self.boots += 1;
                self.open();
            }
        }
    }

    /// The files of now, or of the last flush, are all that is left.
    fn end(&mut self, power: bool) {
        let left = if power {
            self.boots += 1;
            let left = std::mem::replace(&mut self.flushed, tempfile::tempdir().unwrap());
            // Never flushed, the slots may be lost as a whole.
            std::fs::write(left.path().join("gateway.holds"), []).unwrap();
            left
        } else {
            killed(self.folder.path())
        };
        for request in &self.under_way {
            self.known.add(request.key, request.reservation.grant().amount.nanos());
        }
        // What the old one does to its files now is seen by nobody.
        let old = std::mem::replace(&mut self.folder, left);
        self.under_way.clear();
        self.ledger = None;
        drop(old);
        self.open();
        if power {
            let ledger: Vec<_> = ACCOUNTS.map(|account| (account, self.says(account))).into();
            for (account, says) in &ledger {
                assert!(
                    *says >= self.billed.of(account),
                    "{account} is charged {says} after a power failure"
                );
            }
            self.known = Sums(ledger.into_iter().collect());
        }
    }

    fn says(&self, account: &str) -> u64 {
        let books = self.ledger().books();
        let of = books.accounts.values().filter(|entry| entry.shown() == account);
        of.map(|entry| entry.money.spent.nanos()).sum()
    }
}

fn rates() -> crate::prices::Rates {
    crate::prices::Rates { output: TOKEN * 1_000, ..ASK.rates }
}

/// Until a request waits for others' holds.
async fn waits(ledger: &Ledger) {
    while ledger.waiting.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

fn run(limits: [u64; 5], steps: &[Step]) -> Result<(), proptest::test_runner::TestCaseError> {
    let mut world = World::new(limits);
    for step in steps {
        world.step(step);
        for (account, limit) in ACCOUNTS.iter().zip(limits) {
            let (billed, says) = (world.billed.of(account), world.says(account));
            prop_assert!(billed <= limit, "{account}: {billed} of {limit} were billed after {step:?}");
            prop_assert_eq!(says, world.known.of(account), "{} after {:?}", account, step);
            prop_assert!(says <= limit, "{}: {} of {} after {:?}", account, says, limit, step);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]
    #[test]
    fn nothing_that_is_billed_is_forgotten_and_no_account_is_overspent(
        limits in proptest::array::uniform5(20_000..2_000_000_u64),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        run(limits, &steps)?;
    }
}

/// The files of a request at each step of it, and what a start must make of them.
#[test]
fn a_program_cut_at_any_step_charges_each_request_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let spent = |folder: &Path, boot| {
        let ledger = open(&folder.join("gateway.db"), boot);
        let usage = ledger.usage(&"t".parse().unwrap());
        (usage.spent_usd.nanos(), usage.requests)
    };
    runtime.block_on(async {
        let holder = holder(&ledger, &key_for("t", "1.00".parse().unwrap())).await;
        let charge = Usd::from_nanos(123);
        let price = 1_000_000;
        let mut before = 0;
        // The second request has the first one's slot.
        for number in 1..=3 {
            let mut reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
            reservation.sending();
            assert_eq!(spent(killed(folder.path()).path(), "here"), (before + price, number - 1), "held");
            let charged =
                crate::account::Charge { amount: charge, tokens: Tokens::default(), reached_model: true };
            reservation.note(Some(charged)).unwrap();
            let noted = killed(folder.path());
            assert_eq!(spent(noted.path(), "here"), (before + 123, number), "noted");
            reservation.settle(charge, Tokens::default());
            assert_eq!(spent(killed(folder.path()).path(), "here"), (before + 123, number), "settled");
            ledger.stored().await;
            let stored = killed(folder.path());
            let slots = std::fs::read(stored.path().join("gateway.holds")).unwrap();
            assert_eq!(slots.len(), 256, "one slot is enough");
            assert_eq!(spent(stored.path(), "here"), (before + 123, number), "stored");
            // A start that was cut before it had forgotten the slots.
            std::fs::write(stored.path().join("gateway.holds"), &slots).unwrap();
            assert_eq!(spent(stored.path(), "here"), (before + 123, number), "started twice");
            // A slot that makes no sense: then all that was covered is charged.
            let torn = killed(folder.path());
            std::fs::write(torn.path().join("gateway.holds"), [7; 256]).unwrap();
            assert!(spent(torn.path(), "here").0 >= before + price, "torn");
            before += 123;
        }
    });
}
