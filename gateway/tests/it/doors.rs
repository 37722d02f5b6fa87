//! Who is let in, and where to.

use jiff::{SignedDuration, Timestamp};
use protocol::keys::{BudgetScope, KeyLimits, KeyState, MintKey, MintOwnerKey, SetBudget};
use serde_json::{Value, json};

use crate::house::{House, REAL_KEY, RecordedModel, key_for, question};

const TURNS: &str = "[[turn]]\ntext = 'Hello.'\nusage = { input = 10, output = 10 }";

#[tokio::test]
async fn a_key_opens_the_door_until_it_is_revoked_or_expires() {
    let model = RecordedModel::start(TURNS).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let refused = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };

    let bare = gateway.client.post("http://gateway/v1/messages").json(&question(9, false));
    let (status, body) = refused(bare).await;
    assert_eq!((status, &body["error"]["type"]), (401, &json!("authentication_error")));
    let (status, body) = refused(gateway.post("/v1/messages", "sk-cw-00", &question(9, false))).await;
    assert_eq!((status, &body["type"]), (403, &json!("error")));
    assert!(body["error"]["message"].as_str().unwrap().starts_with("wrong_key: "), "{body}");
    let (status, _) = refused(gateway.post("/v1/messages", REAL_KEY, &question(9, false))).await;
    assert_eq!(status, 403);

    let key = gateway.mint("t", "1.00").await;
    assert_eq!(key, gateway.mint("t", "1.00").await);
    assert_eq!(gateway.ask(&key, 9, false).await.status(), 200);
    let tcp = format!("{}/v1/messages", gateway.tcp);
    let over_tcp = reqwest::Client::new().post(tcp).bearer_auth(&key).json(&question(9, false));
    assert_eq!(over_tcp.send().await.unwrap().status(), 200);

    let usage = gateway.admin.revoke(&"t".parse().unwrap(), 1).await.unwrap();
    assert_eq!(usage.requests, 2);
    let (status, body) = refused(gateway.post("/v1/responses", &key, &json!({"model": "gpt-5.1"}))).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("key_revoked")));
    gateway.mint("t", "1.00").await;
    assert_eq!(gateway.ask(&key, 9, false).await.status(), 403);
    let second = MintKey { attempt: 2, ..key_for("t", "1.00") };
    let second = gateway.admin.mint(&second).await.unwrap().key;
    assert_eq!(gateway.ask(second.expose(), 9, false).await.status(), 200);

    let expired =
        MintKey { expires_at: Timestamp::now() - SignedDuration::from_secs(1), ..key_for("u", "1.00") };
    let expired = gateway.admin.mint(&expired).await.unwrap().key;
    let (status, body) = refused(gateway.post("/v1/messages", expired.expose(), &question(9, false))).await;
    assert_eq!(status, 403);
    assert!(body["error"]["message"].as_str().unwrap().starts_with("key_revoked: "), "{body}");
}

#[tokio::test]
async fn only_the_routes_that_lead_to_a_model_are_there() {
    let model = RecordedModel::start(TURNS).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    for path in [
        "/v1/embeddings",
        "/v1/files",
        "/v1/messages/batches",
        "/openai/v1/messages",
        "/v1/messages/",
        "/keys",
    ] {
        let answer = gateway.post(path, &key, &question(9, false)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
    assert_eq!(gateway.get("/v1/messages", &key).send().await.unwrap().status(), 404);
    assert_eq!(gateway.client.head("http://gateway/").send().await.unwrap().status(), 200);
    let models: Value = gateway.get("/v1/models", &key).send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "recorded");
    let count = gateway.post("/v1/messages/count_tokens", &key, &json!({"model": "m", "messages": []}));
    assert_eq!(count.send().await.unwrap().json::<Value>().await.unwrap()["input_tokens"], 10);
    let balance: Value = gateway.get("/v1/key", &key).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&balance["account"], &balance["budget_usd"], &balance["spent_usd"]),
        (&json!("task:t"), &json!("1.00"), &json!("0.00"))
    );
}

#[tokio::test]
async fn what_cannot_be_sent_on_is_refused_with_the_remedy() {
    let model = RecordedModel::start(TURNS).await;
    let mut house = House::before(&model.url);
    house.config = "[price.'qwen-at-home']\ninput_usd = 1\noutput_usd = 2".to_owned();
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let ask = async |body: &Value| {
        let answer = gateway.post("/v1/chat/completions", &key, body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = ask(&json!({"model": "llama-at-home", "messages": []})).await;
    assert_eq!(status, 400);
    assert!(text.contains("unknown_model") && text.contains("input_usd"), "{text}");
    assert_eq!(ask(&json!({"model": "qwen-at-home", "messages": []})).await.0, 200);
    assert_eq!(gateway.spent("t").await, "0.00003");
    assert_eq!(ask(&json!([1])).await.0, 400);
    let large = "x".repeat(33 * 1024 * 1024);
    let (status, text) = ask(&json!({"model": "qwen-at-home", "messages": [large]})).await;
    assert_eq!(status, 413, "{text}");
}

#[tokio::test]
async fn without_a_real_key_the_answer_names_the_variable() {
    let mut house = House::before("https://model.invalid");
    house.config = "upstream.anthropic.api_key_env = 'MY_ANTHROPIC_KEY'".to_owned();
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let answer = gateway.ask(&key, 9, false).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("MY_ANTHROPIC_KEY"));
    let answer = gateway.post("/v1/responses", &key, &json!({"model": "gpt-5.1"})).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("upstream_unreachable"));
    assert_eq!(gateway.settled(&key).await, "0.00");
}

#[tokio::test]
async fn a_keys_limits_are_429_with_a_time_and_403() {
    let model = RecordedModel::start("[[turn]]\ntext = 'x'").await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let limits = KeyLimits {
        requests_per_minute: Some(1),
        models: vec!["claude-*".to_owned()],
        ..KeyLimits::default()
    };
    let key = gateway.admin.mint(&MintKey { limits, ..key_for("t", "1.00") }).await.unwrap().key;
    let other = json!({"model": "gpt-5.1", "messages": []});
    let refused = gateway.post("/v1/chat/completions", key.expose(), &other).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "model_not_allowed");
    assert_eq!(gateway.ask(key.expose(), 10, false).await.status(), 200);
    let refused = gateway.ask(key.expose(), 10, false).await;
    assert_eq!(refused.status(), 429);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((55..=61).contains(&after), "{after}");
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn the_owner_looks_after_keys_and_budgets_and_is_told_of_marks() {
    let model = RecordedModel::start("[[turn]]\ntext = 'x'\nusage = { input = 1000, output = 100 }").await;
    let house = House { config: "[budget]\nrepo_day_usd = '0.50'".to_owned(), ..House::before(&model.url) };
    let gateway = house.open().await;
    let own = MintOwnerKey {
        name: "mine".parse().unwrap(),
        budget_usd: "0.01".parse().unwrap(),
        queue: Some("q".parse().unwrap()),
        expires_at: Timestamp::now() + SignedDuration::from_hours(1),
        limits: KeyLimits::default(),
    };
    let key = gateway.admin.mint_owner(&own).await.unwrap().key;
    let waiting = gateway.admin.notices(0, 30);
    let asking = async { while gateway.ask(key.expose(), 100, false).await.status() == 200 {} };
    let (told, ()) = tokio::join!(waiting, asking);
    let told = told.unwrap();
    let notice = &told.notices[0];
    assert_eq!((notice.account.as_str(), notice.task.as_ref()), ("key:mine", None));
    assert_eq!(gateway.admin.notices(u64::MAX, 0).await.unwrap().notices, []);
    let info = gateway.admin.owner_key(&own.name).await.unwrap();
    assert_eq!((info.accounts[0].as_str(), info.spent_usd), ("key:mine", info.account_spent_usd));
    let budgets = gateway.admin.budgets().await.unwrap().budgets;
    let shown: Vec<_> = budgets.iter().map(|b| (b.account.as_str(), b.limit_usd, b.spent_usd)).collect();
    let half = "0.50".parse().ok();
    assert_eq!(
        shown,
        [
            ("day", None, info.spent_usd),
            ("repo:q", half, info.spent_usd),
            ("key:mine", Some(own.budget_usd), info.spent_usd)
        ]
    );
    let set = SetBudget { scope: BudgetScope::Task("nobody".parse().unwrap()), limit_usd: None };
    assert!(
        gateway.admin.set_budget(&set).await.unwrap_err().to_string().contains("no account of this task")
    );
    assert_eq!(gateway.admin.keys().await.unwrap().keys.len(), 1);
    assert_eq!(gateway.admin.revoke_owner(&own.name).await.unwrap().state, KeyState::Revoked);
    assert_eq!(gateway.ask(key.expose(), 10, false).await.status(), 403);
}
