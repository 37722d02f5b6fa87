//! Every price that is known.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{ModelPrice, clerk::Clerk};
use crate::provider::Provider;

/// The configuration's prices first, then the bundled table's.
#[derive(Debug)]
pub struct PriceList {
    own: BTreeMap<String, Arc<ModelPrice>>,
    /// Where each provider's API is.
    base_urls: HashMap<Provider, String>,
    clerk: Arc<Clerk>,
    /// Asked before, by provider and model.
    known: Mutex<HashMap<(Provider, String), Answer>>,
}

/// What the bundled table said, and when: prices change at midnight UTC.
type Answer = (Date, Option<Arc<ModelPrice>>);

/// Names kept in memory: an agent that asks for ever new models must not fill it.
const KNOWN_MODELS: usize = 1_000;

impl PriceList {
    /// A list with the configuration's own prices.
    #[must_use]
    pub fn new(own: BTreeMap<String, ModelPrice>, base_urls: HashMap<Provider, String>) -> Self {
        let own = own.into_iter().map(|(model, price)| (model, Arc::new(price))).collect();
        Self { own, base_urls, clerk: Arc::default(), known: Mutex::default() }
    }

    /// A model's price, or `None` where nobody has said one: such a model is refused, never free.
    ///
    /// # Errors
    /// When the table cannot be asked.
    pub async fn find(&self, provider: Provider, model: &str) -> std::io::Result<Option<Arc<ModelPrice>>> {
        if let Some(price) = self.own.get(model) {
            return Ok(Some(Arc::clone(price)));
        }
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let key = (provider, model.to_owned());
        if let Some((day, price)) = self.known().get(&key)
            && *day == today
        {
            return Ok(price.clone());
        }
        let base_url = self.base_urls.get(&provider).map_or("", String::as_str);
        let price = self.clerk.ask(provider, base_url, model).await?.map(Arc::new);
        let mut known = self.known();
        if known.len() >= KNOWN_MODELS {
            known.clear();
        }
        known.insert(key, (today, price.clone()));
        Ok(price)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(Provider, String), Answer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
