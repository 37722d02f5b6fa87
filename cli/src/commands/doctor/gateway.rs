//! The gateway: the agents' door, the coordinator's, and whether it holds a real key.

use protocol::{
    client::{AdminClient, ClientError, Endpoint, knock},
    keys::GatewayHealth,
    settings::KeySource,
};

use super::check::Check;
use crate::context::Context;

const START: &str = "start it: code-workers up, or systemctl --user start code-workers-gateway";

pub(super) async fn look(context: &Context) -> Vec<Check> {
    match &context.keys {
        KeySource::Builtin => ours(context).await.into(),
        KeySource::Bifrost(bifrost) => {
            vec![another(
                &bifrost.address.to_string(),
                knock(Endpoint::Http(format!("http://{}", bifrost.address))).await,
            )]
        }
        KeySource::Env => {
            vec![Check::ok("gateway", "another's: key_source is \"env\", and workers bring their own keys")]
        }
    }
}

fn another(address: &str, knocked: Result<u16, ClientError>) -> Check {
    match knocked {
        Ok(_) => Check::ok("gateway", format!("something answers at {address}, where Bifrost is to be")),
        Err(error) => {
            Check::failed("gateway", error.to_string(), "start Bifrost, or name its address in bifrost.url")
        }
    }
}

async fn ours(context: &Context) -> [Check; 2] {
    let door = knock(Endpoint::Unix(context.folders.gateway_socket())).await;
    let admin = Endpoint::Unix(context.folders.gateway_admin_socket());
    let health = async { AdminClient::new(admin)?.health().await }.await;
    [agents_door(door), keys(health)]
}

fn agents_door(knocked: Result<u16, ClientError>) -> Check {
    const NAME: &str = "gateway";
    match knocked {
        Ok(200) => Check::ok(NAME, "answers at its door for agents"),
        Ok(status) => Check::failed(
            NAME,
            format!("something that is not the gateway answers at gateway.sock, with {status}"),
            "end what listens there, and start the gateway again",
        ),
        Err(error) => Check::failed(NAME, error.to_string(), START),
    }
}

fn keys(health: Result<GatewayHealth, ClientError>) -> Check {
    const NAME: &str = "real keys";
    let health = match health {
        Ok(health) => health,
        Err(error) => return Check::failed(NAME, format!("the gateway's admin door: {error}"), START),
    };
    let usable: Vec<String> = (health.upstreams.iter().filter(|upstream| upstream.usable))
        .map(|upstream| format!("{} ({})", upstream.provider, upstream.base_url))
        .collect();
    if !usable.is_empty() {
        return Check::ok(NAME, format!("the gateway can call {}", usable.join(" and ")));
    }
    let variables: Vec<&str> =
        health.upstreams.iter().map(|upstream| upstream.key_variable.as_str()).collect();
    Check::failed(
        NAME,
        "the gateway has no real key for any provider",
        format!("set {} where the gateway is started, and start it again", variables.join(" or ")),
    )
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, keys};
    use protocol::keys::{GatewayHealth, UpstreamHealth};

    #[test]
    fn one_real_key_is_enough_and_none_is_told_with_its_variables() {
        let upstream = |provider: &str, usable| UpstreamHealth {
            provider: provider.to_owned(),
            base_url: "https://api".to_owned(),
            usable,
            key_variable: format!("{}_KEY", provider.to_uppercase()),
        };
        let health = |one, other| GatewayHealth {
            status: "ok".to_owned(),
            requests_under_way: 0,
            upstreams: vec![upstream("a", one), upstream("b", other)],
        };
        assert_eq!(keys(Ok(health(false, true))).status, Status::Ok);
        let none = keys(Ok(health(false, false)));
        assert_eq!(none.status, Status::Failed);
        assert!(none.remedy.unwrap().contains("A_KEY or B_KEY"));
    }
}
