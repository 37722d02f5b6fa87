use std::hash::RandomState;

use bytes::Bytes;

use super::{BadBody, Request};
use crate::provider::Api;

fn rewritten(api: Api, sent: &str) -> String {
    let sent = Bytes::copy_from_slice(sent.as_bytes());
    let body = Request::read(api, &sent, &RandomState::new()).unwrap().unbounded().unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn a_body_that_needs_no_change_passes_as_it_is() {
    let sent = r#"{ "model":"m", "max_tokens" : 5, "tools":[{"name":"Bash","input_schema":{"z":1,"a":2}}] }"#;
    assert_eq!(rewritten(Api::Messages, sent), sent);
    let sent = Bytes::from_static(sent.as_bytes());
    assert_eq!(Request::read(Api::Messages, &sent, &RandomState::new()).unwrap().bounded(5).unwrap(), sent);
    let lowered = Request::read(Api::Messages, &sent, &RandomState::new()).unwrap().bounded(4).unwrap();
    assert!(std::str::from_utf8(&lowered).unwrap().contains(r#""max_tokens":4"#));
}

#[test]
fn the_bound_of_the_output_is_set_where_it_is_absent() {
    let bounded = |api, sent: &'static str| {
        let sent = Bytes::from_static(sent.as_bytes());
        let body = Request::read(api, &sent, &RandomState::new()).unwrap().bounded(9).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert_eq!(
        bounded(Api::Responses, r#"{"model":"m"}"#),
        r#"{"model":"m","store":false,"max_output_tokens":9}"#
    );
    assert_eq!(bounded(Api::Chat, r#"{"model":"m"}"#), r#"{"model":"m","max_completion_tokens":9}"#);
    assert_eq!(bounded(Api::Chat, r#"{"model":"m","max_tokens":10}"#), r#"{"model":"m","max_tokens":9}"#);
}

#[test]
fn server_side_tools_go_and_the_choice_is_mended() {
    let nested = r#"{"model":"m","tools":[{"type":"web_search_20250305","name":"web_search"}],"tool_choice":{"type":"tool","name":"web_search"}}"#;
    assert_eq!(rewritten(Api::Messages, nested), r#"{"model":"m"}"#);
    let mixed = r#"{"model":"m","tools":[{"type":"mcp_toolset"},{"name":"Bash"}],"tool_choice":{"type":"tool","name":"x"}}"#;
    assert_eq!(
        rewritten(Api::Messages, mixed),
        r#"{"model":"m","tools":[{"name":"Bash"}],"tool_choice":{"type":"auto"}}"#
    );
    let kept = r#"{"model":"m","tools":[{"type":"bash_20250124","name":"bash"},{"name":"Bash"}]}"#;
    assert_eq!(rewritten(Api::Messages, kept), kept);
    let codex = r#"{"model":"m","tools":[{"type":"web_search","external_web_access":true},{"type":"function","name":"shell"},{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"},{"type":"mcp"}]}],"tool_choice":{"type":"web_search"}}"#;
    assert_eq!(
        rewritten(Api::Responses, codex),
        r#"{"model":"m","tools":[{"type":"function","name":"shell"},{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"}]}],"tool_choice":"auto","store":false}"#
    );
}

#[test]
fn fields_that_do_not_pass() {
    let read = |api, sent: &'static str| {
        Request::read(api, &Bytes::from_static(sent.as_bytes()), &RandomState::new()).err()
    };
    assert_eq!(
        read(Api::Messages, r#"{"model":"m","mcp_servers":[{"url":"http://x"}]}"#),
        Some(BadBody::Forbidden("mcp_servers"))
    );
    assert_eq!(read(Api::Messages, r#"{"model":"m","mcp_servers":[]}"#), None);
    assert_eq!(
        read(Api::Responses, r#"{"model":"m","previous_response_id":"r"}"#),
        Some(BadBody::Forbidden("previous_response_id"))
    );
    assert_eq!(read(Api::Responses, r#"{"model":"m","background":false}"#), None);
    assert_eq!(read(Api::Chat, r#"{"model":"m","n":3}"#), Some(BadBody::Forbidden("n")));
    assert!(matches!(read(Api::Chat, r#"{"model":7}"#), Some(BadBody::Malformed(_))));
    let twice = r#"{"model":"m","tools":[{"type":"custom","type":"web_search_20250305"}]}"#;
    assert!(matches!(read(Api::Messages, twice), Some(BadBody::Malformed(_))));
    assert_eq!(rewritten(Api::Messages, r#"{"model":"m","speed":"fast"}"#), r#"{"model":"m"}"#);
    assert_eq!(rewritten(Api::Chat, r#"{"model":"m","new_thing":0}"#), r#"{"model":"m"}"#);
    assert_eq!(
        rewritten(Api::Messages, r#"{"model":"m","input":"x","background":null}"#),
        r#"{"model":"m"}"#
    );
    let stored = r#"{"model":"m","store":true}"#;
    for api in [Api::Chat, Api::Responses] {
        assert_eq!(rewritten(api, stored), r#"{"model":"m","store":false}"#);
    }
    let edits =
        |kind: &str| format!(r#"{{"model":"m","context_management":{{"edits":[{{"type":"{kind}"}}]}}}}"#);
    assert_eq!(rewritten(Api::Messages, &edits("clear_thinking_20251015")), edits("clear_thinking_20251015"));
    assert_eq!(rewritten(Api::Messages, &edits("compact_20260112")), r#"{"model":"m"}"#);
}

/// The lines of the table in `docs/security.md` that these rules are.
fn told() -> Vec<String> {
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    for (name, api) in [("Messages", Api::Messages), ("Chat", Api::Chat), ("Responses", Api::Responses)] {
        let fields = super::rules::fields(api);
        lines.push(format!("| {name} | fields that pass | {} |", list(fields.pass)));
        lines.push(format!(
            "| {name} | fields taken out | {}; any that is not named here |",
            list(fields.remove)
        ));
        lines.push(format!("| {name} | fields refused | {} |", list(fields.refuse)));
        lines.push(format!(
            "| {name} | types of tools that pass | {} |",
            list(super::rules::client_side_tools(api))
        ));
    }
    lines.push(format!("| Messages | `anthropic-beta` taken out | {} |", list(super::rules::CLOSED_BETAS)));
    lines
}

#[test]
fn the_document_names_every_rule() {
    let document = include_str!("../../../docs/security.md");
    let table = ["| Messages |", "| Chat |", "| Responses |"];
    let written: Vec<&str> =
        document.lines().filter(|line| table.iter().any(|start| line.starts_with(start))).collect();
    assert_eq!(written.join("\n"), told().join("\n"), "left is docs/security.md, right is the code");
}

#[test]
fn blocks_that_carry_what_is_closed_do_not_pass() {
    let refused = |api, element: &str| {
        let field = if api == Api::Responses { "input" } else { "messages" };
        let sent = Bytes::from(format!(r#"{{"model":"m","{field}":[{element}]}}"#));
        Request::read(api, &sent, &RandomState::new()).is_err()
    };
    for (api, element) in [
        (
            Api::Responses,
            r#"{"type":"tool_search_output","tools":[{"type":"function","name":"a"},{"type":"mcp"}]}"#,
        ),
        (
            Api::Responses,
            r#"{"type":"tool_search_output","tools":[{"type":"namespace","tools":[{"type":"web_search"}]}]}"#,
        ),
        (Api::Responses, r#"{"type":"mcp_approval_response","approve":true}"#),
        (Api::Responses, r#"{"type":"shell_call","environment":{},"container_id":"c"}"#),
        (Api::Chat, r#"{"role":"assistant","audio":{"id":"stored"}}"#),
        (Api::Chat, r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA=="}}]}"#),
        (
            Api::Chat,
            r#"{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://x/?secret"}}]}"#,
        ),
        (
            Api::Messages,
            r#"{"role":"user","content":[{"type":"document","source":{"type":"text","data":"a. b."},"citations":{"enabled":true}}]}"#,
        ),
    ] {
        assert!(refused(api, element), "{element}");
    }
    for (api, element) in [
        (Api::Responses, r#"{"type":"tool_search_output","tools":[{"type":"function","name":"a"}]}"#),
        (Api::Chat, r#"{"role":"assistant","audio":null}"#),
        (Api::Messages, r#"{"role":"user","content":[{"type":"text","text":"a","citations":null}]}"#),
        (
            Api::Messages,
            r#"{"role":"user","content":[{"type":"document","source":{"type":"text","data":"a"},"citations":{"enabled": false}}]}"#,
        ),
    ] {
        assert!(!refused(api, element), "{element}");
    }
}

#[test]
fn usage_is_asked_for_where_a_chat_client_did_not() {
    let sent = Bytes::from_static(br#"{"model":"m","stream":true}"#);
    assert!(Request::read(Api::Chat, &sent, &RandomState::new()).unwrap().usage_is_ours);
    assert_eq!(
        rewritten(Api::Chat, r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#),
        r#"{"model":"m","stream":true,"stream_options":{"x":1,"include_usage":true}}"#
    );
    let asked = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(rewritten(Api::Chat, asked), asked);
}

#[test]
fn the_dearer_cache_is_reserved_for_where_it_may_be_asked_for() {
    let price = crate::prices::ModelPrice::flat(crate::prices::Rates {
        input: 100,
        cache_write_5m: 125,
        cache_write_1h: 200,
        cache_read: 10,
        output: 500,
    });
    let dearest = |sent: &'static str| {
        let sent = Bytes::from_static(sent.as_bytes());
        Request::read(Api::Messages, &sent, &RandomState::new()).unwrap().ask(&price, 0).rates.dearest_input()
    };
    assert_eq!(dearest(r#"{"model":"m","cache_control":{"type":"ephemeral"}}"#), 125);
    assert_eq!(dearest(r#"{"model":"m","cache_control":{"type":"ephemeral","ttl":"1h"}}"#), 200);
    assert_eq!(dearest(r#"{"model":"m","cache_control":{"type":"ephemeral","ttl":"1\u0068"}}"#), 200);
}

#[test]
fn thinking_is_lowered_with_the_output_that_it_must_fit_into() {
    let sent = r#"{"model":"m","max_tokens":32000,"thinking":{"type":"enabled","budget_tokens":31999}}"#;
    let sent = Bytes::from_static(sent.as_bytes());
    let bounded = |output| {
        let body = Request::read(Api::Messages, &sent, &RandomState::new()).unwrap().bounded(output).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert_eq!(bounded(32_000).as_bytes(), sent);
    assert_eq!(
        bounded(2_000),
        r#"{"model":"m","max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1744}}"#
    );
}

#[test]
fn blocks_that_are_fetched_stored_or_of_unknown_cost_do_not_pass() {
    let read = |api, sent: &str| {
        let sent = Bytes::copy_from_slice(sent.as_bytes());
        Request::read(api, &sent, &RandomState::new())
            .map(|request| request.outline.worst(1) - request.outline.worst(0))
    };
    let anthropic = |block: &str| {
        let plain = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}]}}"#);
        let block = format!(r#"{{"type":"tool_result","tool_use_id":"t","content":[{block}]}}"#);
        let nested = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}]}}"#);
        let plain = read(Api::Messages, &plain);
        assert_eq!(plain, read(Api::Messages, &nested));
        plain
    };
    let source = |kind: &str, source: &str| anthropic(&format!(r#"{{"type":"{kind}","source":{source}}}"#));
    let image = r#"{"type":"base64","media_type":"image/png","data":"AA=="}"#;
    assert_eq!(source("image", image), Ok(1));
    assert_eq!(source("document", r#"{"type":"text","media_type":"text/plain","data":"url"}"#), Ok(0));
    let content = format!(r#"{{"type":"content","content":[{{"type":"image","source":{image}}}]}}"#);
    assert_eq!(source("document", &content), Ok(1));
    for (kind, refused) in [
        ("image", r#"{"type":"url","url":"https://x/?secret"}"#),
        ("image", r#"{"type":"u\u0072l","url":"https://x/?secret"}"#),
        ("image", r#"{"type":"file","file_id":"f"}"#),
        ("document", r#"{"type":"url","url":"https://x/?secret"}"#),
        ("document", r#"{"type":"base64","media_type":"application/pdf","data":"AA=="}"#),
        (
            "document",
            r#"{"type":"content","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}"#,
        ),
    ] {
        assert!(matches!(source(kind, refused), Err(BadBody::Forbidden(_))), "{refused}");
    }
    assert_eq!(anthropic(r#"{"type":"container_upload","file_id":"f"}"#), Err(BadBody::Forbidden("file_id")));
    let tools = r#"{"type":"tool_use","id":"t","name":"n","input":{"file_id":"f","source":{"type":"url"}}}"#;
    assert_eq!(anthropic(tools), Ok(0));

    let chat = |part: &str| {
        read(Api::Chat, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#))
    };
    assert_eq!(chat(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}"#), Ok(1));
    assert!(chat(r#"{"type":"image_url","image_url":{"url":"https://x/?secret"}}"#).is_err());
    assert_eq!(chat(r#"{"type":"file","file":{"file_id":"f"}}"#), Err(BadBody::Forbidden("file_id")));

    let input = |item: &str| read(Api::Responses, &format!(r#"{{"model":"m","input":[{item}]}}"#));
    let part = |part: &str| input(&format!(r#"{{"role":"user","content":[{part}]}}"#));
    assert_eq!(part(r#"{"type":"input_image","image_url":"data:image/png;base64,AA=="}"#), Ok(1));
    assert!(part(r#"{"type":"input_image","image_url":"https://x/?secret"}"#).is_err());
    assert_eq!(part(r#"{"type":"input_image","file_id":"f"}"#), Err(BadBody::Forbidden("file_id")));
    assert_eq!(part(r#"{"type":"input_file","file_url":"https://x"}"#), Err(BadBody::Forbidden("file_url")));
    let output = r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"https://x"}]}"#;
    assert!(input(output).is_err());
    for reference in [r#"{"type":"item_reference","id":"i"}"#, r#"{"id":"i"}"#] {
        assert_eq!(input(reference), Err(BadBody::Forbidden("item_reference")));
    }
    assert_eq!(input(r#"{"type":"function_call","call_id":"c","name":"n","arguments":"{}"}"#), Ok(0));
    assert_eq!(read(Api::Responses, r#"{"model":"m","input":"file_id"}"#), Ok(0));
}

#[test]
fn an_images_tokens_are_reserved_for_beside_its_bytes() {
    let sent = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":""}}]}]}"#;
    let sent = Bytes::from_static(sent);
    let bound = Request::read(Api::Messages, &sent, &RandomState::new())
        .unwrap()
        .outline
        .worst(super::IMAGE_TOKENS_ANTHROPIC);
    assert_eq!(bound, crate::counted::INPUT_OVERHEAD + sent.len() as u64 + super::IMAGE_TOKENS_ANTHROPIC);
}
