//! Keys and accounts in the words of `keys` and `budget`.

use protocol::{
    Usd,
    keys::{BudgetInfo, KeyInfo, KeyState},
};

use crate::queue_lines::columns;

const fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
        KeyState::Spent => "spent",
    }
}

fn or_none(limit: Option<Usd>) -> String {
    limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())
}

/// How much of a limit is gone, held money included; more than it where an answer cost more than was held.
fn percent(limit: Option<Usd>, spent: Usd, held: Usd) -> String {
    let Some(limit) = limit else { return "-".to_owned() };
    let gone = u128::from(spent.saturating_add(held).nanos()) * 100;
    match u128::from(limit.nanos()) {
        0 => "100 %".to_owned(),
        limit => format!("{} %", gone / limit),
    }
}

/// A head and a line for each.
pub(crate) fn key_table(keys: &[KeyInfo]) -> String {
    let head = ["KEY", "STATE", "BUDGET", "SPENT", "HELD", "REQUESTS", "ENDS"].map(str::to_owned).to_vec();
    let row = |key: &KeyInfo| {
        vec![
            key.id.clone(),
            state(key.state).to_owned(),
            or_none(key.budget_usd),
            key.spent_usd.to_string(),
            key.held_usd.to_string(),
            key.requests.to_string(),
            key.expires_at.strftime("%FT%TZ").to_string(),
        ]
    };
    columns(&std::iter::once(head).chain(keys.iter().map(row)).collect::<Vec<_>>(), 2)
}

/// A line for each thing that is known of a key.
pub(crate) fn key_lines(key: &KeyInfo) -> String {
    let limits = &key.limits;
    let number = |name: &str, limit: Option<u64>| limit.map(|limit| format!("{limit} {name}"));
    let models = (!limits.models.is_empty()).then(|| format!("models {}", limits.models.join(" ")));
    let limits: Vec<_> = [
        number("requests a minute", limits.requests_per_minute.map(u64::from)),
        number("tokens a minute", limits.tokens_per_minute),
        number("requests at once", limits.concurrent.map(u64::from)),
        models,
    ]
    .into_iter()
    .flatten()
    .collect();
    let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
    [
        ("key", key.id.clone()),
        ("state", state(key.state).to_owned()),
        ("accounts", key.accounts.join(" → ")),
        ("budget", or_none(key.budget_usd)),
        ("spent", format!("{} by it, {} of its first account", key.spent_usd, key.account_spent_usd)),
        ("held", key.held_usd.to_string()),
        ("requests", key.requests.to_string()),
        ("ends", key.expires_at.strftime("%FT%TZ").to_string()),
        ("limits", limits),
    ]
    .map(|(name, value)| format!("{name}: {value}"))
    .join("\n")
}

/// A head and a line for each account. No limit is `-`.
pub(crate) fn budget_table(accounts: &[BudgetInfo]) -> String {
    let head = ["ACCOUNT", "DAY", "LIMIT", "SPENT", "HELD", "GONE"].map(str::to_owned).to_vec();
    let row = |account: &BudgetInfo| {
        vec![
            account.account.clone(),
            account.day.map_or_else(|| "-".to_owned(), |day| day.to_string()),
            or_none(account.limit_usd),
            account.spent_usd.to_string(),
            account.held_usd.to_string(),
            percent(account.limit_usd, account.spent_usd, account.held_usd),
        ]
    };
    columns(&std::iter::once(head).chain(accounts.iter().map(row)).collect::<Vec<_>>(), 2)
}

/// One account in a sentence.
pub(crate) fn sentence(account: &BudgetInfo) -> String {
    let day = if account.day.is_some() { " a day (UTC)" } else { "" };
    let limit = match account.limit_usd {
        Some(limit) => format!("may spend {limit} USD{day}"),
        None => "has no limit".to_owned(),
    };
    format!("{} {limit}; {} are spent and {} held", account.account, account.spent_usd, account.held_usd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use protocol::keys::KeyLimits;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn accounts_are_told_in_a_table_and_in_a_sentence() {
        let account = |name: &str, day: Option<&str>, limit: Option<&str>| BudgetInfo {
            account: name.to_owned(),
            day: day.map(|day| day.parse().unwrap()),
            limit_usd: limit.map(usd),
            spent_usd: usd("3.90"),
            held_usd: usd("0.10"),
        };
        let accounts = [account("day", Some("2030-01-31"), None), account("task:t", None, Some("5"))];
        let wanted = "\
            ACCOUNT  DAY         LIMIT  SPENT  HELD  GONE\n\
            day      2030-01-31      -   3.90  0.10     -\n\
            task:t   -            5.00   3.90  0.10  80 %";
        assert_eq!(budget_table(&accounts), wanted);
        assert_eq!(sentence(&accounts[0]), "day has no limit; 3.90 are spent and 0.10 held");
        assert_eq!(sentence(&accounts[1]), "task:t may spend 5.00 USD; 3.90 are spent and 0.10 held");
        let day = account("day", Some("2030-01-31"), Some("5"));
        assert_eq!(sentence(&day), "day may spend 5.00 USD a day (UTC); 3.90 are spent and 0.10 held");
        assert_eq!(percent(Some(Usd::ZERO), Usd::ZERO, Usd::ZERO), "100 %");
    }

    #[test]
    fn a_key_is_told_with_all_its_limits() {
        let key = KeyInfo {
            id: "mine".to_owned(),
            accounts: vec!["key:mine".to_owned(), "day".to_owned()],
            budget_usd: Some(usd("2")),
            account_spent_usd: usd("0.5"),
            spent_usd: usd("0.5"),
            held_usd: Usd::ZERO,
            requests: 3,
            expires_at: Timestamp::UNIX_EPOCH,
            state: KeyState::Expired,
            limits: KeyLimits {
                concurrent: Some(2),
                models: vec!["claude-*".to_owned()],
                ..KeyLimits::default()
            },
        };
        let lines = key_lines(&key);
        for line in
            ["accounts: key:mine → day", "state: expired", "limits: 2 requests at once, models claude-*"]
        {
            assert!(lines.lines().any(|said| said == line), "{line} in {lines}");
        }
        let wanted = "\
            KEY   STATE    BUDGET  SPENT  HELD  REQUESTS                  ENDS\n\
            mine  expired    2.00   0.50  0.00         3  1970-01-01T00:00:00Z";
        assert_eq!(key_table(&[key]), wanted);
    }
}
