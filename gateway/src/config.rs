//! The gateway's configuration, understood whole before anything is opened.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use protocol::{
    Usd,
    folders::Folders,
    settings::{Faults, Key, Settings},
};

use crate::{
    ledger::DayLimits,
    prices::{ModelPrice, Rates},
    provider::Provider,
    upstream::Upstreams,
};

mod upstreams;

/// What the program is told.
#[derive(Debug)]
pub struct Config {
    /// Where agents find it over TCP. Loopback.
    pub bind: SocketAddr,
    /// The agents' socket.
    pub socket: PathBuf,
    /// The coordinator's socket.
    pub admin_socket: PathBuf,
    /// The folder of the sockets; 0700.
    pub run: PathBuf,
    /// The ledger's file.
    pub database: PathBuf,
    /// Anthropic's API.
    pub anthropic: Upstreams,
    /// OpenAI's API.
    pub openai: Upstreams,
    /// What a day may cost where the owner has set nothing.
    pub days: DayLimits,
    /// Prices that stand before the bundled ones, by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// Whether logs are JSON.
    pub log_json: bool,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn read(mut settings: Settings, folders: &Folders) -> Result<Self, Faults> {
        let bind = settings.gateway_bind();
        let log_json = settings.json_logs();
        let config = Self {
            bind,
            socket: folders.gateway_socket(),
            admin_socket: folders.gateway_admin_socket(),
            run: folders.run.clone(),
            database: folders.gateway_db(),
            anthropic: upstreams::read(&mut settings, Provider::Anthropic),
            openai: upstreams::read(&mut settings, Provider::OpenAi),
            days: DayLimits {
                day: settings.optional(&Key::DAY_BUDGET),
                repo: settings.optional(&Key::REPO_DAY_BUDGET),
            },
            prices: prices(&mut settings),
            log_json,
        };
        settings.finish(config)
    }
}

fn prices(settings: &mut Settings) -> BTreeMap<String, ModelPrice> {
    let tables = settings.table("price").cloned().unwrap_or_default();
    let mut prices = BTreeMap::new();
    for (model, table) in &tables {
        match table.as_table().ok_or_else(|| "a table is wanted here".to_owned()).and_then(price) {
            Ok(price) => {
                prices.insert(model.clone(), price);
            }
            Err(why) => settings.fault(format!("[price.{model:?}]: {why}")),
        }
    }
    prices
}

/// The rates of a model, in USD for a million tokens.
const RATES: [&str; 5] =
    ["input_usd", "output_usd", "cache_write_usd", "cache_write_1h_usd", "cache_read_usd"];

fn price(table: &toml::Table) -> Result<ModelPrice, String> {
    known(table, "tier")?;
    let input = rate(table, "input_usd")?.ok_or("input_usd is missing")?;
    let output = rate(table, "output_usd")?.ok_or("output_usd is missing")?;
    // A cache that is not priced costs what other input does.
    let plain = Rates { input, cache_write_5m: input, cache_write_1h: input, cache_read: input, output };
    let base = rates(table, plain)?;
    let tiers = match table.get("tier") {
        None => Vec::new(),
        Some(toml::Value::Array(tiers)) => {
            tiers.iter().map(|tier| tier_of(tier, base)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err("tier is not a list of tables: write [[price.\"MODEL\".tier]]".to_owned()),
    };
    Ok(ModelPrice::tiered(base, tiers))
}

/// The rates of longer inputs; what is not said is as for shorter ones.
fn tier_of(tier: &toml::Value, base: Rates) -> Result<(u64, Rates), String> {
    let table = tier.as_table().ok_or("a tier is not a table")?;
    known(table, "over_input_tokens")?;
    let over = table.get("over_input_tokens").and_then(toml::Value::as_integer);
    let over = over.and_then(|over| u64::try_from(over).ok());
    Ok((over.ok_or("a tier lacks over_input_tokens, a number of tokens")?, rates(table, base)?))
}

fn known(table: &toml::Table, beside: &str) -> Result<(), String> {
    match table.keys().find(|name| !RATES.contains(&name.as_str()) && *name != beside) {
        Some(unknown) => Err(format!("{unknown} is not one of {}, {beside}", RATES.join(", "))),
        None => Ok(()),
    }
}

/// What a table says, and of the rest what stands otherwise.
fn rates(table: &toml::Table, otherwise: Rates) -> Result<Rates, String> {
    let cache_write = rate(table, "cache_write_usd")?;
    Ok(Rates {
        input: rate(table, "input_usd")?.unwrap_or(otherwise.input),
        output: rate(table, "output_usd")?.unwrap_or(otherwise.output),
        cache_write_5m: cache_write.unwrap_or(otherwise.cache_write_5m),
        cache_write_1h: rate(table, "cache_write_1h_usd")?
            .or(cache_write)
            .unwrap_or(otherwise.cache_write_1h),
        cache_read: rate(table, "cache_read_usd")?.unwrap_or(otherwise.cache_read),
    })
}

/// Pico-dollars a token.
fn rate(table: &toml::Table, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = table.get(name) else { return Ok(None) };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(whole) => whole.to_string(),
        toml::Value::Float(number) => number.to_string(),
        _ => return Err(format!("{name} is not a number")),
    };
    let dollars: Usd = text.parse().map_err(|error| format!("{name}: {error}"))?;
    // Nano-dollars a million tokens are femto-dollars a token.
    Ok(Some(dollars.nanos().div_ceil(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Credential;
    use protocol::{Secret, settings::Sources};

    fn read(environment: &[(&str, &str)], file: &str) -> Result<Config, Faults> {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let folders =
            Folders::from_env(&[("HOME".to_owned(), "/h".to_owned())].into_iter().collect()).unwrap();
        let file = Some(("config.toml".into(), file.to_owned()));
        Config::read(Settings::new(Sources { environment, file, ..Sources::default() }), &folders)
    }

    #[test]
    fn a_base_url_with_and_without_its_end() {
        for said in ["http://127.0.0.1:9/x", "http://127.0.0.1:9/x/", "http://127.0.0.1:9/x/v1/"] {
            let config = read(&[("OPENAI_UPSTREAM_URL", said)], "").unwrap();
            assert_eq!(config.openai.first().base_url, "http://127.0.0.1:9/x");
            assert!(config.openai.first().is_usable());
            assert!(!config.anthropic.first().is_usable());
        }
    }

    #[test]
    fn the_variable_of_a_key_can_be_named() {
        let env = [("MY_KEY", "k"), ("ANTHROPIC_API_KEY", "other")];
        let config = read(&env, "upstream.anthropic.api_key_env = 'MY_KEY'").unwrap();
        assert_eq!(config.anthropic.first().credential, Some(Credential::ApiKey(Secret::new("k"))));
    }

    #[test]
    fn more_upstreams_and_keys_of_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-file\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = format!(
            "upstream.anthropic.api_key_file = {path:?}
             [[upstream.anthropic.more]]
             base_url = 'https://other.example/v1'
             api_key_env = 'OTHER'
             bearer = true
             [[upstream.anthropic.more]]
             api_key_file = {path:?}"
        );
        mode(0o600);
        let config = read(&[("OTHER", "sk-other"), ("ANTHROPIC_API_KEY", "not this")], &file).unwrap();
        let told: Vec<_> = config
            .anthropic
            .all()
            .map(|upstream| (upstream.base_url.as_str(), upstream.credential.clone().unwrap()))
            .collect();
        let of_file = Credential::ApiKey(Secret::new("sk-file"));
        let other = Credential::Bearer(Secret::new("sk-other"));
        let usual = "https://api.anthropic.com";
        assert_eq!(told, [(usual, of_file.clone()), ("https://other.example", other), (usual, of_file)]);
        let faults = read(&[], &file).unwrap_err().to_string();
        assert!(faults.contains("number 1: OTHER holds no key"), "{faults}");
        mode(0o640);
        let faults = read(&[("OTHER", "k")], &file).unwrap_err().to_string();
        assert!(faults.contains("chmod 600"), "{faults}");
        for wrong in ["api_key = 'k'", "base_url = 'x'", "base_url = 'https://x'", "bearer = 1"] {
            let faults = read(&[], &format!("[[upstream.openai.more]]\n{wrong}")).unwrap_err().to_string();
            assert!(faults.contains("[[upstream.openai.more]], number 1"), "{faults}");
        }
    }

    #[test]
    fn a_bearer_token_stands_where_there_is_no_key() {
        let token = ("ANTHROPIC_AUTH_TOKEN", "t");
        let credential =
            |environment: &[_]| read(environment, "").unwrap().anthropic.first().credential.clone();
        assert_eq!(credential(&[token]), Some(Credential::Bearer(Secret::new("t"))));
        let key = ("ANTHROPIC_API_KEY", "k");
        assert_eq!(credential(&[token, key]), Some(Credential::ApiKey(Secret::new("k"))));
    }

    #[test]
    fn prices_of_the_configuration() {
        let config =
            read(&[], "[price.'qwen-3']\ninput_usd = '0.5'\noutput_usd = 2\ncache_read_usd = 0.05").unwrap();
        let rates = *config.prices["qwen-3"].at(1);
        assert_eq!(
            (rates.input, rates.output, rates.cache_read, rates.cache_write_1h),
            (500_000, 2_000_000, 50_000, 500_000)
        );
    }

    #[test]
    fn prices_of_caches_and_of_long_inputs() {
        let file = r#"
            [price."m"]
            input_usd = "3"
            output_usd = "15"
            cache_write_usd = "3.75"
            cache_write_1h_usd = "6"
            cache_read_usd = "0.3"
            [[price."m".tier]]
            over_input_tokens = 400000
            input_usd = "1"
            [[price."m".tier]]
            over_input_tokens = 200000
            input_usd = "6"
            output_usd = "22.5"
        "#;
        let price = read(&[], file).unwrap().prices["m"].clone();
        let short = *price.at(200_000);
        assert_eq!(
            (short.cache_write_5m, short.cache_write_1h, short.cache_read),
            (3_750_000, 6_000_000, 300_000)
        );
        let long = Rates { input: 6_000_000, output: 22_500_000, ..short };
        assert_eq!(*price.at(200_001), long);
        assert_eq!(*price.at(400_001), Rates { input: 1_000_000, ..short });
        // A request that may come to any of them is reserved for by the dearest.
        assert_eq!(price.dearest_up_to(500_000), long);
        for wrong in ["tier = 3", "tier = [{ input_usd = 1 }]", "tier = [{ over_input_tokens = 1, x = 2 }]"] {
            assert!(
                read(&[], &format!("[price.m]\ninput_usd = 1\noutput_usd = 1\n{wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let env = [
            ("GATEWAY_BIND", "0.0.0.0:4000"),
            ("ANTHROPIC_UPSTREAM_URL", "ftp://x"),
            ("OPENAI_API_KEY", "se cret"),
        ];
        let file = "[price.'a']\noutput_usd = '1'\n[price.'b']\ninput_usd = -1\noutput_usd = 1\n[price.'c']\ninput = 1";
        let told = read(&env, file).unwrap_err().to_string();
        for fault in
            ["0.0.0.0", "ftp://x", "OPENAI_API_KEY", "input_usd is missing", "\"b\"", "input is not one of"]
        {
            assert!(told.contains(fault), "{fault} in {told}");
        }
        assert!(!told.contains("se cret"));
    }
}
