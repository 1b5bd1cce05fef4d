//! The runner of the conformance suite: JSON lines in, JSON lines out.

mod batches;
mod chats;
mod clients;
mod events;
mod hosts;

use serde_json::{Value, json};
use sidecall::BoxError;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

use crate::{chats::Cancel, hosts::Hosts};

const LOCK: &str = include_str!("../../Cargo.lock");

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut lines = BufReader::new(stdin()).lines();
    let cancel = Cancel::default();
    let mut hosts = Hosts::default();
    while let Some(line) = lines.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        if request["kind"] == "cancel" {
            continue; // No run is in hand.
        }
        let mut answer = {
            let answering = answer(&request, &cancel, &mut hosts);
            let mut answering = std::pin::pin!(answering);
            loop {
                tokio::select! {
                    answer = &mut answering => break answer,
                    line = lines.next_line() => match line? {
                        Some(line) if serde_json::from_str::<Value>(&line)?["kind"] == "cancel" => {
                            cancel.now();
                        }
                        Some(line) => return Err(format!("not awaited: {line}").into()),
                        None => return Ok(()),
                    },
                }
            }
            .unwrap_or_else(|error| json!({"broken": error.to_string()}))
        };
        answer["id"] = request["id"].clone();
        println!("{answer}");
    }
    hosts.stop().await?;
    Ok(())
}

async fn answer(request: &Value, cancel: &Cancel, hosts: &mut Hosts) -> Result<Value, BoxError> {
    match request["kind"].as_str().unwrap_or_default() {
        "hello" => Ok(json!({
            "language": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "library": library(),
            "protocol": request["protocol"],
        })),
        "chat" => chats::run(request, cancel).await,
        "batch" => batches::run(request).await,
        "host" => hosts.run(request).await,
        kind => Ok(json!({"unsupported": format!("there is no kind {kind:?}")})),
    }
}

/// The provider's library with its version.
fn library() -> String {
    let version = LOCK
        .split_once("name = \"async-openai\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next());
    format!("async-openai {}", version.unwrap_or_default())
}
